package topology

// Slab makes usages for many machines in few pieces of memory: 250 bytes for a node of
// two cells of 64 threads, 540 for one of eight. The zero value is ready. Memory is given
// back when nothing that was made of the same piece is in use any more.
type Slab struct {
	usages  []Usage
	cells   []cellUsage
	words   []uint64
	devices []uint16
}

// slabSize is how many of each a piece has at least.
const slabSize = 512

// NewUsage is as the function of that name.
func (s *Slab) NewUsage(m *Machine) *Usage {
	u := &piece(&s.usages, 1)[0]
	u.machine = m
	u.cells = piece(&s.cells, len(m.Cells))
	u.words = piece(&s.words, len(m.layout.initial))
	u.devices = piece(&s.devices, m.classOf(len(m.Kinds), -1))
	u.clear()
	return u
}

// piece cuts n zero values off what is left.
func piece[T any](from *[]T, n int) []T {
	if len(*from) < n {
		*from = make([]T, max(n, slabSize))
	}
	cut := (*from)[:n:n]
	*from = (*from)[n:]
	return cut
}
