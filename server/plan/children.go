package plan

import (
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// How many children that are over are kept, for each of well and badly ended ones, where
// their parent does not say.
const (
	keepScheduled  = 10
	keepDispatched = 100
)

// keepOf is how many children of a job are kept of each kind.
func keepOf(parent *berthv1.Job) int {
	switch {
	case parent.GetSchedule() != nil && parent.GetSchedule().Keep != nil:
		return int(parent.GetSchedule().GetKeep())
	case parent.GetParameters() != nil && parent.GetParameters().Keep != nil:
		return int(parent.GetParameters().GetKeep())
	case parent.GetSchedule() != nil:
		return keepScheduled
	}
	return keepDispatched
}

// family is the children of one job that are no longer kept, by name.
type family map[string]bool

// past says whether a child is no longer kept: newer ones that ended as it did are enough,
// or its parent is gone. Until then it is kept, however old it is.
func (f *finder) past(child *berthv1.Job) bool {
	if child.GetPurge() {
		return true
	}
	key := [2]string{child.GetNamespace(), child.GetParent()}
	past, known := f.families[key]
	if !known {
		past = f.family(key[0], key[1])
		if f.families == nil {
			f.families = map[[2]string]family{}
		}
		f.families[key] = past
	}
	return past[child.GetName()]
}

func (f *finder) family(namespace, parent string) family {
	keep := 0
	if spec := f.view.Job(namespace, parent); spec != nil {
		keep = keepOf(spec)
	}
	var well, badly int
	past := family{}
	for child := range f.view.Children(namespace, parent) {
		if child.GetStatus() != berthv1.Job_dead {
			continue
		}
		n := &badly
		if child.GetStatusReason() == statusAllComplete {
			n = &well
		}
		if *n++; *n > keep {
			past[child.GetName()] = true
		}
	}
	return past
}
