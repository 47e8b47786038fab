package consensus

import (
	"context"
	"sync"

	"github.com/hashicorp/raft"
)

// applied is the newest command that the FSM has taken in.
type applied struct{ index, term uint64 }

// nudge tells the followers how far the log is committed as soon as the leader has
// applied an entry that nothing follows. hashicorp/raft tells them with the next entry, or
// after its commit timeout: 10 to 20 ms, in which the agents whose sessions they hold
// wait for what was decided.
//
// What is sent is an AppendEntries without entries, which claims no more than is known:
// this server leads the term (it is asked after the entry was applied, and the entry is
// of that very term), has that entry, and it is committed. A follower that lacks the entry,
// or knows of a newer term, refuses, and nothing has changed.
func (c *Consensus) nudge(ctx context.Context, r *running) {
	busy := &nudged{under: map[raft.ServerID]bool{}}
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.fsm.fresh:
		}
		newest := c.fsm.newest.Load()
		if newest == nil || r.raft.State() != raft.Leader || r.raft.CurrentTerm() != newest.term || r.raft.LastIndex() != newest.index {
			continue
		}
		for _, s := range r.raft.GetConfiguration().Configuration().Servers {
			if string(s.ID) != c.conf.ID && busy.begin(s.ID) {
				go func() { // ends with the transport, if not before
					c.nudgeOne(r, s, newest)
					if busy.end(s.ID) {
						poke(c.fsm.fresh) // another one came meanwhile
					}
				}()
			}
		}
	}
}

func (c *Consensus) nudgeOne(r *running, s raft.Server, newest *applied) {
	from := r.trans.EncodePeer(raft.ServerID(c.conf.ID), r.trans.LocalAddr())
	req := &raft.AppendEntriesRequest{
		RPCHeader:    raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte(c.conf.ID), Addr: from},
		Term:         newest.term,
		PrevLogEntry: newest.index, PrevLogTerm: newest.term, LeaderCommitIndex: newest.index,
	}
	// Who does not hear it hears of the entry the usual way.
	_ = r.trans.AppendEntries(s.ID, s.Address, req, &raft.AppendEntriesResponse{})
}

// nudged has the followers that are being told.
type nudged struct {
	mu    sync.Mutex
	under map[raft.ServerID]bool // true: another one came since
}

// begin says whether to tell a follower now; otherwise end will say that it was wanted.
func (n *nudged) begin(id raft.ServerID) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	_, busy := n.under[id]
	n.under[id] = busy
	return !busy
}

func (n *nudged) end(id raft.ServerID) (again bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	again = n.under[id]
	delete(n.under, id)
	return again
}
