package plan

import (
	"google.golang.org/protobuf/proto"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/scheduler"
	"github.com/berthd/berth/server/rows"
)

// placed is an allocation that the loop has placed. The fleet holds it; until the view
// does too, it is in Loop.pending.
type placed struct {
	id     rows.ID
	entry  *entry
	job    jobKey
	group  string
	index  uint32
	node   string
	assign *berthv1.Assignment
}

// alloc is the allocation as the fleet must know of it.
func (p *placed) alloc() *berthv1.Alloc {
	return &berthv1.Alloc{Id: p.id.String(), Namespace: p.job.namespace, Job: p.job.name, Group: p.group,
		Index: p.index, NodeId: p.node, Assignment: p.assign}
}

// place puts a placement into an entry.
func (b *batch) place(j *job, ask Ask, p scheduler.Placement) *placed {
	extra := (*berthv1.Alloc)(nil)
	if ask.Previous != nil || len(ask.Reschedules) > 0 || ask.Canary {
		extra = &berthv1.Alloc{PreviousAlloc: ask.Previous.GetId(), Reschedules: ask.Reschedules, Canary: ask.Canary}
	}
	if e := b.open; e != nil && e.rows != nil && (e.rows.Rows() == rows.MaxRows || e.size+e.rows.Size() > maxPlan/2 && e.rowsAbove(maxPlan, p, extra)) {
		b.flush()
	}
	e := b.room(j, 0)
	if e.rows == nil {
		base, _ := rows.ParseID(b.loop.cfg.NewID())
		e.rows = rows.NewPlacementWriter(base)
	}
	w, spec := j.work, j.work.spec
	if ask.Job != nil {
		spec = ask.Job
	}
	e.rows.Cohort(rows.Cohort{Namespace: j.key.namespace, Job: j.key.name, Group: ask.Group.GetName(), EvalID: w.evalID, JobVersion: spec.GetVersion()})
	id := e.rows.Add(p.NodeID, ask.Index, p.Assignment, extra)
	return e.add(placed{id: id, entry: e, job: j.key, group: ask.Group.GetName(), index: ask.Index, node: p.NodeID, assign: p.Assignment})
}

// rowsAbove says that one more row may bring the entry above a size.
func (e *entry) rowsAbove(most int, p scheduler.Placement, extra *berthv1.Alloc) bool {
	const cohort = 512 // four names, most of them short
	return e.size+e.rows.Size()+len(p.NodeID)+proto.Size(p.Assignment)+proto.Size(extra)+cohort > most
}

// placedBlock is how many placements are kept together.
const placedBlock = 256

// add keeps a placement. The pointer stays good.
func (e *entry) add(p placed) *placed {
	last := len(e.placed) - 1
	if last < 0 || len(e.placed[last]) == cap(e.placed[last]) {
		e.placed = append(e.placed, make([]placed, 0, min(placedBlock, 4<<(2*len(e.placed)))))
		last++
	}
	e.placed[last] = append(e.placed[last], p)
	return &e.placed[last][len(e.placed[last])-1]
}

// placements is how many placements an entry has.
func (e *entry) placements() int {
	if e.rows == nil {
		return 0
	}
	return e.rows.Rows()
}
