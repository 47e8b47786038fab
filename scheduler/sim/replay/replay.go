package replay

import (
	"slices"
	"strings"

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
	offer(shape int) (grant, bool)
}

// grant is where a pod went: a node by its index in the trace, and its GPUs.
type grant struct {
	node int
	gpus []int
}

// Policies are the names that Run knows.
func Policies() []string {
	return []string{"berth", "FGD", "BestFit", "DotProd", "GpuPacking", "GpuClustering", "Random"}
}

// Run offers the pods in the order given. intn is for the policy Random only.
func Run(nodes []trace.Node, pods []trace.Pod, order trace.Arrivals, policy string, intn func(int) int) (*Result, error) {
	shapes, of := shapesOf(pods)
	typical := newTypical(pods)
	p, err := newPlacer(nodes, shapes, typical, order, policy, intn)
	if err != nil {
		return nil, err
	}
	r := &Result{Policy: policy, Arrived: len(order.Pods)}
	for i := range nodes {
		r.CapacityMilli += int64(nodes[i].GPUs) * wholeGPU
	}
	if r.CapacityMilli == 0 {
		return nil, problem.New(problem.Invalid, "nodes", "none of them has a GPU")
	}
	books := newLedger(nodes, typical)
	part := func(milli float64) float64 { return 100 * milli / float64(r.CapacityMilli) }
	var allocated, fragments curve
	var arrived int64
	for _, i := range order.Pods {
		arrived += pods[i].Demand()
		if g, placed := p.offer(of[i]); !placed {
			r.Unplaced++
		} else if books.enter(&shapes[of[i]], g) {
			r.AllocatedMilli += pods[i].Demand()
		}
		allocated.add(arrived, r.CapacityMilli, hundredths(part(float64(r.AllocatedMilli))))
		fragments.add(arrived, r.CapacityMilli, hundredths(part(books.fragments)))
	}
	r.AllocatedPercent, r.Fragmentation, r.Violations = allocated.points(), fragments.points(), books.violations
	return r, nil
}

func newPlacer(nodes []trace.Node, shapes []shape, typical *typical, order trace.Arrivals, policy string, intn func(int) int) (placer, error) {
	rules := map[string]rule{
		"FGD": &fgd{typical: typical}, "BestFit": bestFit{}, "DotProd": dotProduct{},
		"GpuPacking": gpuPacking{}, "GpuClustering": gpuClustering{},
	}
	switch rule := rules[policy]; {
	case policy == "berth":
		return newBerth(nodes, shapes)
	case rule != nil:
		return newScored(newCluster(nodes, order.Nodes), shapes, rule), nil
	case policy == "Random":
		return &random{c: newCluster(nodes, order.Nodes), shapes: shapes, intn: intn}, nil
	}
	return nil, problem.New(problem.Invalid, "policy", "there is no policy %q", policy).
		WithRemedy("take one of %s", strings.Join(Policies(), ", "))
}

// ledger keeps its own books of what the policies grant.
type ledger struct {
	nodes      []node
	typical    *typical
	fragments  float64 // thousandths of GPUs, all nodes together
	scratch    fragmentScratch
	violations int
}

func newLedger(nodes []trace.Node, typical *typical) *ledger {
	order := make([]int, len(nodes))
	for i := range order {
		order[i] = i
	}
	l := &ledger{nodes: newCluster(nodes, order).nodes, typical: typical}
	for i := range l.nodes {
		n := &l.nodes[i]
		n.fragments = typical.fragment(n, n.cpu, n.left, &l.scratch)
		l.fragments += n.fragments
	}
	return l
}

// enter books a grant; false: it is more than there is, or not what was asked for.
func (l *ledger) enter(s *shape, g grant) bool {
	n := &l.nodes[g.node]
	if !n.fits(s) || !n.grants(s, g.gpus) {
		l.violations++
		return false
	}
	n.place(s, g.gpus)
	l.fragments -= n.fragments
	n.fragments = l.typical.fragment(n, n.cpu, n.left, &l.scratch)
	l.fragments += n.fragments
	return true
}

// grants says whether those GPUs are as many different ones as the pod asks for, each
// with enough left.
func (n *node) grants(s *shape, gpus []int) bool {
	for i, gpu := range gpus {
		if gpu < 0 || gpu >= len(n.left) || int(n.left[gpu]) < s.milli || slices.Contains(gpus[:i], gpu) {
			return false
		}
	}
	return len(gpus) == s.gpus
}
