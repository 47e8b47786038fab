package scheduler

import (
	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/topology"
)

// Holder is an allocation that holds its grant, as somebody sees it who needs the room.
type Holder struct {
	Alloc    *berthv1.Alloc
	Priority uint32
	// Ending: it has been told to stop, so what it holds becomes free at no cost.
	Ending bool
	// Gang names what breaks with it; "": nothing. GangSize is how many instances that is.
	Gang     string
	GangSize int
	// Fixed: it is never taken away.
	Fixed bool
	// Bounded: its group has a disruption budget, against which it counts while it is Up.
	Bounded, Up bool

	milli, memory uint64
}

// HolderOf gives an allocation of a job with the given priority as a holder. It is
// ending when it is not wanted any more.
func HolderOf(a *berthv1.Alloc, priority uint32) Holder {
	h := Holder{Alloc: a, Priority: priority, GangSize: 1, Ending: !a.Wanted(), Up: a.GetStatus() == berthv1.Alloc_running}
	for _, t := range a.GetAssignment().GetTasks() {
		for _, c := range t.GetCells() {
			h.milli += uint64(c.GetCpuMilli())
			h.memory += c.GetMemoryMib()
			if c.GetCpus() != "" {
				if set, err := topology.ParseCPUSet(c.GetCpus()); err == nil {
					h.milli += 1000 * uint64(set.Count())
				}
			}
		}
	}
	return h
}

// Milli is the CPU that it holds, shared and exclusive, in thousandths of a thread.
func (h Holder) Milli() uint64 { return h.milli }
