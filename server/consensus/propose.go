package consensus

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/raft"

	"github.com/berthd/berth/problem"
)

var (
	// ErrNotLeader is in the chain of what a server says that does not lead. Nothing was
	// done.
	ErrNotLeader = errors.New("this server does not lead")
	// ErrUncertain is in the chain where leadership was lost on the way: what was proposed
	// may be applied or not.
	ErrUncertain = errors.New("leadership was lost before the entry was known to be durable")
)

// Propose appends an entry and gives what the FSM said of it, once it is durable on a
// majority and applied here. Only the leader can. When ctx ends first, the entry may
// still be applied.
func (c *Consensus) Propose(ctx context.Context, data []byte) (any, error) {
	var wait time.Duration // for room in the queue; 0: as long as it takes
	if end, ok := ctx.Deadline(); ok {
		wait = max(time.Until(end), 1)
	}
	return c.propose(data, wait).Wait(ctx)
}

// Future is what an entry that was proposed comes to.
type Future struct {
	done   chan struct{}
	result any
	index  uint64
	err    error
}

// Done is closed when Result has something to say.
func (f *Future) Done() <-chan struct{} { return f.done }

// Result gives the FSM's answer and the entry's index; call it after Done.
func (f *Future) Result() (any, uint64, error) { return f.result, f.index, f.err }

// Wait gives the FSM's answer, or the end of ctx.
func (f *Future) Wait(ctx context.Context) (any, error) {
	select {
	case <-f.done:
		return f.result, f.err
	case <-ctx.Done():
		return nil, fmt.Errorf("waiting for the entry to be durable: %w", ctx.Err())
	}
}

// ProposeAsync appends an entry without waiting for it. Entries of one goroutine are
// applied in the order of its calls. What queues up while the disk syncs is written by the
// next sync; the call blocks while a whole group is queued already.
func (c *Consensus) ProposeAsync(data []byte) *Future { return c.propose(data, 0) }

func (c *Consensus) propose(data []byte, wait time.Duration) *Future {
	f := &Future{done: make(chan struct{})}
	fail := func(err error) *Future {
		f.err = err
		close(f.done)
		return f
	}
	if len(data) > MaxEntry {
		return fail(problem.New(problem.Invalid, "", "the change takes %d KiB in the log, and %d KiB is the most", (len(data)+1023)>>10, MaxEntry>>10).
			WithRemedy("make it smaller, or several changes"))
	}
	r, err := c.live()
	if err != nil {
		return fail(err)
	}
	if !r.begin() {
		return fail(c.explain(raft.ErrRaftShutdown))
	}
	applied := r.raft.Apply(data, wait)
	go func() {
		defer r.calls.Done()
		defer close(f.done)
		if err := applied.Error(); err != nil {
			f.err = c.explain(err)
			return
		}
		f.result, f.index = applied.Response(), applied.Index()
	}()
	return f
}

// await waits for an answer of Raft's, or the end of ctx.
func (c *Consensus) await(ctx context.Context, what string, call func(*running) raft.Future) error {
	r, err := c.live()
	if err != nil {
		return err
	}
	if !r.begin() {
		return c.explain(raft.ErrRaftShutdown)
	}
	done := make(chan error, 1)
	go func() {
		defer r.calls.Done()
		done <- call(r).Error()
	}()
	select {
	case err := <-done:
		if err != nil {
			return fmt.Errorf("%s: %w", what, c.explain(err))
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%s: %w", what, ctx.Err())
	}
}

// Barrier returns once everything that was committed before is applied here. Leader only.
func (c *Consensus) Barrier(ctx context.Context) error {
	return c.await(ctx, "waiting for entries to be applied", func(r *running) raft.Future { return r.raft.Barrier(0) })
}

// VerifyLeader asks a quorum whether this server still leads.
func (c *Consensus) VerifyLeader(ctx context.Context) error {
	return c.await(ctx, "asking a quorum who leads", func(r *running) raft.Future { return r.raft.VerifyLeader() })
}

// explain makes a problem of Raft's errors.
func (c *Consensus) explain(err error) error {
	switch {
	case errors.Is(err, raft.ErrLeadershipLost):
		return problem.New(problem.Unavailable, "", "%w: it may be applied or not", ErrUncertain).
			WithRemedy("read what became of it, then decide whether to try again")
	case errors.Is(err, raft.ErrAbortedByRestore):
		return problem.New(problem.Unavailable, "", "%w: a snapshot was restored meanwhile", ErrUncertain).
			WithRemedy("read the restored state, then decide whether to try again")
	case errors.Is(err, raft.ErrNotLeader), errors.Is(err, raft.ErrLeadershipTransferInProgress):
		return c.notLeader()
	case errors.Is(err, raft.ErrRaftShutdown):
		return problem.New(problem.Unavailable, "", "%w any more: it is stopping", ErrNotLeader).WithRemedy("ask another server")
	case errors.Is(err, raft.ErrEnqueueTimeout):
		return problem.New(problem.Unavailable, "", "the leader is too busy: %w", err).WithRemedy("try again")
	}
	return problem.New(problem.Unavailable, "", "%w", err).WithRemedy("try again; if that does not help, see the servers' logs")
}

// notLeader says who leads, if that is known.
func (c *Consensus) notLeader() error {
	l, ok := c.Leader()
	switch {
	case !ok:
		return problem.New(problem.Unavailable, "", "%w, and no leader is known", ErrNotLeader).
			WithRemedy("try again in a second; if that does not help, see berth server members whether a majority is alive")
	case l.ID == c.conf.ID:
		return problem.New(problem.Unavailable, "", "%w just now: leadership is changing hands", ErrNotLeader).WithRemedy("try again")
	}
	return problem.New(problem.Unavailable, "", "%w; %s does", ErrNotLeader, cmpName(l)).WithRemedy("ask it at %s", l.GRPCAddress)
}

// cmpName is a member's name, or its ID where it has none.
func cmpName(m Member) string {
	if m.Name != "" {
		return m.Name
	}
	return m.ID
}

// Leader gives the server that leads, as far as this one knows. Where gossip does not know it yet only its
// ID and Raft address are set.
func (c *Consensus) Leader() (Member, bool) {
	r, err := c.live()
	if err != nil {
		return Member{}, false
	}
	address, id := r.raft.LeaderWithID()
	if id == "" {
		return Member{}, false
	}
	for _, m := range r.gossip.Members() {
		if m.ID == string(id) {
			return m, true
		}
	}
	return Member{ID: string(id), RaftAddress: string(address)}, true
}

// IsLeader says whether this server believes that it leads; VerifyLeader makes sure.
func (c *Consensus) IsLeader() bool {
	r := c.running.Load()
	return r != nil && r.raft.State() == raft.Leader
}

// LastContact says how long ago this server heard its leader, 0 on the leader itself; false: never since
// it started.
func (c *Consensus) LastContact() (time.Duration, bool) {
	r, err := c.live()
	if err != nil {
		return 0, false
	}
	if r.raft.State() == raft.Leader {
		return 0, true
	}
	at := r.raft.LastContact()
	if at.IsZero() {
		return 0, false
	}
	return time.Since(at), true
}

// AppliedIndex is the newest entry that was handed to the FSM, which may be about to take it in.
func (c *Consensus) AppliedIndex() uint64 {
	return c.number((*raft.Raft).AppliedIndex)
}

// CommitIndex is the newest entry that this server knows to be durable on a majority.
func (c *Consensus) CommitIndex() uint64 { return c.number((*raft.Raft).CommitIndex) }

// Term is Raft's term.
func (c *Consensus) Term() uint64 { return c.number((*raft.Raft).CurrentTerm) }

// number is 0 where Raft is not running.
func (c *Consensus) number(of func(*raft.Raft) uint64) uint64 {
	if r := c.running.Load(); r != nil {
		return of(r.raft)
	}
	return 0
}

// Stats gives the counters.
func (c *Consensus) Stats() Stats {
	s := Stats{LogAppends: c.log.appends.Load(), LogEntries: c.log.entries.Load(), LogBytes: c.log.bytes.Load(),
		LogTime: time.Duration(c.log.nanos.Load()), Applied: c.fsm.applied.Load(), ApplyBatches: c.fsm.batches.Load(),
		Elections: c.elections.Load()}
	r := c.running.Load()
	if r == nil {
		return s
	}
	s.LastIndex, s.CommitIndex, s.AppliedIndex, s.Term = r.raft.LastIndex(), r.raft.CommitIndex(), r.raft.AppliedIndex(), r.raft.CurrentTerm()
	if snapshots, err := c.stores.Snapshots.List(); err == nil && len(snapshots) > 0 {
		s.SnapshotIndex = snapshots[0].Index
	}
	s.Leader = r.raft.State() == raft.Leader
	for _, p := range r.raft.GetConfiguration().Configuration().Servers {
		if p.Suffrage == raft.Voter {
			s.Voters++
		} else {
			s.Nonvoters++
		}
	}
	for _, m := range r.gossip.Members() {
		if m.State == Alive {
			s.Members++
		}
	}
	return s
}
