package plan

import (
	"fmt"
	"slices"
	"strings"
	"time"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/scheduler"
)

// work is what a look at a job has found to do, done a slice at a time.
type work struct {
	spec     *berthv1.Job // nil: it is gone
	result   Result
	outcomes map[string]*berthv1.GroupOutcome
	// deployment is still to be proposed; nil: it is, or stays as it was.
	deployment *berthv1.Deployment
	changes    []*berthv1.AllocChange // still to be proposed
	asks       []*identical           // still to be placed
	evalID     string                 // of what is placed
	trigger    berthv1.Evaluation_Trigger
	evals      []*berthv1.Evaluation // that it answers
	silent     bool                  // do not explain
	handed     []*identical          // to be placed by the job's own scheduler
	now        time.Time             // of the look
	placed     int
	left       int  // instances that could not be placed
	did        bool // anything was proposed
	spilled    bool // in more than one entry
	dropped    bool // the rest is not to be done: the job is looked at anew
	// ways have been found for so many of left, when so many allocations have ended, on
	// the claimed nodes.
	ways, ends int
	claims     []string
	open       *entry
}

// drop forgets what has not been done: what it was made of is no longer so.
func (w *work) drop() { w.changes, w.asks, w.dropped = nil, nil, true }

// look reconciles a job on the view.
func (l *Loop) look(j *job, now time.Time) *work {
	spec := l.view.Job(j.key.namespace, j.key.name)
	in := input(l.view, j.key, spec, now)
	in.Node = func(id string) *berthv1.Node { return l.nodes[id] }
	in.Feasible = func(g *berthv1.Group) []string {
		if compiled, err := j.compile(spec, g); err == nil {
			return l.fleet.Feasible(compiled)
		}
		return nil
	}
	in.Allows = func(g *berthv1.Group, node string) bool {
		compiled, err := j.compile(spec, g)
		return err == nil && l.fleet.Allows(compiled, node)
	}
	in.Occupied, in.Told = occupied(l.view), func(id string) bool { return l.crowd.told[id] }
	result := Reconcile(in)
	l.stats.looks.Add(1)
	w := &work{
		spec: spec, result: result, outcomes: map[string]*berthv1.GroupOutcome{}, trigger: j.trigger,
		changes: result.Changes, evals: j.evals, now: now,
		asks:       identicals(result.Asks, compiler(j, spec)),
		deployment: result.Deployment, left: result.Held,
	}
	for _, g := range result.Groups {
		w.outcomes[g.GetGroup()] = g
	}
	_, retried := l.blocked.jobs[j]
	w.silent = retried && len(j.evals) == 0 && j.trigger == berthv1.Evaluation_capacity_freed && now.Sub(j.told) < explainEvery
	switch {
	case len(j.evals) > 0:
		w.evalID = j.evals[len(j.evals)-1].GetId()
	case j.blockedEval != nil:
		w.evalID = j.blockedEval.GetId()
	case len(w.changes)+len(w.asks)+w.left > 0:
		w.evalID = l.cfg.NewID()
	}
	j.evals, j.rolling = nil, result.Rolling
	l.blocked.remove(j)
	j.sent, j.overQuota = 0, false
	if !result.Wake.IsZero() {
		l.mark(j, result.Wake, berthv1.Evaluation_timer)
	}
	return w
}

// advance does a slice of a job's work and returns how many instances and changes that
// took.
func (l *Loop) advance(j *job, b *batch, slice int) int {
	w := j.work
	if w.deployment != nil {
		b.deployment(j, w.deployment)
		w.deployment = nil
	}
	n := min(len(w.changes), slice)
	for _, c := range w.changes[:n] {
		b.change(j, c)
	}
	w.changes = w.changes[n:]
	for n < slice && len(w.asks) > 0 {
		same := w.asks[0]
		if same.resizes && same.problem == nil && !l.paused {
			n += l.resize(j, b, same, slice-n)
			if same.left == 0 {
				w.asks = w.asks[1:]
			}
			continue
		}
		if same.stopsFirst && same.problem == nil && !l.paused {
			n += l.stopAhead(j, b, same)
			w.asks = w.asks[1:]
			continue
		}
		if w.handsOver(same) {
			continue
		}
		switch {
		case same.problem != nil:
			l.blockedBy(j, same, &berthv1.Explanation{Remedies: []string{"correct the job: " + same.problem.Error()}})
			w.asks = w.asks[1:]
		case l.paused:
			l.blockedBy(j, same, &berthv1.Explanation{Remedies: []string{"let the scheduler go on: it is paused, and places nothing"}})
			w.asks = w.asks[1:]
		case w.spec.GetGang():
			n += l.placeGang(j, b, w.asks)
			w.asks = nil
		case same.group.Gang:
			n += l.placeGang(j, b, w.asks[:1])
			w.asks = w.asks[1:]
		default:
			n += l.placeSome(j, b, same, slice-n)
			if same.left == 0 {
				w.asks = w.asks[1:]
			}
		}
	}
	return n
}

// blockedBy records that what is left of some asks could not be placed, whatever happens
// on nodes.
func (l *Loop) blockedBy(j *job, same *identical, e *berthv1.Explanation) {
	j.work.unplaced(same, e)
	l.waits(j, same, same.left)
}

func (w *work) unplaced(same *identical, e *berthv1.Explanation) {
	w.left += same.left
	if o := w.outcomes[same.name()]; o != nil && e != nil {
		o.Explanation = e
	}
}

// blockedWords says what waits, and for what.
func (w *work) blockedWords() string {
	text := counted(w.left, "instance") + " could not be placed"
	if w.ends > 0 {
		text += fmt.Sprintf("; %d of them wait for %s to end", min(w.ways, w.left), counted(w.ends, "allocation"))
	}
	return text
}

// placeSome places up to max of the asks, and gives the rest up when one does not fit.
func (l *Loop) placeSome(j *job, b *batch, same *identical, max int) int {
	name, perNode := same.name(), same.asks[0].Node != ""
	at := l.placePreferred(j, b, same)
	if o := j.work.outcomes[name]; o != nil {
		o.Placed += uint32(at)
	}
	n := min(same.left, max)
	if n == 0 {
		return at
	}
	recalled := l.recallFor(j, same)
	placements, unplaced := l.place(j, same.ask(n, j.work.silent || recalled != nil))
	for _, p := range placements {
		l.propose(j, b, same.take(p), p)
	}
	if o := j.work.outcomes[name]; o != nil {
		o.Placed += uint32(len(placements))
	}
	if len(unplaced) == 0 {
		return n
	}
	rest := &identical{group: same.group, penalised: same.penalised, replaces: same.replaces, moves: same.moves, overQuota: unplaced[0].OverQuota}
	if perNode { // the others' nodes may still do
		for _, node := range unplaced[0].Nodes {
			rest.asks = append(rest.asks, same.take(scheduler.Placement{NodeID: node}))
			rest.left++
		}
	} else {
		rest.asks, rest.left = same.asks, same.left
		same.asks, same.left = nil, 0
	}
	if recalled == nil {
		recalled = unplaced[0].Explanation
	}
	j.work.unplaced(rest, recalled)
	l.giveRoom(j, b, []*identical{rest}, false)
	return n
}

// placeGang places all of the asks or none.
func (l *Loop) placeGang(j *job, b *batch, gang []*identical) (n int) {
	asks := make([]*scheduler.Ask, len(gang))
	for i, same := range gang {
		asks[i] = same.ask(same.left, j.work.silent)
		n += same.left
	}
	placements, unplaced := l.place(j, asks...)
	if len(unplaced) > 0 {
		for _, p := range placements { // of other groups
			l.fleet.Undo(gang[p.Ask].group, p)
		}
		for _, u := range unplaced {
			gang[u.Ask].overQuota = u.OverQuota
			j.work.unplaced(gang[u.Ask], u.Explanation)
		}
		for i, same := range gang {
			if !slices.ContainsFunc(unplaced, func(u scheduler.Unplaced) bool { return u.Ask == i }) {
				j.work.unplaced(same, partOfGang(unplaced, gang))
			}
		}
		l.giveRoom(j, b, gang, true)
		return n
	}
	begun := b.begin()
	for _, p := range placements {
		ask := gang[p.Ask].take(p)
		l.propose(j, b, ask, p)
		if o := j.work.outcomes[ask.Group.GetName()]; o != nil {
			o.Placed++
		}
	}
	b.together(begun)
	return n
}

// partOfGang explains a group that fits and waits for the others of its gang.
func partOfGang(unplaced []scheduler.Unplaced, gang []*identical) *berthv1.Explanation {
	var others []string
	for _, u := range unplaced {
		others = append(others, gang[u.Ask].name())
	}
	return &berthv1.Explanation{Remedies: []string{"it fits, and waits for the others of its gang: " + strings.Join(others, ", ")}}
}

// place places asks while what the job has claimed is open to it.
func (l *Loop) place(j *job, asks ...*scheduler.Ask) (placements []scheduler.Placement, unplaced []scheduler.Unplaced) {
	l.opened(j, func() { placements, unplaced = scheduler.Place(l.fleet, asks) })
	return placements, unplaced
}

// giveRoom is for asks that fit nowhere: those that stand in for running instances may
// take their places, others those of what has a lower priority. What is left waits.
func (l *Loop) giveRoom(j *job, b *batch, rest []*identical, together bool) {
	room := false
	for _, same := range rest {
		switch {
		case same.moves && !together:
			l.stopFirst(j, b, same, true)
		case same.replaces && (!together || len(rest) == 1):
			room = l.makeRoom(j, b, same) || room
		}
	}
	ways := map[*identical]int{}
	if !room {
		ways = l.makeWay(j, b, rest, together)
	}
	for _, same := range rest {
		l.waits(j, same, ways[same])
	}
	if len(ways) == 0 && !room {
		l.enrich(j, rest, together)
	}
}

// propose makes an allocation of a placement.
func (l *Loop) propose(j *job, b *batch, ask Ask, p scheduler.Placement) *placed {
	a := b.place(j, ask, p)
	l.pending[a.id] = a
	j.work.placed++
	if ask.Replaces {
		l.stopReplaced(j, b, ask)
	}
	return a
}

// allocID is the id of what was proposed.
func allocID(a *placed) string { return a.id.String() }

// makeRoom is for instances that stand in for running ones and fit nowhere beside them:
// where they would fit in their place, those are stopped, and what they held is asked
// for again when they have ended. Otherwise they are left alone. true: some are stopped.
func (l *Loop) makeRoom(j *job, b *batch, same *identical) bool {
	var held []*berthv1.Alloc
	for _, a := range same.asks {
		if !a.Replaces {
			continue
		}
		if now := l.view.Alloc(a.Previous.GetId()); now != nil && now.HoldsGrant() && now.Wanted() {
			held = append(held, now)
			l.fleet.ChangeAlloc(now, nil)
		}
	}
	if len(held) == 0 {
		return false
	}
	ask := same.ask(same.left, true)
	ask.Leaving = nil // they have left
	placements, _ := scheduler.Place(l.fleet, []*scheduler.Ask{ask})
	for _, p := range placements {
		l.fleet.Undo(same.group, p)
	}
	for _, a := range held {
		l.fleet.ChangeAlloc(nil, a)
	}
	for _, a := range held[:min(len(held), len(placements))] {
		b.change(j, &berthv1.AllocChange{AllocId: a.GetId(), Desired: berthv1.Alloc_stop.Enum(), DesiredReason: updated(j.work.spec)})
		if o := j.work.outcomes[a.GetGroup()]; o != nil {
			o.Stopped++
		}
	}
	return len(placements) > 0
}
