package replay

import (
	"cmp"
	"slices"

	"github.com/berthd/berth/scheduler/sim/trace"
)

// typical is what pods of a trace usually ask for, in GPUs and CPU; memory is not looked
// at. It is what fragmentation is measured by.
type typical struct {
	shapes  []shape
	weights []float64 // sum 1
	level   []int     // of each shape, the index of its milli in levels
	levels  []int     // the distinct millis
}

// coverage is the part of all pods that the typical shapes stand for.
const coverage = 0.95

// newTypical counts the pods of a trace, each once: what is asked for in the long run,
// not in which order it comes.
func newTypical(pods []trace.Pod) *typical {
	bare := slices.Clone(pods)
	for i := range bare {
		bare[i].MemoryMiB = 0
	}
	shapes, of := shapesOf(bare)
	count := make([]int, len(shapes))
	for _, s := range of {
		count[s]++
	}
	order := make([]int, len(shapes))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int {
		return cmp.Or(cmp.Compare(count[b], count[a]), shapes[b].compare(&shapes[a]))
	})
	t := &typical{}
	covered := 0
	for _, i := range order {
		if float64(covered) >= coverage*float64(len(pods)) {
			break
		}
		covered += count[i]
		t.shapes = append(t.shapes, shapes[i])
		t.weights = append(t.weights, float64(count[i]))
		at := slices.Index(t.levels, shapes[i].milli)
		if at < 0 {
			at = len(t.levels)
			t.levels = append(t.levels, shapes[i].milli)
		}
		t.level = append(t.level, at)
	}
	// Divided twice, as there: scores that are nearly equal hang on the last bit.
	all := float64(len(pods))
	for i := range t.weights {
		t.weights[i] = (t.weights[i] / all) / (float64(covered) / all)
	}
	return t
}

// The buckets in which fragments are summed up before they are added. The order of
// floating sums decides between scores that are nearly equal, so it is kept.
const (
	lacksBoth = iota
	lacksGPU
	lacksCPU
	cpuOnlyFits
	cpuOnlyLacks
	wrongModel
	buckets
)

// fragment is the GPU thousandths of a node that are expected to be of no use to the
// next pod: F of the paper. left is what its GPUs have.
func (t *typical) fragment(n *node, cpu int64, left []int16, scratch *fragmentScratch) float64 {
	scratch.count(t.levels, left)
	total := float64(scratch.total)
	var sums [buckets]float64
	for i := range t.shapes {
		s, w, at := &t.shapes[i], t.weights[i], t.level[i]
		enough := cpu >= s.cpu
		switch {
		case s.gpus == 0 && enough:
			sums[cpuOnlyFits] += w * total
		case s.gpus == 0:
			sums[cpuOnlyLacks] += w * total
		case !n.has(s.models):
			sums[wrongModel] += w * total
		case scratch.with[at] >= s.gpus && enough:
			sums[lacksGPU] += w * float64(scratch.below[at])
		case scratch.with[at] >= s.gpus:
			sums[lacksCPU] += w * total
		case enough:
			sums[lacksGPU] += w * total
		default:
			sums[lacksBoth] += w * total
		}
	}
	sum := 0.0
	for _, s := range sums {
		sum += s
	}
	return sum
}

// fragmentScratch has, for each level, how many GPUs have so much left, and what the
// others have together.
type fragmentScratch struct {
	with, below []int
	total       int
}

func (f *fragmentScratch) count(levels []int, left []int16) {
	f.with, f.below, f.total = f.with[:0], f.below[:0], 0
	for _, l := range left {
		f.total += int(l)
	}
	for _, milli := range levels {
		with, below := 0, 0
		for _, l := range left {
			if int(l) >= milli {
				with++
			} else {
				below += int(l)
			}
		}
		f.with, f.below = append(f.with, with), append(f.below, below)
	}
}
