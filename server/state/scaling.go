package state

import (
	"cmp"
	"iter"
	"slices"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// ScalingEventsKept is how many scaling events of a group are kept.
const ScalingEventsKept = 20

func compareScalingEvents(a, b *berthv1.ScalingEvent) int {
	return cmp.Or(cmp.Compare(a.GetNamespace(), b.GetNamespace()), cmp.Compare(a.GetJob(), b.GetJob()),
		cmp.Compare(a.GetGroup(), b.GetGroup()), cmp.Compare(a.GetCreateRevision(), b.GetCreateRevision()))
}

// ScalingEvents iterates over the scaling events of a job, by group, oldest first.
func (t *tables) ScalingEvents(namespace, job string) iter.Seq[*berthv1.ScalingEvent] {
	return from(t.scaling, &berthv1.ScalingEvent{Namespace: namespace, Job: job}, func(e *berthv1.ScalingEvent) bool {
		return e.GetNamespace() == namespace && e.GetJob() == job
	})
}

func (t *tables) allScalingEvents() iter.Seq[*berthv1.ScalingEvent] {
	return from(t.scaling, &berthv1.ScalingEvent{}, nil)
}

// AddScalingEvent stores a scaling event; the oldest of its group gives way.
func (tx *Tx) AddScalingEvent(e *berthv1.ScalingEvent) {
	tx.scaling.Set(e)
	var group []*berthv1.ScalingEvent
	for old := range tx.ScalingEvents(e.GetNamespace(), e.GetJob()) {
		if old.GetGroup() == e.GetGroup() {
			group = append(group, old)
		}
	}
	for _, old := range group[:max(0, len(group)-ScalingEventsKept)] {
		tx.scaling.Delete(old)
	}
}

// deleteScalingEvents forgets the scaling events of a job.
func (tx *Tx) deleteScalingEvents(namespace, job string) {
	for _, e := range slices.Collect(tx.ScalingEvents(namespace, job)) {
		tx.scaling.Delete(e)
	}
}
