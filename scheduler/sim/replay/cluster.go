package replay

import (
	"cmp"
	"slices"
	"strings"

	"github.com/berthd/berth/scheduler/sim/trace"
)

// wholeGPU is a GPU in thousandths.
const wholeGPU = 1000

// maxPods is how many pods a node of the reproduced evaluation takes.
const maxPods = 1001

// cluster is what is left of the nodes, for the policies of the paper. Nodes are in the
// order in which equals are taken.
type cluster struct {
	nodes []node
	order []int // of each node, its index in the trace
}

type node struct {
	cpu, memory int64
	left        []int16 // of each GPU
	total       int     // of all GPUs
	free        int     // whole GPUs
	model       string
	pods        int
	// version counts what was placed, so that cached scores know when they are old.
	version int32
	// fragments was true at fragmentVersion.
	fragments       float64
	fragmentVersion int32
	// classes has how many pods of each class there are, by the number of whole GPUs;
	// 0: shares.
	classes map[int]int
}

// shape is what a pod asks for; pods that ask for the same share one.
type shape struct {
	cpu, memory int64
	gpus, milli int
	models      []string
}

func (s *shape) demand() int { return s.gpus * s.milli }

// shared says that the pod takes part of one GPU.
func (s *shape) shared() bool { return s.gpus == 1 && s.milli < wholeGPU }

func newCluster(nodes []trace.Node, order []int) *cluster {
	c := &cluster{order: order}
	for _, i := range order {
		n := node{cpu: nodes[i].CPUMilli, memory: nodes[i].MemoryMiB, model: nodes[i].Model, fragmentVersion: -1,
			total: nodes[i].GPUs * wholeGPU, free: nodes[i].GPUs, classes: map[int]int{}}
		for range nodes[i].GPUs {
			n.left = append(n.left, wholeGPU)
		}
		c.nodes = append(c.nodes, n)
	}
	return c
}

// shapesOf gives the distinct shapes of the pods, and for each pod which is its own.
func shapesOf(pods []trace.Pod) ([]shape, []int) {
	type key struct {
		cpu, memory int64
		gpus, milli int
		models      string
	}
	known := map[key]int{}
	var shapes []shape
	of := make([]int, len(pods))
	for i := range pods {
		p := &pods[i]
		k := key{p.CPUMilli, p.MemoryMiB, p.GPUs, p.GPUMilli, strings.Join(p.Models, "|")}
		at, ok := known[k]
		if !ok {
			at = len(shapes)
			known[k] = at
			shapes = append(shapes, shape{p.CPUMilli, p.MemoryMiB, p.GPUs, p.GPUMilli, p.Models})
		}
		of[i] = at
	}
	return shapes, of
}

// fits says whether a node has room for a pod.
func (n *node) fits(s *shape) bool {
	if n.cpu < s.cpu || n.memory < s.memory || n.pods >= maxPods {
		return false
	}
	return s.gpus == 0 || n.has(s.models) && n.gpusWith(s.milli) >= s.gpus
}

// has says whether the node's model is one of those; none: any.
func (n *node) has(models []string) bool { return len(models) == 0 || slices.Contains(models, n.model) }

// gpusWith is how many GPUs have so much left.
func (n *node) gpusWith(milli int) int {
	if milli == wholeGPU {
		return n.free
	}
	count := 0
	for _, left := range n.left {
		if int(left) >= milli {
			count++
		}
	}
	return count
}

// tightest is the GPU with the least left that is enough, the lowest of them.
func (n *node) tightest(milli int) int {
	best := -1
	for i, left := range n.left {
		if int(left) >= milli && (best < 0 || left < n.left[best]) {
			best = i
		}
	}
	return best
}

// choose names the GPUs that a pod gets: the one given, or the lowest that are free.
func (n *node) choose(s *shape, gpu int) []int {
	if s.shared() {
		return []int{gpu}
	}
	var gpus []int
	for i := range n.left {
		if n.left[i] == wholeGPU && len(gpus) < s.gpus {
			gpus = append(gpus, i)
		}
	}
	return gpus
}

// place takes what the pod asks for, of the GPUs given.
func (n *node) place(s *shape, gpus []int) {
	n.cpu, n.memory = n.cpu-s.cpu, n.memory-s.memory
	n.total -= s.demand()
	n.pods++
	n.version++
	for _, i := range gpus {
		if n.left[i] == wholeGPU {
			n.free--
		}
		n.left[i] -= int16(s.milli)
	}
	if s.shared() {
		n.classes[0]++
	} else if s.gpus > 0 {
		n.classes[s.gpus]++
	}
}

// compare orders what shapes ask for, as the paper's simulator does among equally
// frequent ones.
func (s *shape) compare(o *shape) int {
	return cmp.Or(cmp.Compare(s.cpu, o.cpu), cmp.Compare(s.milli, o.milli), cmp.Compare(s.gpus, o.gpus),
		strings.Compare(strings.Join(s.models, "|"), strings.Join(o.models, "|")))
}
