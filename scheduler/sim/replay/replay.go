package replay

import (
	"github.com/berthd/berth/problem"
	"github.com/berthd/berth/scheduler/sim/trace"
)

// Result is what became of a trace's pods.
type Result struct {
	Policy string `json:"policy"`
	// AllocatedPercent is the part of all GPUs that is allocated, in percent, by the
	// percent of all GPUs that was asked for so far: 0 to Percent.
	AllocatedPercent []float64 `json:"gpu_allocated_percent"`
	// Arrived pods were offered, Unplaced did not fit.
	Arrived  int `json:"arrived"`
	Unplaced int `json:"unplaced"`
	// AllocatedMilli and CapacityMilli are thousandths of GPUs at the end.
	AllocatedMilli int64 `json:"allocated_milli"`
	CapacityMilli  int64 `json:"capacity_milli"`
	// FragmentationPercent is by the same percent: the GPUs that are free and expected to be of
	// no use to the next pod (F of the FGD paper), in percent of all.
	Fragmentation []float64 `json:"fragmentation"`
	// Violations are grants beyond what a node has, or on a GPU that was not asked for.
	Violations int `json:"violations"`
}

// placer offers a pod of a shape to a policy; false: it does not fit.
type placer interface {
	offer(shape int) bool
}

// Policies are the names that Run knows.
func Policies() []string {
	return []string{"berth", "FGD", "BestFit", "DotProd", "GpuPacking", "GpuClustering", "Random"}
}

// Run offers the pods in the order given. intn is for the policy Random only.
func Run(nodes []trace.Node, pods []trace.Pod, order trace.Arrivals, policy string, intn func(int) int) (*Result, error) {
	shapes, of := shapesOf(pods)
	c := newCluster(nodes, order.Nodes)
	var p placer
	switch policy {
	case "berth":
		b, err := newBerth(nodes, shapes)
		if err != nil {
			return nil, err
		}
		p = b
	case "FGD":
		p = newScored(c, shapes, &fgd{typical: newTypical(pods)})
	case "BestFit":
		p = newScored(c, shapes, bestFit{})
	case "DotProd":
		p = newScored(c, shapes, dotProduct{})
	case "GpuPacking":
		p = newScored(c, shapes, gpuPacking{})
	case "GpuClustering":
		p = newScored(c, shapes, gpuClustering{})
	case "Random":
		p = &random{c: c, shapes: shapes, intn: intn}
	default:
		return nil, problem.New(problem.Invalid, "policy", "there is no policy %q", policy).
			WithRemedy("take one of %v", Policies())
	}
	r := &Result{Policy: policy, Arrived: len(order.Pods)}
	for i := range nodes {
		r.CapacityMilli += int64(nodes[i].GPUs) * wholeGPU
	}
	var allocated curve
	var arrived int64
	for _, i := range order.Pods {
		arrived += pods[i].Demand()
		if p.offer(of[i]) {
			r.AllocatedMilli += pods[i].Demand()
		} else {
			r.Unplaced++
		}
		allocated.add(arrived, r.CapacityMilli, hundredths(100*float64(r.AllocatedMilli)/float64(r.CapacityMilli)))
	}
	r.AllocatedPercent = allocated.points()
	return r, nil
}
