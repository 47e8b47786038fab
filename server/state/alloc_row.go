package state

import (
	"math"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// fixedRow is what never changes of an allocation.
type fixedRow struct {
	key    allocKey
	cohort uint32
	node   uint32
	index  uint32
	grant  uint16 // index of Cohort.grants; noGrant: it has no assignment
}

const noGrant = 0xffff

// goneCohort is the cohort of a row whose allocation was removed.
const goneCohort = math.MaxUint32

// hotRow is what changes of an allocation, and is looked at often.
type hotRow struct {
	modifyRevision, assignRevision uint64
	modifyTime, statusTime         int64 // ns since 1970; noTime: none
	version                        uint32
	desired, status                uint8
	marks                          uint8 // of the cold part, what is looked at often
}

// Marks of a row: its health in the lowest bits, and whether it is a canary.
const (
	markHealth = 0x03
	markCanary = 0x04
)

func marksOf(a *berthv1.Alloc) uint8 {
	marks := uint8(a.GetHealth()) & markHealth
	if a.GetCanary() {
		marks |= markCanary
	}
	return marks
}

// AllocRow is an allocation at one revision as the state keeps it: a value that costs
// nothing to make or read. Alloc gives the message. The zero value is no allocation.
type AllocRow struct {
	fixed  fixedRow
	slot   uint32
	hot    hotRow
	cohort *cohort // nil: there is no allocation
	node   *allocNode
	// cold is an encoded Alloc of everything that the rest does not say; mostly empty.
	cold string
}

// cohort is what allocations have in common that one entry placed for one evaluation of
// a group. It never changes once a view may know it.
type cohort struct {
	number         uint32
	job            *allocJob
	group, evalID  string
	createRevision uint64
	createTime     *timestamppb.Timestamp
	createNano     int64
	grants         []grant // the different ones
	version        uint32  // of the job when they were placed

	allocs uint32 // how many there are; the writer's alone
}

// allocJob is a job that has, or had, allocations.
type allocJob struct {
	namespace, name string
	number          uint32
	allocs, gone    uint32        // how many there are, and are still in its list; the writer's alone
	revised         atomic.Uint64 // revision of the last change of its allocations
}

// allocNode is a node that has, or had, allocations.
type allocNode struct {
	id, name string
	number   uint32

	allocs, gone uint32 // as a job's
	forgotten    bool   // the writer's alone
	revised      atomic.Uint64
}

// Exists says whether there is an allocation.
func (r *AllocRow) Exists() bool { return r.cohort != nil }

// ID identifies the allocation.
func (r *AllocRow) ID() AllocID { return r.fixed.key.id() }

// Namespace is the namespace of its job.
func (r *AllocRow) Namespace() string { return r.cohort.job.namespace }

// Job is the job's name.
func (r *AllocRow) Job() string { return r.cohort.job.name }

// Group is the group's name.
func (r *AllocRow) Group() string { return r.cohort.group }

// EvalID is the evaluation that placed it.
func (r *AllocRow) EvalID() string { return r.cohort.evalID }

// Index is its number among the group's instances.
func (r *AllocRow) Index() uint32 { return r.fixed.index }

// NodeID is the node that it is on.
func (r *AllocRow) NodeID() string { return r.node.id }

// JobVersion is the version of the job that it runs.
func (r *AllocRow) JobVersion() uint64 { return uint64(r.hot.version) }

// Desired is what the servers want of it.
func (r *AllocRow) Desired() berthv1.Alloc_Desired { return berthv1.Alloc_Desired(r.hot.desired) }

// Status is how it is, by its agent.
func (r *AllocRow) Status() berthv1.Alloc_Status { return berthv1.Alloc_Status(r.hot.status) }

// Health is whether it is healthy, by its group's update strategy.
func (r *AllocRow) Health() berthv1.Alloc_Health {
	return berthv1.Alloc_Health(r.hot.marks & markHealth)
}

// Canary says whether it is a canary that was not promoted.
func (r *AllocRow) Canary() bool { return r.hot.marks&markCanary != 0 }

// CreateRevision is the revision that made it.
func (r *AllocRow) CreateRevision() uint64 { return r.cohort.createRevision }

// ModifyRevision is the revision of its last change.
func (r *AllocRow) ModifyRevision() uint64 { return r.hot.modifyRevision }

// AssignRevision is the revision of the last change that its agent must know of.
func (r *AllocRow) AssignRevision() uint64 { return r.hot.assignRevision }

// ModifyTime is when it was last changed; zero: not known.
func (r *AllocRow) ModifyTime() time.Time { return timeOf(r.hot.modifyTime) }

// Ended says whether its agent has said that it is over.
func (r *AllocRow) Ended() bool {
	return r.Status() == berthv1.Alloc_complete || r.Status() == berthv1.Alloc_failed
}

// HoldsGrant says whether what it was granted is still its own.
func (r *AllocRow) HoldsGrant() bool { return !r.Ended() }

// Terminal says whether nothing more is expected of it.
func (r *AllocRow) Terminal() bool { return r.Ended() || r.Status() == berthv1.Alloc_lost }

// Wanted says whether it is to run.
func (r *AllocRow) Wanted() bool { return r.Desired() == berthv1.Alloc_run }

// Collectable says whether it may be forgotten; nodeExists is asked where it matters.
func (r *AllocRow) Collectable(nodeExists func() bool) bool {
	return r.Ended() || (r.Status() == berthv1.Alloc_lost && !nodeExists())
}

// Assignment is its grant; it may be shared with other allocations and must not be
// changed.
func (r *AllocRow) Assignment() *berthv1.Assignment {
	if r.fixed.grant == noGrant {
		return nil
	}
	return r.cohort.grants[r.fixed.grant].message
}

// Plain says that there is nothing to say of it in words: no tasks, reasons,
// predecessors.
func (r *AllocRow) Plain() bool { return r.cold == "" }

// Alloc gives the message: a new one whose parts may be shared. nil for no allocation.
func (r *AllocRow) Alloc() *berthv1.Alloc {
	if !r.Exists() {
		return nil
	}
	a := &berthv1.Alloc{}
	r.AllocInto(a)
	return a
}

// AllocInto is Alloc into a message that is empty.
func (r *AllocRow) AllocInto(a *berthv1.Alloc) {
	if r.cold != "" {
		if err := proto.Unmarshal([]byte(r.cold), a); err != nil {
			panic("state: what this store encoded cannot be decoded: " + err.Error())
		}
	}
	c := r.cohort
	a.Id, a.Namespace, a.Job, a.Group, a.EvalId = r.ID().String(), c.job.namespace, c.job.name, c.group, c.evalID
	a.Index, a.NodeId, a.Assignment = r.fixed.index, r.node.id, r.Assignment()
	a.JobVersion = uint64(r.hot.version)
	if a.NodeName == "" {
		a.NodeName = r.node.name
	}
	a.Desired, a.Status = r.Desired(), r.Status()
	a.CreateRevision, a.ModifyRevision, a.AssignRevision = c.createRevision, r.hot.modifyRevision, r.hot.assignRevision
	a.CreateTime = c.createTime
	if a.ModifyTime = c.createTime; r.hot.modifyTime != c.createNano {
		a.ModifyTime = timestampOf(r.hot.modifyTime)
	}
	a.StatusTime = timestampOf(r.hot.statusTime)
}

// coldOf encodes what the rows do not say of an allocation on a node of that name.
func coldOf(a *berthv1.Alloc, nodeName string) string {
	name := a.GetNodeName()
	if name == nodeName {
		name = ""
	}
	if name == "" && a.GetDesiredReason() == "" && a.GetPreemptedBy() == "" && a.GetStatusReason() == "" && len(a.GetTasks()) == 0 &&
		a.GetPreviousAlloc() == "" && a.GetNextAlloc() == "" && len(a.GetReschedules()) == 0 && a.GetRescheduleAfter() == nil &&
		!a.GetCanary() && a.GetHealth() == berthv1.Alloc_undecided && a.GetHealthTime() == nil && !a.GetMoved() {
		return ""
	}
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(&berthv1.Alloc{
		NodeName: name, DesiredReason: a.GetDesiredReason(), PreemptedBy: a.GetPreemptedBy(),
		StatusReason: a.GetStatusReason(), Tasks: a.GetTasks(), PreviousAlloc: a.GetPreviousAlloc(), NextAlloc: a.GetNextAlloc(),
		Reschedules: a.GetReschedules(), RescheduleAfter: a.GetRescheduleAfter(),
		Canary: a.GetCanary(), Health: a.GetHealth(), HealthTime: a.GetHealthTime(), Moved: a.GetMoved(),
	})
	if err != nil {
		// Only invalid UTF-8 fails, and nothing is stored that was not decoded from a valid entry.
		panic("state: an allocation cannot be encoded: " + err.Error())
	}
	return string(b)
}

// noTime stands for a time that is not set.
const noTime = -1 << 63

// nanosOf gives a time in nanoseconds since 1970, as near as they reach (1678 to 2262).
func nanosOf(t *timestamppb.Timestamp) int64 {
	if t == nil {
		return noTime
	}
	const most = (1<<63-1)/1_000_000_000 - 1
	return max(-most, min(most, t.GetSeconds()))*1e9 + int64(max(0, min(999999999, t.GetNanos())))
}

func timestampOf(ns int64) *timestamppb.Timestamp {
	if ns == noTime {
		return nil
	}
	seconds, nanos := splitNanos(ns)
	return &timestamppb.Timestamp{Seconds: seconds, Nanos: nanos}
}

// splitNanos gives a time as a Timestamp has it.
func splitNanos(ns int64) (seconds int64, nanos int32) {
	seconds, nanos = ns/1e9, int32(ns%1e9)
	if nanos < 0 {
		return seconds - 1, nanos + 1e9
	}
	return seconds, nanos
}

func timeOf(ns int64) time.Time {
	if ns == noTime {
		return time.Time{}
	}
	return time.Unix(0, ns).UTC()
}
