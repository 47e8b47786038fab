package state

import (
	"cmp"
	"iter"
	"math"
	"slices"

	"github.com/tidwall/btree"
	"google.golang.org/protobuf/proto"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// allocTable has the allocations as rows in slabs, and indexes without pointers over
// their row numbers (slots). Where a row lies is no part of the state: two stores that
// came to the same allocations by different ways have the same Hash.
type allocTable struct {
	fixed slab[fixedRow]
	hot   slab[hotRow]
	cold  slab[string]

	cohorts slab[*cohort]
	nodes   slab[*allocNode]

	byID     runs[allocEntry]
	ofJobs   slotLists // by the job's number
	ofNodes  slotLists // by the node's number
	used     uint32    // slots that ever were in use: 0 to used-1
	jobNames *btree.BTreeG[*allocJob]
	nodeIDs  *btree.BTreeG[*allocNode]

	w *allocWriter // of the live table; nil in a view
}

// allocEntry finds a row by id.
type allocEntry struct {
	key     allocKey
	slot    uint32
	removed bool
}

func (e allocEntry) before(o allocEntry) bool { return e.key.below(o.key) }
func (e allocEntry) gone() bool               { return e.removed }
func (e allocEntry) head() uint64             { return e.key.hi }

// allocWriter is what only the live table needs.
type allocWriter struct {
	slots, cohorts, jobs, nodes numbers

	slotOf slotIndex
	jobOf  map[[2]string]*allocJob // by namespace and name
	nodeOf map[string]*allocNode   // by id
	last   *cohort                 // that something was put into
	// loading has all cohorts while a snapshot is read, in which they are mixed.
	loading map[cohortKey]*cohort
	// twice says that an id was there twice while a snapshot was read.
	twice bool
}

// maxGrants bounds the different grants of a cohort that is put together message by
// message, because each new one copies the list.
const maxGrants = 1024

type cohortKey struct {
	job            *allocJob
	group, evalID  string
	version        uint32
	createRevision uint64
	createNano     int64
}

func newAllocTable() allocTable {
	return allocTable{
		jobNames: newTree(func(a, b *allocJob) int {
			return cmp.Or(cmp.Compare(a.namespace, b.namespace), cmp.Compare(a.name, b.name))
		}),
		nodeIDs: newTree(func(a, b *allocNode) int { return cmp.Compare(a.id, b.id) }),
		w:       &allocWriter{jobOf: map[[2]string]*allocJob{}, nodeOf: map[string]*allocNode{}},
	}
}

func (t *allocTable) copy() allocTable {
	return allocTable{
		fixed: t.fixed.copy(), hot: t.hot.copy(), cold: t.cold.copy(), cohorts: t.cohorts.copy(), nodes: t.nodes.copy(),
		byID: t.byID.copy(), ofJobs: t.ofJobs.copy(), ofNodes: t.ofNodes.copy(), used: t.used, jobNames: t.jobNames.Copy(), nodeIDs: t.nodeIDs.Copy(),
	}
}

// row gives the row of a slot.
func (t *allocTable) row(slot uint32) AllocRow {
	f := t.fixed.at(slot)
	return AllocRow{fixed: *f, slot: slot, cohort: *t.cohorts.at(f.cohort), node: *t.nodes.at(f.node), hot: *t.hot.at(slot), cold: t.cold.get(slot)}
}

// slot finds an allocation.
func (t *allocTable) slot(key allocKey) (uint32, bool) {
	if t.w != nil {
		return t.w.slotOf.find(&t.fixed, key)
	}
	e, ok := t.byID.find(allocEntry{key: key})
	return e.slot, ok
}

func (t *allocTable) find(key allocKey) (r AllocRow) {
	if slot, ok := t.slot(key); ok {
		r = t.row(slot)
	}
	return r
}

// from iterates by id, starting at the first not below.
func (t *allocTable) from(first allocKey) iter.Seq[uint32] {
	return func(yield func(uint32) bool) {
		t.byID.from(allocEntry{key: first})(func(e allocEntry) bool { return yield(e.slot) })
	}
}

// there says whether a slot that was ever in use has an allocation.
func (t *allocTable) there(slot uint32) bool { return t.fixed.at(slot).cohort != goneCohort }

// all iterates over all slots, in no order that means anything.
func (t *allocTable) all() iter.Seq[uint32] {
	return func(yield func(uint32) bool) {
		for slot := range t.used {
			if t.there(slot) && !yield(slot) {
				return
			}
		}
	}
}

// under iterates over the slots that a list has under a number, in no order that means
// anything. Of the live table it gathers them first, as they may be written meanwhile.
func (t *allocTable) under(lists *slotLists, number uint32) iter.Seq[uint32] {
	slots := lists.of(number)
	if t.w != nil {
		slots = slices.Values(slices.Collect(slots))
	}
	return func(yield func(uint32) bool) {
		for slot := range slots {
			if t.there(slot) && !yield(slot) {
				return
			}
		}
	}
}

func none(func(uint32) bool) {}

func (t *allocTable) ofJob(namespace, name string) iter.Seq[uint32] {
	if j, ok := t.jobNames.Get(&allocJob{namespace: namespace, name: name}); ok {
		return t.under(&t.ofJobs, j.number)
	}
	return none
}

func (t *allocTable) ofNode(id string) iter.Seq[uint32] {
	if n, ok := t.nodeIDs.Get(&allocNode{id: id}); ok {
		return t.under(&t.ofNodes, n.number)
	}
	return none
}

func (t *allocTable) len() int { return t.byID.len() }

// job gives what is known of a job, made when it is new.
func (t *allocTable) job(namespace, name string) *allocJob {
	j := t.w.jobOf[[2]string{namespace, name}]
	if j == nil {
		number, _ := t.w.jobs.take()
		j = &allocJob{namespace: namespace, name: name, number: number}
		t.w.jobOf[[2]string{namespace, name}] = j
		t.jobNames.Set(j)
	}
	return j
}

// node gives what is known of a node, made when it is new.
func (t *allocTable) node(id, name string) *allocNode {
	n := t.w.nodeOf[id]
	if n == nil {
		number, _ := t.w.nodes.take()
		n = &allocNode{id: id, name: name, number: number}
		t.w.nodeOf[id] = n
		t.nodeIDs.Set(n)
		*t.nodes.change(number) = n
	}
	return n
}

// register gives a cohort its number, so that rows may name it.
func (t *allocTable) register(c *cohort) {
	c.number, _ = t.w.cohorts.take()
	*t.cohorts.change(c.number) = c
}

// insert writes the row of a new allocation; none where its id is taken.
func (t *allocTable) insert(f fixedRow, h hotRow, cold string, c *cohort, n *allocNode) AllocRow {
	if _, taken := t.w.slotOf.find(&t.fixed, f.key); taken {
		t.w.twice = true
		return AllocRow{}
	}
	slot, unused := t.w.slots.take()
	t.used = t.w.slots.next
	if unused {
		*t.fixed.fresh(slot), *t.hot.fresh(slot) = f, h
	} else {
		*t.fixed.change(slot), *t.hot.change(slot) = f, h
	}
	if cold != "" {
		*t.cold.change(slot) = cold
	}
	t.w.slotOf.add(f.key, slot)
	t.byID.add(allocEntry{key: f.key, slot: slot})
	t.ofJobs.add(c.job.number, slot, unused)
	t.ofNodes.add(n.number, slot, unused)
	c.allocs++
	c.job.allocs++
	n.allocs++
	return AllocRow{fixed: f, slot: slot, cohort: c, node: n, hot: h, cold: cold}
}

// update writes what changes of an allocation that is there.
func (t *allocTable) update(slot uint32, h hotRow, cold string) {
	*t.hot.change(slot) = h
	if t.cold.get(slot) != cold {
		*t.cold.change(slot) = cold
	}
}

// remove takes an allocation out and gives it.
func (t *allocTable) remove(key allocKey) (r AllocRow) {
	slot, ok := t.slot(key)
	if !ok {
		return r
	}
	r = t.row(slot)
	t.w.slotOf.remove(&t.fixed, key)
	t.byID.remove(allocEntry{key: key, removed: true})
	*t.fixed.change(slot) = fixedRow{cohort: goneCohort}
	if r.cold != "" {
		*t.cold.change(slot) = ""
	}
	t.leave(r.cohort, r.node)
	return r
}

// sweep takes what is gone out of a list; slots that are in no list any more may be used again.
func (t *allocTable) sweep(lists, other *slotLists, number uint32) {
	lists.sweep(number, func(slot uint32) bool {
		gone := !t.there(slot)
		if gone && !other.lists(slot) {
			t.w.slots.give(slot)
		}
		return gone
	})
}

// leave forgets a cohort, a job and a node that have no allocations any more.
func (t *allocTable) leave(c *cohort, n *allocNode) {
	w, j := t.w, c.job
	if c.allocs--; c.allocs == 0 {
		*t.cohorts.change(c.number) = nil
		w.cohorts.give(c.number)
		if w.last == c {
			w.last = nil
		}
	}
	j.allocs--
	n.allocs--
	if j.gone++; sweepDue(j.allocs, j.gone) {
		t.sweep(&t.ofJobs, &t.ofNodes, j.number)
		j.gone = 0
	}
	if n.gone++; sweepDue(n.allocs, n.gone) {
		t.sweep(&t.ofNodes, &t.ofJobs, n.number)
		n.gone = 0
	}
	t.unusedJob(j)
	t.unusedNode(n)
}

// unusedJob forgets a job without allocations.
func (t *allocTable) unusedJob(j *allocJob) {
	if name := [2]string{j.namespace, j.name}; j.allocs == 0 && t.w.jobOf[name] == j {
		t.jobNames.Delete(j)
		delete(t.w.jobOf, name)
		t.w.jobs.give(j.number)
	}
}

// unusedNode forgets a node without allocations.
func (t *allocTable) unusedNode(n *allocNode) {
	if n.allocs == 0 && t.w.nodeOf[n.id] == n {
		n.forgotten = true
		t.nodeIDs.Delete(n)
		delete(t.w.nodeOf, n.id)
		t.w.nodes.give(n.number)
		*t.nodes.change(n.number) = nil
	}
}

// put writes a message; false: it was not there before.
func (t *allocTable) put(a *berthv1.Alloc) (before, after AllocRow) {
	id, ok := ParseAllocID(a.GetId())
	if !ok {
		panic("state: an allocation's id that is none was let in: " + a.GetId())
	}
	key := keyOf(id)
	if slot, ok := t.slot(key); ok {
		before = t.row(slot)
		if before.sameFixed(a) {
			hot, cold := hotOf(a), coldOf(a, before.node.name)
			t.update(slot, hot, cold)
			after = before
			after.hot, after.cold = hot, cold
			return before, after
		}
		t.remove(key)
	}
	n := t.node(a.GetNodeId(), a.GetNodeName())
	c, grant := t.cohortOf(a)
	return before, t.insert(fixedRow{key: key, cohort: c.number, node: n.number, index: a.GetIndex(), grant: grant}, hotOf(a), coldOf(a, n.name), c, n)
}

func hotOf(a *berthv1.Alloc) hotRow {
	return hotRow{
		modifyRevision: a.GetModifyRevision(), assignRevision: a.GetAssignRevision(),
		modifyTime: nanosOf(a.GetModifyTime()), statusTime: nanosOf(a.GetStatusTime()),
		version: versionOf(a.GetJobVersion()), desired: uint8(a.GetDesired()), status: uint8(a.GetStatus()), marks: marksOf(a),
	}
}

// versionOf bounds a job's version, which is counted up from 1.
func versionOf(v uint64) uint32 { return uint32(min(v, math.MaxUint32)) }

// sameFixed says whether a message differs from the row in nothing but what changes.
func (r *AllocRow) sameFixed(a *berthv1.Alloc) bool {
	c := r.cohort
	return a.GetNodeId() == r.node.id && a.GetIndex() == r.fixed.index && a.GetGroup() == c.group && a.GetJob() == c.job.name &&
		a.GetNamespace() == c.job.namespace && a.GetEvalId() == c.evalID && a.GetCreateRevision() == c.createRevision &&
		nanosOf(a.GetCreateTime()) == c.createNano && sameAssignment(a.GetAssignment(), r.Assignment())
}

func sameAssignment(a, b *berthv1.Assignment) bool { return a == b || proto.Equal(a, b) }

// cohortOf finds, or makes, the cohort of an allocation, and its grant there.
func (t *allocTable) cohortOf(a *berthv1.Alloc) (*cohort, uint16) {
	w := t.w
	key := cohortKey{t.job(a.GetNamespace(), a.GetJob()), a.GetGroup(), a.GetEvalId(), versionOf(a.GetJobVersion()),
		a.GetCreateRevision(), nanosOf(a.GetCreateTime())}
	c := w.last
	if w.loading != nil {
		c = w.loading[key]
	}
	if c == nil || c.key() != key || len(c.grants) >= maxGrants {
		c = &cohort{job: key.job, group: key.group, evalID: key.evalID, version: key.version,
			createRevision: key.createRevision, createNano: key.createNano, createTime: a.GetCreateTime()}
		t.register(c)
	}
	grant := uint16(noGrant)
	if a.GetAssignment() != nil {
		if grant = c.grantOf(a.GetAssignment()); grant == noGrant {
			amended := *c // a view may know it
			amended.grants = append(slices.Clip(c.grants), grantOf(a.GetAssignment()))
			c, grant = &amended, uint16(len(amended.grants)-1)
			*t.cohorts.change(c.number) = c
		}
	}
	w.last = c
	if w.loading != nil {
		w.loading[key] = c
	}
	return c, grant
}

func (c *cohort) key() cohortKey {
	return cohortKey{c.job, c.group, c.evalID, c.version, c.createRevision, c.createNano}
}

// grantOf finds a grant among the newest of the cohort's; noGrant: it is not there.
func (c *cohort) grantOf(a *berthv1.Assignment) uint16 {
	for i := len(c.grants) - 1; i >= max(0, len(c.grants)-8); i-- {
		if sameAssignment(c.grants[i].message, a) {
			return uint16(i)
		}
	}
	return noGrant
}
