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
	followers := &nudged{told: map[raft.ServerID]*applied{}, under: map[raft.ServerID]bool{}}
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
			if string(s.ID) != c.conf.ID && followers.begin(s.ID, newest) {
				go func() { // ends with the transport, if not before
					c.nudgeOne(r, s, newest)
					followers.end(s.ID)
					poke(c.fsm.fresh) // another entry may have come meanwhile
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

// nudged has what the followers were told: of an entry once, whatever came of that.
type nudged struct {
	mu    sync.Mutex
	told  map[raft.ServerID]*applied
	under map[raft.ServerID]bool // is being told
}

// begin says whether to tell a follower of an entry now.
func (n *nudged) begin(id raft.ServerID, newest *applied) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.under[id] || n.told[id] == newest {
		return false
	}
	n.told[id], n.under[id] = newest, true
	return true
}

func (n *nudged) end(id raft.ServerID) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.under[id] = false
}
