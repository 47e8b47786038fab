// Package consensus keeps Berth's servers of one mind: it wraps hashicorp/raft for the
// log and hashicorp/memberlist for who is there, and knows nothing of what the entries
// mean. The state machine is passed in as a raft.FSM.
//
// It owns the Raft log, the stable store and the snapshots under Config.DataDir, the
// connections between servers on the Raft port, and gossip. It promises:
//
//   - what Propose returned without an error is durable on a majority and applied here;
//   - a cluster is bootstrapped once: a server that has state, or sees one that has,
//     never does it again;
//   - the leader keeps the Raft set in step with gossip: new servers come in as
//     nonvoters and vote once they have caught up, changed addresses are taken over,
//     servers that left go at once and dead ones after Timing.DeadGrace, as long as the
//     rest is a quorum;
//   - a damaged store or snapshot file is a problem that names the file and the way
//     out, never a panic and never wrong data.
//
// The server package composes it: New opens the stores, OnLeadership registers what only
// the leader does, Run does everything else until its context ends. All other methods
// may be called from any goroutine; before Run has started they say Unavailable.
package consensus
