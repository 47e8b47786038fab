package scheduler

// rankHeap has the best of some nodes on top.
type rankHeap []rank

func (h *rankHeap) push(f *Fleet, r rank) {
	*h = append(*h, r)
	s := *h
	for i := len(s) - 1; i > 0; {
		parent := (i - 1) / 2
		if !f.better(&s[i], &s[parent]) {
			return
		}
		s[i], s[parent] = s[parent], s[i]
		i = parent
	}
}

func (h *rankHeap) pop(f *Fleet) {
	s := *h
	last := len(s) - 1
	s[0] = s[last]
	*h = s[:last]
	h.sink(f)
}

// sink restores the order after the top has become worse.
func (h *rankHeap) sink(f *Fleet) {
	s := *h
	for i := 0; ; {
		child := 2*i + 1
		if child >= len(s) {
			return
		}
		if right := child + 1; right < len(s) && f.better(&s[right], &s[child]) {
			child = right
		}
		if !f.better(&s[child], &s[i]) {
			return
		}
		s[i], s[child] = s[child], s[i]
		i = child
	}
}
