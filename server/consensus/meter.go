package consensus

import (
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
)

// maxGroup is how many entries one sync, one message to a follower and one batch of the
// FSM may hold. See docs/adr/0001-raft-log-store.md.
const maxGroup = 128

// meteredLog counts what a log store is given.
type meteredLog struct {
	raft.LogStore
	appends, entries, bytes, nanos atomic.Uint64
}

// StoreLog implements raft.LogStore.
func (m *meteredLog) StoreLog(l *raft.Log) error { return m.StoreLogs([]*raft.Log{l}) }

// StoreLogs implements raft.LogStore; the store syncs once a call.
func (m *meteredLog) StoreLogs(logs []*raft.Log) error {
	start := time.Now()
	err := m.LogStore.StoreLogs(logs)
	m.nanos.Add(uint64(time.Since(start)))
	if err != nil {
		return err
	}
	var n uint64
	for _, l := range logs {
		n += uint64(len(l.Data))
	}
	m.appends.Add(1)
	m.entries.Add(uint64(len(logs)))
	m.bytes.Add(n)
	return nil
}

// IsMonotonic implements raft.MonotonicLogStore.
func (m *meteredLog) IsMonotonic() bool {
	s, ok := m.LogStore.(raft.MonotonicLogStore)
	return ok && s.IsMonotonic()
}

// meteredFSM counts what the FSM is given, and gives it commands only.
type meteredFSM struct {
	raft.FSM
	batch   raft.BatchingFSM // nil: FSM takes entries one by one
	applied atomic.Uint64    // commands
	batches atomic.Uint64

	newest atomic.Pointer[applied]
	fresh  chan struct{} // holds one: newest is new
}

func newMeteredFSM(fsm raft.FSM) *meteredFSM {
	batch, _ := fsm.(raft.BatchingFSM)
	return &meteredFSM{FSM: fsm, batch: batch, fresh: make(chan struct{}, 1)}
}

// ApplyBatch implements raft.BatchingFSM.
func (m *meteredFSM) ApplyBatch(logs []*raft.Log) []any {
	out := make([]any, len(logs))
	commands := make([]*raft.Log, 0, len(logs))
	for _, l := range logs {
		if l.Type == raft.LogCommand {
			commands = append(commands, l)
		}
	}
	if len(commands) == 0 {
		return out
	}
	var results []any
	if m.batch != nil {
		results = m.batch.ApplyBatch(commands)
	} else {
		for _, l := range commands {
			results = append(results, m.FSM.Apply(l))
		}
	}
	for i, l := range logs {
		if l.Type == raft.LogCommand {
			out[i], results = results[0], results[1:]
		}
	}
	m.applied.Add(uint64(len(commands)))
	m.batches.Add(1)
	last := commands[len(commands)-1]
	m.newest.Store(&applied{last.Index, last.Term})
	poke(m.fresh)
	return out
}

// Stats are counters of this server since it started, and how far it is.
type Stats struct {
	// LogAppends counts writes to the log, each with one sync; LogEntries and LogBytes
	// (of the entries' data) went into them, and they took LogTime in all.
	LogAppends, LogEntries, LogBytes uint64
	LogTime                          time.Duration
	// Applied counts the commands that the FSM took in, in ApplyBatches.
	Applied, ApplyBatches uint64
	// LastIndex is the newest entry of the log; SnapshotIndex the newest that a snapshot holds.
	LastIndex, CommitIndex, AppliedIndex, SnapshotIndex uint64
	Term                                                uint64
	// Elections counts how often this server came to lead.
	Elections uint64
	// Leader says whether it leads; Voters and Members count the Raft set and who gossip hears.
	Leader                     bool
	Voters, Nonvoters, Members int
}
