package trace

import (
	"io"
	"strings"
)

// Node is a host of the openb trace.
type Node struct {
	Name string
	// CPUMilli is in thousandths of a CPU.
	CPUMilli, MemoryMiB int64
	// GPUs are all of one model.
	GPUs  int
	Model string
}

// Pod is an ask of the openb trace.
type Pod struct {
	Name                string
	CPUMilli, MemoryMiB int64
	// GPUs is how many; each of them gives GPUMilli thousandths, fewer than all only
	// where it is one.
	GPUs     int
	GPUMilli int
	// Models are those that will do; none: any.
	Models []string
}

// Demand is the thousandths of GPUs that the pod asks for in all.
func (p *Pod) Demand() int64 { return int64(p.GPUs) * int64(p.GPUMilli) }

// Bounds of what a record may say: far beyond any machine, and small enough that no sum
// over a trace overflows.
const (
	mostCPU    = 16_384_000 // milli
	mostMemory = 1 << 32    // MiB
	mostGPUs   = 64         // of one node or pod
	wholeGPU   = 1000       // thousandths
	mostPods   = 10_000_000 // lines
)

// ReadNodes reads the nodes of the openb trace: sn, cpu_milli, memory_mib, gpu, model.
func ReadNodes(r io.Reader) ([]Node, error) {
	t, err := NewTable(r, "sn", "cpu_milli", "memory_mib", "gpu", "model")
	if err != nil {
		return nil, err
	}
	var nodes []Node
	seen := map[string]bool{}
	for t.Next() {
		n := Node{
			Name: t.Text("sn"), CPUMilli: t.Number("cpu_milli", mostCPU), MemoryMiB: t.Number("memory_mib", mostMemory),
			GPUs: int(t.Number("gpu", mostGPUs)), Model: t.Text("model"),
		}
		if n.Name == "" || seen[n.Name] {
			t.Fail("sn", "%q is no name, or is there twice", clip(n.Name))
		}
		if n.GPUs > 0 && n.Model == "" {
			t.Fail("model", "%s has %d GPUs of no model", clip(n.Name), n.GPUs)
		}
		seen[n.Name] = true
		nodes = append(nodes, n)
	}
	if t.Err() == nil && len(nodes) == 0 {
		t.Fail("sn", "there are no nodes after the header")
	}
	return nodes, t.Err()
}

// ReadPods reads the pods of the openb trace: name, cpu_milli, memory_mib, num_gpu,
// gpu_milli, and gpu_spec where it is there: models with | between them.
func ReadPods(r io.Reader) ([]Pod, error) {
	t, err := NewTable(r, "name", "cpu_milli", "memory_mib", "num_gpu", "gpu_milli")
	if err != nil {
		return nil, err
	}
	var pods []Pod
	for t.Next() {
		p := Pod{
			Name: t.Text("name"), CPUMilli: t.Number("cpu_milli", mostCPU), MemoryMiB: t.Number("memory_mib", mostMemory),
			GPUs: int(t.Number("num_gpu", mostGPUs)), GPUMilli: int(t.Number("gpu_milli", wholeGPU)),
		}
		switch {
		case p.GPUs == 0:
			p.GPUMilli = 0
		case p.GPUMilli == 0:
			t.Fail("gpu_milli", "0 of each of %d GPUs", p.GPUs)
		case p.GPUs > 1 && p.GPUMilli < wholeGPU:
			t.Fail("gpu_milli", "%d of each of %d GPUs: only a single GPU can be shared", p.GPUMilli, p.GPUs)
		}
		if spec := t.Text("gpu_spec"); spec != "" && p.GPUs > 0 {
			p.Models = strings.Split(spec, "|")
		}
		if len(pods) == mostPods {
			t.Fail("name", "more than %d pods", mostPods)
		}
		pods = append(pods, p)
	}
	if t.Err() == nil && len(pods) == 0 {
		t.Fail("name", "there are no pods after the header")
	}
	return pods, t.Err()
}
