package plan

import (
	"errors"
	"slices"
	"time"

	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/scheduler"
)

// carrier carries out one plan.
type carrier struct {
	l   *Loop
	j   *job
	o   *offered
	r   *request
	out *berthv1.SubmitPlanResponse
	// forGroup is the group that allocations give way to: the first that lacks something.
	forGroup string
}

// trial is a placement that the fleet has, and nobody has proposed yet.
type trial struct {
	at    int // in the plan
	same  *identical
	ask   Ask
	index uint32
	p     scheduler.Placement
}

// carryOut checks a plan, proposes what fits of it, and answers when that has landed.
func (l *Loop) carryOut(j *job, b *batch, r *request, now time.Time) {
	o := j.offer
	c := &carrier{l: l, j: j, o: o, r: r, out: &berthv1.SubmitPlanResponse{}, forGroup: o.asks[0].name()}
	r.outcome = &Outcome{Response: c.out, allocs: map[string]int{}}
	for range r.plan.Placements {
		c.out.Placements = append(c.out.Placements, &berthv1.PlacementResult{})
	}
	b.flush()
	first := len(b.full)
	w := &work{spec: o.spec, result: Result{Groups: o.groups}, outcomes: map[string]*berthv1.GroupOutcome{}, evalID: o.evalID, trigger: o.trigger, evals: j.evals}
	if stored := l.view.Job(j.key.namespace, j.key.name); stored != nil {
		w.result.Status = Status{stored.GetStatus(), stored.GetStatusReason()}
	}
	for _, g := range o.groups {
		w.outcomes[g.GetGroup()] = g
	}
	j.evals, j.work = nil, w
	c.placements(b)
	c.stops(b)
	if !w.did {
		j.evals, j.work = w.evals, nil // nothing is done
		c.finish()
		r.reply <- nil
		return
	}
	if c.finish(); c.out.GetDone() {
		l.answer(j, b, now)
		l.cfg.External.Withdraw(j.key.namespace, j.key.name, "everything is placed")
		j.offer = nil
	} else {
		l.jobStatus(j, b)
		j.evals = append(w.evals, j.evals...)
		l.offer(j)
	}
	j.work = nil
	b.flush()
	for _, e := range b.full[first:] {
		e.plan.Scheduler, e.request = r.plan.Scheduler, r
		r.entries++
	}
}

// finish says what is left.
func (c *carrier) finish() {
	c.out.Done = c.o.left() == 0
	c.out.Wanted, c.out.More = c.o.wanted()
}

func (c *carrier) conflict(at int, x *berthv1.PlanConflict) {
	c.out.Placements[at].Result = &berthv1.PlacementResult_Conflict{Conflict: x}
}

// placements places what must be placed together, one set after the other.
func (c *carrier) placements(b *batch) {
	sets, order := map[string][]int{}, []string{}
	for at, p := range c.r.plan.Placements {
		key := ""
		switch same, _ := c.o.find(p); {
		case c.r.plan.Atomic || c.o.spec.GetGang():
			key = "all"
		case same != nil && c.o.gangOf(same) > 0:
			key = "group " + p.GetGroup()
		default:
			c.settle(b, c.try([]int{at}), false)
			continue
		}
		if sets[key] == nil {
			order = append(order, key)
		}
		sets[key] = append(sets[key], at)
	}
	for _, key := range order {
		if done := c.together(sets[key]); done != nil {
			b.flush()
			c.settle(b, done, true)
		}
	}
}

// together tries a set of placements that are done all or not at all.
func (c *carrier) together(set []int) []trial {
	done := c.try(set)
	missing := 0
	if len(done) == len(set) {
		in := map[*identical]bool{}
		for _, t := range done {
			if gang := c.o.gangOf(t.same); !in[t.same] && gang > c.placedOf(t.same, done) {
				missing = gang
			}
			in[t.same] = true
		}
		if missing == 0 {
			return done
		}
	}
	for _, t := range done {
		c.l.fleet.Undo(t.same.group, t.p)
		if missing > 0 {
			c.conflict(t.at, conflict(berthv1.PlanConflict_together, problem.Conflict, "placements",
				"%d of a gang of %d are in the plan", len(done), missing))
			continue
		}
		c.conflict(t.at, conflict(berthv1.PlanConflict_together, problem.Conflict, "placements", "another placement that goes with it is in conflict"))
	}
	return nil
}

// placedOf counts the trials that belong to the gang of an ask.
func (c *carrier) placedOf(same *identical, done []trial) (n int) {
	for _, t := range done {
		if c.o.spec.GetGang() || t.same.name() == same.name() {
			n++
		}
	}
	return n
}

// try places what it can of a set in the fleet; the rest is in conflict.
func (c *carrier) try(set []int) (done []trial) {
	for _, at := range set {
		p := c.r.plan.Placements[at]
		same, i := c.o.find(p)
		twice := false
		for _, t := range done {
			twice = twice || t.same == same && t.index == p.GetIndex() && t.ask.Node == same.asks[i].Node // same is not nil then
		}
		var x *berthv1.PlanConflict
		switch {
		case same == nil || twice:
			x = conflict(berthv1.PlanConflict_not_wanted, problem.Conflict, "placements", "%s[%d] is not wanted (any more)", p.GetGroup(), p.GetIndex())
		case same.problem != nil:
			x = conflict(berthv1.PlanConflict_not_allowed, problem.Conflict, "placements", "%s", same.problem)
		case c.l.paused:
			x = conflict(berthv1.PlanConflict_paused, problem.Conflict, "placements", "the scheduler is paused, and nothing is placed")
		case c.r.plan.Revision > c.l.view.Revision():
			x = conflict(berthv1.PlanConflict_stale_revision, problem.Conflict, "revision", "the state is at revision %d: a snapshot was restored", c.l.view.Revision())
		}
		if x != nil {
			c.conflict(at, x)
			continue
		}
		placed, x := c.place(same, same.asks[i], p)
		if x != nil {
			c.conflict(at, x)
			continue
		}
		done = append(done, trial{at: at, same: same, ask: same.asks[i], index: p.GetIndex(), p: placed})
	}
	return done
}

// place finds the place of one instance: as it is given, or by Berth's own choice of
// what is left open.
func (c *carrier) place(same *identical, ask Ask, p *berthv1.PlannedInstance) (scheduler.Placement, *berthv1.PlanConflict) {
	f := c.l.fleet
	switch {
	case p.GetNodeId() == "" && p.GetAssignment() != nil:
		return scheduler.Placement{}, conflict(berthv1.PlanConflict_wrong_grant, problem.Invalid, "node_id", "a grant is given, and no node")
	case p.GetNodeId() != "" && p.GetAssignment() != nil:
		placed, err := f.PlaceExact(same.group, p.GetNodeId(), p.GetAssignment())
		if err != nil {
			return placed, c.misfit(err, p)
		}
		return placed, nil
	}
	one := &scheduler.Ask{Group: same.group, Count: 1, Penalised: same.penalised}
	switch {
	case p.GetNodeId() != "":
		if err := f.CheckNode(same.group, p.GetNodeId()); err != nil {
			return scheduler.Placement{}, c.misfit(err, p)
		}
		one.Nodes = []string{p.GetNodeId()}
	case ask.Node != "":
		one.Nodes = []string{ask.Node}
	}
	if same.group.Gang { // one at a time: together sees to it that all are
		alone := *same.group
		alone.Gang = false
		one.Group = &alone
	}
	placed, unplaced := scheduler.Place(f, []*scheduler.Ask{one})
	if len(placed) == 0 && unplaced[0].OverQuota {
		x := conflict(berthv1.PlanConflict_quota, problem.Exhausted, "quota", "%s", unplaced[0].Explanation.GetFailed()[0].GetDetail())
		x.Explanation = unplaced[0].Explanation
		return scheduler.Placement{}, x
	}
	if len(placed) == 0 {
		x := conflict(berthv1.PlanConflict_no_room, problem.Conflict, "placements", "there is no room for %s[%d]", p.GetGroup(), p.GetIndex())
		x.Explanation = unplaced[0].Explanation
		for _, miss := range x.Explanation.GetNearest() {
			for _, s := range miss.GetShortfalls() {
				x.HeldBy = append(x.HeldBy, s.GetHeldBy()...)
			}
		}
		return scheduler.Placement{}, c.stale(x, p)
	}
	return placed[0], nil
}

// settle proposes what was tried.
func (c *carrier) settle(b *batch, done []trial, together bool) {
	begun := 0
	if together {
		begun = b.begin()
	}
	for _, t := range done {
		// Earlier ones of the set may have divided the asks.
		p := c.r.plan.Placements[t.at]
		same, i := c.o.find(p)
		a := c.l.propose(c.j, b, same.pull(i, t.index), t.p)
		id := allocID(a)
		c.r.outcome.allocs[id] = t.at
		c.out.Placements[t.at].Result = &berthv1.PlacementResult_Committed{Committed: &berthv1.CommittedPlacement{
			AllocId: id, NodeId: t.p.NodeID, NodeName: t.p.NodeName, Assignment: t.p.Assignment}}
		if o := c.j.work.outcomes[p.GetGroup()]; o != nil {
			o.Placed++
		}
	}
	if together && len(done) > 0 {
		b.together(begun)
	}
	c.o.asks = slices.DeleteFunc(c.o.asks, func(same *identical) bool { return same.left == 0 })
}

func conflict(reason berthv1.PlanConflict_Reason, kind problem.Kind, field, format string, args ...any) *berthv1.PlanConflict {
	return &berthv1.PlanConflict{Reason: reason, Problem: problem.New(kind, field, format, args...).Proto()}
}

// misfit makes a conflict of what the scheduler says.
func (c *carrier) misfit(err error, p *berthv1.PlannedInstance) *berthv1.PlanConflict {
	reasons := map[scheduler.Why]berthv1.PlanConflict_Reason{
		scheduler.NodeGone: berthv1.PlanConflict_node_gone, scheduler.NotAllowed: berthv1.PlanConflict_not_allowed,
		scheduler.WrongGrant: berthv1.PlanConflict_wrong_grant, scheduler.Held: berthv1.PlanConflict_held,
		scheduler.OverQuota: berthv1.PlanConflict_quota,
	}
	x := &berthv1.PlanConflict{Reason: berthv1.PlanConflict_refused, Problem: problem.From(err).Proto()}
	m := (*scheduler.Misfit)(nil)
	if errors.As(err, &m) {
		x.Reason = reasons[m.Why]
		switch m.Why {
		case scheduler.OverQuota:
			return x // a newer picture of the node says nothing else
		case scheduler.Held:
			x.HeldBy = c.holders(p)
		}
	}
	return c.stale(x, p)
}

// stale turns a conflict on a node that has changed since the plan's picture into one
// that says so.
func (c *carrier) stale(x *berthv1.PlanConflict, p *berthv1.PlannedInstance) *berthv1.PlanConflict {
	n := c.l.nodes[p.GetNodeId()]
	if c.r.plan.Revision > 0 && n.GetModifyRevision() > c.r.plan.Revision {
		x.Reason = berthv1.PlanConflict_stale_revision
	}
	return x
}

// maxHolders bounds who is named.
const maxHolders = 16

// holders are the allocations on a node that hold a CPU, device or port of a grant, or,
// where none does, anything in its cells.
func (c *carrier) holders(p *berthv1.PlannedInstance) (ids []string) {
	var wanted topologyOf
	if wanted.take(p.GetAssignment()) != nil {
		return nil
	}
	var near []string
	for a := range c.l.allocsOn(p.GetNodeId()) {
		if !a.HoldsGrant() || a.GetId() == "" {
			continue
		}
		var held topologyOf
		if held.take(a.GetAssignment()) != nil {
			continue
		}
		switch exactly, cell := wanted.meets(&held); {
		case exactly && len(ids) < maxHolders:
			ids = append(ids, a.GetId())
		case cell && len(near) < maxHolders:
			near = append(near, a.GetId())
		}
	}
	if len(ids) == 0 {
		return near
	}
	return ids
}

// landed takes in what became of an entry of a plan; with its last one the plan is
// answered.
func (r *request) landed(f *flight) {
	r.entries--
	if f.err != nil {
		r.answer(f.err)
		return
	}
	r.outcome.Response.Revision = max(r.outcome.Response.Revision, f.result.Revision)
	for _, refused := range f.result.Refused {
		at, ours := r.outcome.allocs[refused.AllocID]
		if !ours {
			continue
		}
		x := &berthv1.PlanConflict{Reason: berthv1.PlanConflict_refused, Problem: problem.From(refused.Reason).Proto()}
		if x.GetProblem().GetField() == "quota" {
			x.Reason = berthv1.PlanConflict_quota
		}
		r.outcome.Response.Placements[at].Result = &berthv1.PlacementResult_Conflict{Conflict: x}
		r.outcome.Response.Done = false
	}
	if r.entries == 0 {
		r.answer(nil)
	}
}

// answer answers once.
func (r *request) answer(err error) {
	if r.reply != nil {
		r.reply <- err
		r.reply = nil
	}
}
