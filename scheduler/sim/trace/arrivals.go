package trace

import (
	"encoding/json"
	"io"
	"math"
	"slices"
	"strings"

	"github.com/berthd/berth/problem"
)

// Arrivals is the order in which pods are offered, and the order of nodes among equals.
type Arrivals struct {
	// Pods are indices into the trace's pods: one may come more than once, or never.
	Pods []int
	// Nodes are the indices of all nodes, each once.
	Nodes []int
}

// ReadArrivals reads an order from JSON: {"arrivals":[...],"node_order":[...]}, for a
// trace with so many pods and nodes. Without node_order the nodes are in the trace's.
func ReadArrivals(r io.Reader, pods, nodes int) (Arrivals, error) {
	var file struct {
		Arrivals  []int `json:"arrivals"`
		NodeOrder []int `json:"node_order"`
	}
	if err := json.NewDecoder(r).Decode(&file); err != nil {
		return Arrivals{}, problem.New(problem.Invalid, "arrivals", "not the JSON of an order: %w", err).
			WithRemedy(`it is {"arrivals":[index of a pod, ...],"node_order":[index of a node, ...]}`)
	}
	if len(file.Arrivals) == 0 {
		return Arrivals{}, problem.New(problem.Invalid, "arrivals", "there are none")
	}
	for i, p := range file.Arrivals {
		if p < 0 || p >= pods {
			return Arrivals{}, problem.New(problem.Invalid, "arrivals", "number %d is %d, and there are %d pods, from 0", i, p, pods)
		}
	}
	if file.NodeOrder == nil {
		file.NodeOrder = make([]int, nodes)
		for i := range file.NodeOrder {
			file.NodeOrder[i] = i
		}
	}
	seen := make([]bool, nodes)
	for i, n := range file.NodeOrder {
		if n < 0 || n >= nodes || seen[n] {
			return Arrivals{}, problem.New(problem.Invalid, "node_order", "number %d is %d: not one of %d nodes, from 0, or twice", i, n, nodes)
		}
		seen[n] = true
	}
	if len(file.NodeOrder) != nodes {
		return Arrivals{}, problem.New(problem.Invalid, "node_order", "%d of %d nodes", len(file.NodeOrder), nodes)
	}
	return Arrivals{file.Arrivals, file.NodeOrder}, nil
}

// Draws are the random numbers that an order is drawn with; *math/rand.Rand has them.
type Draws interface {
	Int() int
	Int63() int64
	Intn(n int) int
	Perm(n int) []int
	Shuffle(n int, swap func(i, j int))
}

// Tune is how much is asked for in the evaluation of FGD (USENIX ATC'23), as a share of
// all GPUs.
const Tune = 1.3

// startup is how many draws the simulator of that evaluation makes for itself between
// the pods and the nodes; found by comparison.
const startup = 10

// Draw makes an order as the simulator of FGD's evaluation does: all pods in a random
// order, then more of them, or fewer, until tune times all GPUs are asked for. The same
// draws give the same order, whatever the order of pods and nodes.
func Draw(pods []Pod, nodes []Node, draws Draws, tune float64) (Arrivals, error) {
	if !(tune > 0) || tune > 100 {
		return Arrivals{}, problem.New(problem.Invalid, "tune", "%v times all GPUs is not more than 0 and at most 100", tune)
	}
	var capacity int64
	for i := range nodes {
		capacity += int64(nodes[i].GPUs) * wholeGPU
	}
	target := int64(math.Round(tune * float64(capacity)))
	draws.Int()
	sorted := byName(len(pods), func(i int) string { return pods[i].Name })
	arrivals := slices.Clone(sorted)
	draws.Shuffle(len(arrivals), func(i, j int) { arrivals[i], arrivals[j] = arrivals[j], arrivals[i] })
	arrivals, err := adjust(pods, sorted, arrivals, target, draws)
	if err != nil {
		return Arrivals{}, err
	}
	for range startup {
		draws.Int63()
	}
	named := byName(len(nodes), func(i int) string { return nodes[i].Name })
	order := make([]int, len(nodes))
	for i, at := range draws.Perm(len(nodes)) {
		order[at] = named[i]
	}
	return Arrivals{arrivals, order}, nil
}

// adjust appends pods, or removes them, until the sum of what they ask for is as near
// to the target as that evaluation goes.
func adjust(pods []Pod, sorted, arrivals []int, target int64, draws Draws) ([]int, error) {
	var total int64
	for _, p := range arrivals {
		total += pods[p].Demand()
	}
	if total == 0 && target > 0 {
		return nil, problem.New(problem.Invalid, "pods", "none of them asks for a GPU").
			WithRemedy("give the order in which they come with -arrivals")
	}
	if total >= target {
		for total > target {
			i := draws.Intn(len(arrivals))
			total -= pods[arrivals[i]].Demand()
			arrivals = slices.Delete(arrivals, i, i+1)
		}
		return arrivals, nil
	}
	for {
		p := sorted[draws.Intn(len(sorted))]
		// One GPU's part, not all of them, so the last one may go beyond: so it is in what
		// is reproduced.
		if total+int64(pods[p].GPUMilli) > target {
			return arrivals, nil
		}
		total += pods[p].Demand()
		if arrivals = append(arrivals, p); len(arrivals) > mostPods {
			return nil, problem.New(problem.Invalid, "pods", "more than %d would be needed to ask for %d GPUs", mostPods, target/wholeGPU)
		}
	}
}

// byName gives the indices of n things by their names; equal ones as they come.
func byName(n int, name func(i int) string) []int {
	order := make([]int, n)
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return strings.Compare(name(a), name(b)) })
	return order
}
