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
		s.place(s, &s.results[0], &r.ask)
		if s.took(&r, &s.results[0]) {
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

// slice releases n asks and places n, and measures both: as a whole, first all of the one
// and then all of the other; but every fourth ask by ask in turns, as what comes first
// otherwise pays for taking in all that has gone.
func (s *side) slice(n, number int, shadow *side) {
	if n = min(n, len(s.live)); n == 0 {
		return
	}
	s.figures.asks += n
	s.gone, s.ready = s.gone[:0], s.ready[:0]
	for range n {
		l := s.pick()
		s.account(&l, -1)
		s.queue = append(s.queue, l.shape)
		s.gone = append(s.gone, l)
	}
	for range n {
		k, last := s.stream.below(len(s.queue)), len(s.queue)-1
		s.ready = append(s.ready, s.prepare(s.queue[k]))
		s.queue[k] = s.queue[last]
		s.queue = s.queue[:last]
	}
	for len(s.results) < n {
		s.results = append(s.results, scheduler.Result{})
	}
	if s.verified || number%4 == 3 {
		s.inTurns(shadow)
	} else {
		s.together()
	}
	for i := range s.ready {
		if !s.took(&s.ready[i], &s.results[i]) {
			s.figures.unplaced++
			s.queue = append(s.queue, s.ready[i].shape)
		}
	}
}

// together releases and places what is drawn, and reads the clock before and after.
func (s *side) together() {
	m, f := &s.w.meter, &s.figures
	mallocs, start := m.Mallocs(), m.CPU()
	for i := range s.gone {
		s.release(&s.gone[i])
	}
	released := m.CPU()
	for i := range s.ready {
		s.place(s, &s.results[i], &s.ready[i].ask)
	}
	placed := m.CPU()
	f.mallocs += m.Mallocs() - mallocs
	f.releaseCPU += released - start - s.w.overhead
	f.placeCPU += placed - released - s.w.overhead
	for i := range s.gone {
		f.released += len(s.gone[i].held)
	}
	n := 0
	for i := range s.ready {
		n += len(s.results[i].Placed)
	}
	f.placed, f.counted = f.placed+n, f.counted+n
}

// inTurns releases one and places one, and reads the clock at each.
func (s *side) inTurns(shadow *side) {
	m, f := &s.w.meter, &s.figures
	for i := range s.ready {
		start := m.CPU()
		s.release(&s.gone[i])
		f.releaseCPU += m.CPU() - start - s.w.overhead
		f.released += len(s.gone[i].held)
		if shadow != nil {
			shadow.release(&s.gone[i])
		}
		ask, res := &s.ready[i].ask, &s.results[i]
		if s.verified && shadow == nil {
			scan(s, &s.best, ask)
			s.undo(ask.Group, &s.best)
		}
		start = m.CPU()
		s.place(s, res, ask)
		took := m.CPU() - start - s.w.overhead
		if n := len(res.Placed); n > 0 {
			f.placeCPU += took
			f.placed += n
			f.single = append(f.single, int32(min(took/time.Duration(n), 1<<31-1)))
		}
		switch {
		case shadow != nil:
			s.compare(shadow, ask, res)
		case s.verified:
			s.count(res, &s.best)
		}
	}
}

// count counts the instances whose node or grant is not what it should be.
func (s *side) count(got, want *scheduler.Result) {
	n := max(len(got.Placed), len(want.Placed))
	s.figures.compared += n
	for i := range n {
		if i >= len(got.Placed) || i >= len(want.Placed) || got.Placed[i].Slot != want.Placed[i].Slot || !proto.Equal(got.Assignment(i), want.Assignment(i)) {
			s.figures.mismatches++
		}
	}
}

// compare places an ask on the shadow, whose fleet is the same, and holds the two
// against each other: node and grant of every instance. Then the shadow takes over what
// the side did.
func (s *side) compare(shadow *side, ask *scheduler.Ask, got *scheduler.Result) {
	want := &shadow.results[0]
	shadow.place(shadow, want, ask)
	s.count(got, want)
	shadow.undo(ask.Group, want)
	if len(got.Placed) < ask.Count {
		return // it is taken back as a whole
	}
	for i := range got.Placed {
		shadow.fleet.Hold(ask.Group, got.Placed[i].Slot, got.Grant(i))
	}
}
