package fsm

import (
	"slices"

	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/scheduler"
	"github.com/berthd/berth/server/rows"
	"github.com/berthd/berth/server/state"
	"github.com/berthd/berth/topology"
)

// rowVersion is the format of entries with compact rows: an older server, which would
// pass over them, stops instead.
const rowVersion = 2

// versionOf is the oldest format that says everything in an entry.
func versionOf(e *berthv1.LogEntry) uint32 {
	if slices.ContainsFunc(e.GetPlan().GetChanges(), func(c *berthv1.AllocChange) bool { return c.GetAssignment() != nil }) {
		return resizeVersion
	}
	if e.GetScheduleRun().GetSkipped() != "" {
		return resizeVersion
	}
	if len(e.GetPlan().GetRows()) > 0 || len(e.GetAllocsReported().GetRows()) > 0 {
		return rowVersion
	}
	return 1
}

// placing places what the rows of a plan say, each that can be.
type placing struct {
	*applier
	cohort rows.Cohort
	into   *state.Cohort
	job    *berthv1.Job
	err    error // why nothing of the cohort can be placed
	nodes  []placingNode
	grants []placingGrant
}

// placingNode is a node that rows name, or why nothing can be placed on it.
type placingNode struct {
	state.OnNode
	usage *topology.Usage
	err   error
}

type placingGrant struct {
	topology.Grant
	number int
	use    scheduler.Use // where the namespace has a quota
	err    error
}

// placeRows places rows. They were read before: nothing is wrong with them.
func (a *applier) placeRows(data []byte) error {
	if len(data) == 0 {
		return nil
	}
	p := &placing{applier: a}
	if err := rows.ReadPlacements(data, p); err != nil {
		return problem.New(problem.Invalid, "plan.rows", "%w", err)
	}
	p.end()
	return nil
}

func (p *placing) end() {
	if p.into != nil {
		p.into.Close()
	}
}

// Cohort implements rows.Placements.
func (p *placing) Cohort(c rows.Cohort) {
	p.end()
	p.cohort, p.grants = c, p.grants[:0]
	p.job, p.err = p.jobTakes(c.Namespace, c.Job, c.JobVersion)
	p.into = p.NewCohort(c, p.timestamp)
}

// Node implements rows.Placements.
func (p *placing) Node(id string) {
	n := placingNode{OnNode: state.OnNode{ID: id}}
	node, err := p.nodeTakes(id)
	if n.err = err; err == nil {
		n.Name = node.GetName()
		n.usage, n.err = p.applier.grants.usage(id)
	}
	p.nodes = append(p.nodes, n)
}

// Grant implements rows.Placements.
func (p *placing) Grant(a *berthv1.Assignment, wire []byte) {
	if n := len(p.grants); n < cap(p.grants) {
		p.grants = p.grants[:n+1] // its memory is used again
	} else {
		p.grants = append(p.grants, placingGrant{})
	}
	g := &p.grants[len(p.grants)-1]
	g.number = p.into.Grant(a, wire)
	if p.applier.grants.quotas.Counts(p.cohort.Namespace) {
		g.use = scheduler.UseOf(a)
	}
	if g.err = scheduler.GrantInto(&g.Grant, a); g.err != nil {
		g.err = problem.New(problem.Invalid, "assignment", "%w", g.err)
	}
}

// Run implements rows.Placements.
func (p *placing) Run(ids *rows.IDs, row, node, grant int, first uint32, count int) {
	for i := range count {
		p.Row(ids.At(row+i), node, grant, first+uint32(i), nil)
	}
}

// Row implements rows.Placements.
func (p *placing) Row(id rows.ID, node, grant int, index uint32, extra *berthv1.Alloc) {
	n, g := &p.nodes[node], &p.grants[grant]
	err := p.settle(n, g)
	if err == nil && !p.into.Place(id, &n.OnNode, index, g.number, extra) {
		n.usage.Remove(&g.Grant)
		err = alreadyThere(id.String())
	} else if err != nil {
		if there := p.AllocRowOf(id); there.Exists() {
			err = alreadyThere(id.String()) // said first, as of messages
		}
	}
	if err != nil {
		p.refused = append(p.refused, Refusal{AllocID: id.String(), Reason: err})
		return
	}
	p.applier.grants.quotas.HoldUse(p.cohort.Namespace, n.ID, &g.use)
	p.succeeds(extra.GetPreviousAlloc(), id.String)
}

// settle makes the checks of applier.settle, in their order; when it gives nil, the grant
// is taken, and the quota is not charged yet.
func (p *placing) settle(n *placingNode, g *placingGrant) error {
	if p.err != nil {
		return p.err
	}
	if n.err != nil {
		return n.err
	}
	if err := p.admitted(p.job, n.ID, n.Name); err != nil {
		return err
	}
	if g.err != nil {
		return g.err
	}
	if err := p.applier.grants.afford(p.cohort.Namespace, &g.use); err != nil {
		return err
	}
	return p.applier.grants.take(n.usage, n.ID, &g.Grant)
}

// reporting writes what the rows of a report say.
type reporting struct{ *applier }

// Update implements rows.Reports.
func (r reporting) Update(u *berthv1.AllocStatusUpdate) { r.reported(u) }

// Plain implements rows.Reports.
func (r reporting) Plain(id rows.ID, status berthv1.Alloc_Status, at int64) {
	stored := r.AllocRowOf(id)
	if !stored.Exists() || (stored.Ended() && !ended(status)) || berthv1.Alloc_Status_name[int32(status)] == "" {
		return
	}
	r.SetStatus(&stored, status, at, r.timestamp)
	if ended(status) && !stored.Ended() {
		r.grants.release(&stored)
	}
}
