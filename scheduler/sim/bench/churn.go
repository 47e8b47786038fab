package bench

import (
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/berthd/berth/scheduler"
)

// waiting is how many asks wait to come again: what is released is not what is placed
// next, so an ask does not find the hole that one like it has just left.
const waiting = 128

// fill places asks drawn from all shapes until part of the fleet's CPU or memory is
// granted. Shapes that take GPUs or hugepages come only while no more than that part of
// those is granted.
func (s *side) fill(part float64) {
	const patience = 200 // asks in a row that do not fit
	refused := 0
	for refused < patience && !s.reached(part) {
		shape := int32(s.stream.below(len(s.w.shapes)))
		after := s.used
		after.add(s.w.shapes[shape].takes, int64(s.w.cfg.JobSize))
		if scarce(after, s.w.capacity) > part {
			refused++
			continue
		}
		r := s.prepare(shape)
		s.placed = s.place(s, &r.ask, s.placed[:0])
		if s.took(&r, s.placed) {
			refused = 0
		} else {
			refused++
		}
	}
}

// reached says that CPU or memory is granted to that part.
func (s *side) reached(part float64) bool {
	return amount{milli: s.w.capacity.milli, memory: s.w.capacity.memory}.used(s.used) >= part
}

func scarce(used, of amount) float64 { return amount{gpus: of.gpus, pages: of.pages}.used(used) }

// settle releases asks and places others until part of the fleet is granted.
func (s *side) settle(part float64) {
	for len(s.live) > 0 && s.reached(part) {
		l := s.pick()
		s.release(&l)
		s.account(&l, -1)
	}
	s.fill(part)
}

// slice releases n asks and places n, and measures both. Every fourth slice is measured
// ask by ask, the others as a whole.
func (s *side) slice(n, number int, shadow *side) {
	if n = min(n, len(s.live)); n == 0 {
		return
	}
	gone := make([]live, n)
	for i := range gone {
		gone[i] = s.pick()
	}
	s.measureRelease(gone)
	for i := range gone {
		s.account(&gone[i], -1)
		s.queue = append(s.queue, gone[i].shape)
		if shadow != nil {
			shadow.release(&gone[i])
		}
	}
	s.ready, s.ends = s.ready[:0], s.ends[:0]
	for range n {
		k, last := s.stream.below(len(s.queue)), len(s.queue)-1
		s.ready = append(s.ready, s.prepare(s.queue[k]))
		s.queue[k] = s.queue[last]
		s.queue = s.queue[:last]
	}
	if shadow != nil || number%4 == 3 {
		s.placeSingly(shadow)
	} else {
		s.placeTogether()
	}
	from := 0
	for i, end := range s.ends {
		if !s.took(&s.ready[i], s.placed[from:end]) {
			s.figures.unplaced++
			s.queue = append(s.queue, s.ready[i].shape)
		}
		from = end
	}
}

func (s *side) measureRelease(gone []live) {
	m, f := &s.w.meter, &s.figures
	mallocs, start := m.Mallocs(), m.CPU()
	for i := range gone {
		s.release(&gone[i])
	}
	f.releaseCPU += m.CPU() - start - s.w.overhead
	f.releaseMallocs += m.Mallocs() - mallocs
	for i := range gone {
		f.released += len(gone[i].placements)
	}
}

// placeTogether places what is ready, and reads the clock before and after.
func (s *side) placeTogether() {
	m, f := &s.w.meter, &s.figures
	s.placed = s.placed[:0]
	mallocs, start := m.Mallocs(), m.CPU()
	for i := range s.ready {
		s.placed = s.place(s, &s.ready[i].ask, s.placed)
		s.ends = append(s.ends, len(s.placed))
	}
	f.placeCPU += m.CPU() - start - s.w.overhead
	f.placeMallocs += m.Mallocs() - mallocs
	f.placed += len(s.placed)
	f.counted += len(s.placed)
}

// placeSingly places what is ready, and reads the clock at each.
func (s *side) placeSingly(shadow *side) {
	m, f := &s.w.meter, &s.figures
	s.placed = s.placed[:0]
	for i := range s.ready {
		from := len(s.placed)
		start := m.CPU()
		s.placed = s.place(s, &s.ready[i].ask, s.placed)
		took := m.CPU() - start - s.w.overhead
		s.ends = append(s.ends, len(s.placed))
		if n := len(s.placed) - from; n > 0 {
			f.placeCPU += took
			f.placed += n
			f.single = append(f.single, int32(min(took/time.Duration(n), 1<<31-1)))
		}
		if shadow != nil {
			s.compare(shadow, &s.ready[i].ask, s.placed[from:])
		}
	}
}

// compare places an ask on the shadow, whose fleet is the same, and holds the two
// against each other: node and grant of every instance. Then the shadow takes over what
// the side did.
func (s *side) compare(shadow *side, ask *scheduler.Ask, got []scheduler.Placement) {
	shadow.placed = shadow.place(shadow, ask, shadow.placed[:0])
	want := shadow.placed
	s.figures.compared += max(len(got), len(want))
	for i := range max(len(got), len(want)) {
		if i >= len(got) || i >= len(want) || got[i].NodeID != want[i].NodeID || !proto.Equal(got[i].Assignment, want[i].Assignment) {
			s.figures.mismatches++
		}
	}
	for _, p := range want {
		shadow.fleet.Undo(ask.Group, p)
	}
	if len(got) < ask.Count {
		return // it is taken back as a whole
	}
	for _, p := range got {
		shadow.fleet.ChangeAlloc(nil, allocOf(ask.Group, p))
	}
}
