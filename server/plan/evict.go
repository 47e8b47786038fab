package plan

import (
	"fmt"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/scheduler"
)

// preempts says whether a job may take the place of what has a lower priority.
func preempts(spec *berthv1.Job, config *berthv1.SchedulerConfig) bool {
	return spec != nil && !config.GetNoPreemption() && (spec.Preempt == nil || spec.GetPreempt())
}

// wayOf is the way that one ask gets.
type wayOf struct {
	same *identical
	scheduler.Way
}

// findWays finds who has to give way to some asks, in a trial. What fits as it is comes
// first where all must be placed together; then the answer is for all of them or none.
func findWays(t *scheduler.Trial, units []*identical, most int, together bool) (ways []wayOf, nodes []string) {
	for _, same := range units {
		ask := same.ask(min(same.left, most), true)
		if together {
			placed := t.Place(ask)
			for _, p := range placed {
				nodes = append(nodes, p.NodeID)
			}
			ask = same.without(ask, placed)
		}
		found := t.Preempt(ask, same.group.Priority)
		for _, way := range found {
			ways, nodes = append(ways, wayOf{same, way}), append(nodes, way.NodeID)
		}
		if together && len(found) < wantedOf(ask) {
			return nil, nil
		}
	}
	return ways, nodes
}

// without is an ask less what was placed of it.
func (i *identical) without(ask *scheduler.Ask, placed []scheduler.Placement) *scheduler.Ask {
	rest := *ask
	rest.Count -= len(placed)
	if ask.Nodes != nil {
		at := map[string]bool{}
		for _, p := range placed {
			at[p.NodeID] = true
		}
		rest.Nodes = []string{}
		for _, node := range ask.Nodes {
			if !at[node] {
				rest.Nodes = append(rest.Nodes, node)
			}
		}
	}
	return &rest
}

func wantedOf(ask *scheduler.Ask) int {
	if ask.Nodes != nil {
		return len(ask.Nodes)
	}
	return ask.Count
}

// waysAtOnce is how many instances of a job others are told at a time to give way to.
const waysAtOnce = 512

// makeWay has those told to end that must give way to what is left of a job's asks, and
// keeps the nodes for it until they have. What is ending anyway is waited for. It gives
// the ways that were found, by ask.
func (l *Loop) makeWay(j *job, b *batch, units []*identical, together bool) map[*identical]int {
	w, found := j.work, map[*identical]int{}
	if !preempts(w.spec, l.view.SchedulerConfig()) {
		return found
	}
	var ways []wayOf
	var nodes []string
	l.opened(j, func() {
		trial := l.crowd.trial(l.fleet)
		defer trial.Undo()
		ways, nodes = findWays(trial, units, waysAtOnce, together)
	})
	for _, way := range ways {
		for _, v := range way.Victims {
			by := j.key.namespace + "/" + j.key.name + "/" + way.same.name()
			b.change(j, &berthv1.AllocChange{AllocId: v.Alloc.GetId(), Desired: berthv1.Alloc_evict.Enum(),
				DesiredReason: fmt.Sprintf(reasonPreempted, by, w.spec.GetPriority()), PreemptedBy: by})
		}
		w.preempted(way)
		found[way.same]++
	}
	if len(ways) > 0 {
		clear(l.shared)
	}
	w.claims = append(w.claims, nodes...)
	l.claim(j, nodes)
	if together && len(ways) > 0 {
		for _, same := range units {
			found[same] = same.left
		}
	}
	return found
}

// reasonPreempted is why a victim is to end.
const reasonPreempted = "it gives way to %s (priority %d)"

// maxPreemptions bounds those that an outcome names.
const maxPreemptions = 64

// preempted notes who gives way: victims, and those that were told to before.
func (w *work) preempted(way wayOf) {
	w.ways++
	o := w.outcomes[way.same.name()]
	for _, v := range way.Victims {
		w.ends++
		addPreemption(o, v)
	}
	for _, v := range way.Ending {
		if v.Alloc.GetPreemptedBy() == w.spec.GetNamespace()+"/"+w.spec.GetName()+"/"+way.same.name() {
			w.ends++
			addPreemption(o, v)
		}
	}
}

func addPreemption(o *berthv1.GroupOutcome, v scheduler.Holder) {
	if o == nil || len(o.GetPreemptions()) >= maxPreemptions {
		return
	}
	a := v.Alloc
	o.Preemptions = append(o.Preemptions, &berthv1.Preemption{AllocId: a.GetId(), Namespace: a.GetNamespace(), Job: a.GetJob(),
		Group: a.GetGroup(), Index: a.GetIndex(), NodeId: a.GetNodeId(), Node: a.GetNodeName(), Priority: v.Priority})
}
