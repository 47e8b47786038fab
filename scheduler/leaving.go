package scheduler

// leave has the ask's leaving instances not count, until stay. Where hosts or values must
// be distinct they count on: both are there for a while.
func (f *Fleet) leave(ask *Ask) {
	leaving := f.scratch.leaving[:0]
	own := f.groups[ask.Group.Key]
	if own != nil && ask.Group.hosts == nobody && len(ask.Group.limits) == 0 {
		for _, id := range ask.Leaving {
			if slot, known := f.slots[id]; known && own.at(slot) > 0 {
				own.add(f, slot, -1)
				leaving = append(leaving, slot)
			}
		}
	}
	f.scratch.leaving = leaving
}

// stay has those count again.
func (f *Fleet) stay(ask *Ask) {
	for _, slot := range f.scratch.leaving {
		f.count(ask.Group.Key, slot, 1)
	}
	f.scratch.leaving = f.scratch.leaving[:0]
}
