// Package fsm turns the Raft log into state. Entries are facts (berthv1.LogEntry): the
// FSM checks a fact's preconditions, writes it and gives back a typed Result; it decides
// nothing else, and uses no clock, randomness or map order, so that every server comes
// to the same state.
//
// Beside the tables it keeps, per node, what is granted there (grants.go) and refuses a
// placement whose cores, devices, ports or memory somebody holds. With the built-in
// scheduler that never happens; it guards against everybody else.
//
// package consensus calls Apply, Snapshot and Restore, from one goroutine at a time.
package fsm

import (
	"fmt"
	"io"
	"time"

	"github.com/hashicorp/raft"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/server/consensus"
	"github.com/berthd/berth/server/state"
)

// EntryVersion is the newest format of log entries that this FSM reads.
const EntryVersion = resizeVersion

// MaxEntry bounds an encoded log entry, in bytes. Proposers split what is larger.
const MaxEntry = consensus.MaxEntry

// Result is what became of an entry.
type Result struct {
	// Revision that the entry made, or would have made.
	Revision uint64
	// Err is a *problem.Error when a precondition failed: nothing was written.
	Err error
	// Refused are the placements of a Plan, and its changes of a grant, that were not written.
	Refused []Refusal
}

// Refusal is a placement, or another grant of an allocation, that did not fit.
type Refusal struct {
	AllocID string
	Reason  error // a *problem.Error
}

// FSM applies the log to a store.
type FSM struct {
	store  *state.Store
	grants *grants
	fatal  func(error)
}

// New makes an FSM that writes to the store, which must be empty and belongs to it from
// now on. fatal is called with an entry that this server is too old to read: going on
// would make its state differ from the others', so the server must stop.
func New(store *state.Store, fatal func(error)) *FSM {
	return &FSM{store: store, grants: newGrants(), fatal: fatal}
}

// Apply applies one committed entry; the answer is a Result.
func (f *FSM) Apply(log *raft.Log) any { return f.apply(log.Index, log.Data) }

// ApplyBatch applies committed entries in order; the answers are Results.
func (f *FSM) ApplyBatch(logs []*raft.Log) []any {
	results := make([]any, len(logs))
	for i, log := range logs {
		if log.Type == raft.LogCommand {
			results[i] = f.apply(log.Index, log.Data)
		}
	}
	return results
}

func (f *FSM) apply(index uint64, data []byte) Result {
	entry, err := Decode(data)
	if err != nil {
		if problem.Is(err, problem.Unsupported) {
			f.fatal(fmt.Errorf("applying log entry %d: %w", index, err))
		}
		return Result{Revision: index, Err: err}
	}
	result := Result{Revision: index}
	f.store.Update(index, entry.GetTime().AsTime(), func(tx *state.Tx) {
		a := applier{Tx: tx, grants: f.grants, timestamp: entry.GetTime()}
		result.Err = a.apply(entry)
		result.Refused = a.refused
	})
	return result
}

// Encode makes the log's form of an entry. An entry above MaxEntry is refused.
func Encode(entry *berthv1.LogEntry) ([]byte, error) {
	data, err := proto.Marshal(entry)
	if err != nil {
		return nil, problem.New(problem.Invalid, "", "encoding a log entry: %w", err)
	}
	if len(data) > MaxEntry {
		return nil, problem.New(problem.Exhausted, "", "the change takes %d KiB in the log, at most %d KiB are possible",
			(len(data)+1023)>>10, MaxEntry>>10).WithRemedy("make the job smaller, or split it")
	}
	return data, nil
}

// Decode reads an entry. Unsupported: a newer server wrote it.
func Decode(data []byte) (*berthv1.LogEntry, error) {
	entry := &berthv1.LogEntry{}
	if err := proto.Unmarshal(data, entry); err != nil {
		return nil, problem.New(problem.Invalid, "", "decoding a log entry of %d bytes: %w", len(data), err)
	}
	if entry.GetVersion() > EntryVersion || (entry.GetFact() == nil && len(entry.ProtoReflect().GetUnknown()) > 0) {
		return nil, problem.New(problem.Unsupported, "", "a newer server wrote this entry (format %d, this server reads %d)",
			entry.GetVersion(), EntryVersion).WithRemedy("upgrade this server")
	}
	if entry.GetVersion() == 0 || entry.GetFact() == nil {
		return nil, problem.New(problem.Invalid, "", "a log entry without version or fact")
	}
	return entry, nil
}

// Snapshot gives the state as it is now, to be written while entries go on being applied.
func (f *FSM) Snapshot() (raft.FSMSnapshot, error) { return snapshot{f.store.View()}, nil }

// Restore replaces the whole state by a snapshot; on an error nothing has changed.
func (f *FSM) Restore(r io.ReadCloser) error {
	defer r.Close()
	restored, err := state.Read(r)
	if err != nil {
		return problem.New(problem.Invalid, "snapshot", "%w", err)
	}
	grants := newGrants()
	grants.rebuild(restored.View())
	f.store.Replace(restored)
	f.grants = grants
	return nil
}

type snapshot struct{ view *state.View }

// Persist writes the snapshot to the sink.
func (s snapshot) Persist(sink raft.SnapshotSink) error {
	if err := s.view.Write(sink); err != nil {
		_ = sink.Cancel() // the error that matters is the first
		return err
	}
	return sink.Close()
}

// Release has nothing to release: views are garbage collected.
func (s snapshot) Release() {}

// applier applies one entry.
type applier struct {
	*state.Tx
	grants    *grants
	timestamp *timestamppb.Timestamp // the entry's; shared by all that it writes
	refused   []Refusal
	reserved  map[string]*berthv1.Reservation // by node; nil: not looked up yet
}

func (a *applier) apply(entry *berthv1.LogEntry) error {
	switch f := entry.GetFact().(type) {
	case *berthv1.LogEntry_ClusterCreated:
		return a.clusterCreated(f.ClusterCreated)
	case *berthv1.LogEntry_JobRegistered:
		return a.jobRegistered(f.JobRegistered)
	case *berthv1.LogEntry_JobStopped:
		return a.jobStopped(f.JobStopped)
	case *berthv1.LogEntry_NodeRegistered:
		return a.nodeRegistered(f.NodeRegistered)
	case *berthv1.LogEntry_NodesChanged:
		return a.nodesChanged(f.NodesChanged)
	case *berthv1.LogEntry_AllocsReported:
		return a.allocsReported(f.AllocsReported)
	case *berthv1.LogEntry_Plan:
		return a.plan(f.Plan)
	case *berthv1.LogEntry_EvaluationsCreated:
		return a.evaluationsCreated(f.EvaluationsCreated)
	case *berthv1.LogEntry_NamespaceSet:
		return a.namespaceSet(f.NamespaceSet)
	case *berthv1.LogEntry_NamespaceDeleted:
		return a.namespaceDeleted(f.NamespaceDeleted)
	case *berthv1.LogEntry_SchedulerConfigSet:
		a.PutSchedulerConfig(revised(f.SchedulerConfigSet, func(c *berthv1.SchedulerConfig) { c.ModifyRevision = a.Revision() }))
		return nil
	case *berthv1.LogEntry_ReservationSet:
		return a.reservationSet(f.ReservationSet)
	case *berthv1.LogEntry_ReservationDeleted:
		return a.reservationDeleted(f.ReservationDeleted)
	case *berthv1.LogEntry_Collected:
		a.collected(f.Collected)
		return nil
	case *berthv1.LogEntry_DeploymentChanged:
		return a.deploymentChanged(f.DeploymentChanged)
	case *berthv1.LogEntry_AllocHealthSet:
		return a.allocHealthSet(f.AllocHealthSet)
	case *berthv1.LogEntry_ScheduleRun:
		return a.scheduleRun(f.ScheduleRun)
	case *berthv1.LogEntry_VariableSet:
		return a.variableSet(f.VariableSet)
	case *berthv1.LogEntry_VariableDeleted:
		return a.variableDeleted(f.VariableDeleted)
	case *berthv1.LogEntry_ImageRegistered:
		return a.imageRegistered(f.ImageRegistered)
	case *berthv1.LogEntry_ImageDeleted:
		a.imageDeleted(f.ImageDeleted)
		return nil
	case *berthv1.LogEntry_GangsDropped:
		a.gangsDropped(f.GangsDropped)
		return nil
	}
	return problem.New(problem.Invalid, "", "a log entry with a fact that is not known")
}

// revised gives a copy of a stored (immutable) message with some fields set.
func revised[T proto.Message](m T, set func(T)) T {
	c := proto.Clone(m).(T)
	set(c)
	return c
}

// NewEntry makes an entry of a fact that is proposed now.
func NewEntry(at time.Time, set func(*berthv1.LogEntry)) *berthv1.LogEntry {
	entry := &berthv1.LogEntry{Time: timestamp(at)}
	set(entry)
	entry.Version = versionOf(entry)
	return entry
}
