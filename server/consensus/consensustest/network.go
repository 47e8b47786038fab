// Package consensustest has what tests need to run a cluster of servers in one process
// and, in a testing/synctest bubble, in virtual time: a network for Raft and gossip that
// loses, delays and doubles messages and falls apart on demand, and stores that outlive
// the server on them and can be slow.
//
// A server crashes by Partition of itself and the end of its Run's context; it comes back as a new
// Consensus on the same stores, with a new Transport. After the last Run has ended a bubble must sleep a minute or
// so before it ends: hashicorp/raft does not wait for its calls on their way, which end by their
// time limits.
//
// It is for tests of this module; nothing in production imports it.
package consensustest

import (
	"errors"
	"io"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// Fault is what happens to one message.
type Fault struct {
	Lose  bool          // it never arrives; the sender waits for its time limit
	Twice bool          // it arrives again right after it was answered
	Delay time.Duration // it arrives so much later
}

// Network connects the servers of a test, by their IDs. Its zero value is not usable;
// see NewNetwork.
type Network struct {
	timeout time.Duration

	mu     sync.Mutex
	group  map[string]int // of servers that are cut off; who is in no group is in 0
	fault  func(from, to string) Fault
	nodes  map[raft.ServerAddress]*raft.InmemTransport
	owners map[raft.ServerAddress]string
	gossip map[string]*fakeGossip
}

// NewNetwork makes a network whose Raft calls time out after 500 ms.
func NewNetwork() *Network {
	return &Network{timeout: 500 * time.Millisecond, group: map[string]int{}, nodes: map[raft.ServerAddress]*raft.InmemTransport{},
		owners: map[raft.ServerAddress]string{}, gossip: map[string]*fakeGossip{}}
}

// Partition splits the network: servers of different groups do not reach each other.
// Servers that are not named form a group of their own. Without groups it is whole
// again.
func (n *Network) Partition(groups ...[]string) {
	n.mu.Lock()
	n.group = map[string]int{}
	for i, ids := range groups {
		for _, id := range ids {
			n.group[id] = i + 1
		}
	}
	n.mu.Unlock()
	n.spread()
}

// SetFault has f decide about each Raft message; nil: all is well. f is called from many goroutines.
func (n *Network) SetFault(f func(from, to string) Fault) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.fault = f
}

// reaches says whether two servers are in one part of the network; call it with the lock held.
func (n *Network) reaches(from, to string) bool { return n.group[from] == n.group[to] }

// Transport attaches a server at an address of its choice, in place of what was there.
func (n *Network) Transport(id string, address raft.ServerAddress) raft.Transport {
	_, inner := raft.NewInmemTransportWithTimeout(address, n.timeout)
	n.mu.Lock()
	defer n.mu.Unlock()
	for a, t := range n.nodes {
		if a != address {
			inner.Connect(a, t)
			t.Connect(address, inner)
		}
	}
	n.nodes[address], n.owners[address] = inner, id
	return &transport{InmemTransport: inner, net: n, id: id, address: address}
}

var errLost = errors.New("the message was lost")

// deliver calls send as the network allows. A server that is not at that address any
// more does not answer, as in production.
func (n *Network) deliver(from string, id raft.ServerID, to raft.ServerAddress, send func() error) error {
	n.mu.Lock()
	owner := n.owners[to]
	reaches := owner == string(id) && n.reaches(from, owner)
	f := Fault{}
	if n.fault != nil {
		f = n.fault(from, owner)
	}
	n.mu.Unlock()
	time.Sleep(f.Delay)
	if f.Lose || !reaches {
		time.Sleep(n.timeout)
		return errLost
	}
	err := send()
	if f.Twice && err == nil {
		err = send()
	}
	return err
}

// transport is one server's end of the network.
type transport struct {
	*raft.InmemTransport
	net     *Network
	id      string
	address raft.ServerAddress
}

// AppendEntriesPipeline refuses, so that each message passes AppendEntries.
func (t *transport) AppendEntriesPipeline(raft.ServerID, raft.ServerAddress) (raft.AppendPipeline, error) {
	return nil, raft.ErrPipelineReplicationNotSupported
}

// AppendEntries implements raft.Transport.
func (t *transport) AppendEntries(id raft.ServerID, to raft.ServerAddress, req *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	return t.net.deliver(t.id, id, to, func() error { return t.InmemTransport.AppendEntries(id, to, req, resp) })
}

// RequestVote implements raft.Transport.
func (t *transport) RequestVote(id raft.ServerID, to raft.ServerAddress, req *raft.RequestVoteRequest, resp *raft.RequestVoteResponse) error {
	return t.net.deliver(t.id, id, to, func() error { return t.InmemTransport.RequestVote(id, to, req, resp) })
}

// RequestPreVote implements raft.WithPreVote.
func (t *transport) RequestPreVote(id raft.ServerID, to raft.ServerAddress, req *raft.RequestPreVoteRequest, resp *raft.RequestPreVoteResponse) error {
	return t.net.deliver(t.id, id, to, func() error { return t.InmemTransport.RequestPreVote(id, to, req, resp) })
}

// TimeoutNow implements raft.Transport.
func (t *transport) TimeoutNow(id raft.ServerID, to raft.ServerAddress, req *raft.TimeoutNowRequest, resp *raft.TimeoutNowResponse) error {
	return t.net.deliver(t.id, id, to, func() error { return t.InmemTransport.TimeoutNow(id, to, req, resp) })
}

// InstallSnapshot implements raft.Transport. It is a stream, so it is lost but never doubled.
func (t *transport) InstallSnapshot(id raft.ServerID, to raft.ServerAddress, req *raft.InstallSnapshotRequest, resp *raft.InstallSnapshotResponse, data io.Reader) error {
	sent := false
	return t.net.deliver(t.id, id, to, func() error {
		if sent {
			return nil
		}
		sent = true
		return t.InmemTransport.InstallSnapshot(id, to, req, resp, data)
	})
}

// Close implements raft.WithClose.
func (t *transport) Close() error {
	n := t.net
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.nodes[t.address] == t.InmemTransport {
		delete(n.nodes, t.address)
		delete(n.owners, t.address)
		for _, other := range n.nodes {
			other.Disconnect(t.address)
		}
	}
	return t.InmemTransport.Close()
}
