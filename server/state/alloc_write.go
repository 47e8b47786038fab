package state

import (
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/server/rows"
)

// Cohort takes allocations in that an entry places together. It is only good within the
// Update that made it.
type Cohort struct {
	tx   *Tx
	c    *cohort
	made bool // it has a number: something was placed
}

// OnNode is a node that allocations are placed on, looked up once for all of an entry's.
type OnNode struct {
	ID, Name string

	node *allocNode
}

// of gives what the table knows of the node.
func (n *OnNode) of(t *allocTable) *allocNode {
	if n.node == nil || n.node.forgotten {
		n.node = t.node(n.ID, n.Name)
	}
	return n.node
}

// NewCohort begins a cohort of allocations that are made at that time.
func (tx *Tx) NewCohort(c rows.Cohort, at *timestamppb.Timestamp) *Cohort {
	return &Cohort{tx: tx, c: &cohort{
		job: tx.allocs.job(c.Namespace, c.Job), group: c.Group, evalID: c.EvalID, version: versionOf(c.JobVersion),
		createRevision: tx.revision, createTime: at, createNano: nanosOf(at),
	}}
}

// Grant adds a grant, with its encoding, and gives its number.
func (c *Cohort) Grant(a *berthv1.Assignment, wire []byte) int {
	c.c.grants = append(c.c.grants, grant{a, string(wire)})
	return len(c.c.grants) - 1
}

// Place stores a new allocation, which is wanted and pending; false: that id is taken.
// Of extra, which may be nil, only what the rest does not say is kept. A grant is the
// number that Grant gave.
func (c *Cohort) Place(id AllocID, on *OnNode, index uint32, grant int, extra *berthv1.Alloc) bool {
	t, tx := &c.tx.allocs, c.tx
	node := on.of(t)
	cold, marks := "", uint8(0)
	if extra != nil || node.name != on.Name {
		a := &berthv1.Alloc{PreviousAlloc: extra.GetPreviousAlloc(), Reschedules: extra.GetReschedules(), Canary: extra.GetCanary(), NodeName: on.Name}
		cold, marks = coldOf(a, node.name), marksOf(a)
	}
	if !c.made {
		c.made = true
		t.register(c.c)
	}
	hot := hotRow{modifyRevision: tx.revision, assignRevision: tx.revision, modifyTime: c.c.createNano, statusTime: noTime, version: c.c.version, marks: marks}
	row := t.insert(fixedRow{key: keyOf(id), cohort: c.c.number, node: node.number, index: index, grant: uint16(grant)}, hot, cold, c.c, node)
	if !row.Exists() {
		t.unusedNode(node)
		return false
	}
	tx.allocChanged(&AllocRow{}, &row)
	return true
}

// Close ends the cohort. What it has no allocations for is forgotten.
func (c *Cohort) Close() {
	t := &c.tx.allocs
	if c.made && c.c.allocs == 0 {
		*t.cohorts.change(c.c.number) = nil
		t.w.cohorts.give(c.c.number)
	}
	t.unusedJob(c.c.job)
}

// SetStatus stores what an agent says of an allocation in a status alone, at a time in ns
// since 1970: earlier reasons and tasks are forgotten. The row must be of this Update.
func (tx *Tx) SetStatus(row *AllocRow, status berthv1.Alloc_Status, at int64, now *timestamppb.Timestamp) {
	after := *row
	after.hot.status, after.hot.statusTime = uint8(status), at
	after.hot.modifyRevision, after.hot.modifyTime = tx.revision, nanosOf(now)
	if after.cold != "" {
		rest := &berthv1.Alloc{}
		if err := proto.Unmarshal([]byte(after.cold), rest); err != nil {
			panic("state: what this store encoded cannot be decoded: " + err.Error())
		}
		rest.Tasks, rest.StatusReason = nil, ""
		after.cold = coldOf(rest, "")
	}
	tx.allocs.update(row.slot, after.hot, after.cold)
	tx.allocChanged(row, &after)
}
