package consensus

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/berthd/berth/problem"
)

const (
	// forgetAfter is how long a dead or left server stays in the list of members.
	forgetAfter = 24 * time.Hour
	// reclaimAfter is how long a server must be dead before gossip takes it under another
	// address.
	reclaimAfter = time.Second
)

// meta is what travels with a member, in JSON. memberlist allows 512 bytes.
type meta struct {
	Name    string `json:"n,omitempty"`
	Cluster string `json:"c,omitempty"`
	Raft    string `json:"r,omitempty"`
	GRPC    string `json:"g,omitempty"`
	HTTP    string `json:"h,omitempty"`
	Version string `json:"v,omitempty"`
	Expect  int    `json:"e,omitempty"`
	Formed  bool   `json:"f,omitempty"`
	Set     string `json:"s,omitempty"`
	Promise string `json:"p,omitempty"`
	Leaving bool   `json:"l,omitempty"`
}

func encodeMeta(m Member) ([]byte, error) {
	b, err := json.Marshal(meta{m.Name, m.Cluster, m.RaftAddress, m.GRPCAddress, m.HTTPAddress, m.Version,
		m.Expect, m.Formed, m.Set, m.Promise, m.Leaving})
	if err == nil && len(b) > memberlist.MetaMaxSize {
		return nil, problem.New(problem.Invalid, "gossip", "name, cluster name, addresses and version take %d bytes, and %d is the most", len(b), memberlist.MetaMaxSize).
			WithRemedy("use a shorter server name, cluster name or advertised address")
	}
	return b, err
}

func decodeMember(n *memberlist.Node) (Member, error) {
	var t meta
	if err := json.Unmarshal(n.Meta, &t); err != nil {
		return Member{}, fmt.Errorf("server %s at %s speaks another language: %w", n.Name, n.Address(), err)
	}
	return Member{ID: n.Name, Name: t.Name, State: Alive, GossipAddress: n.Address(), Cluster: t.Cluster, RaftAddress: t.Raft,
		GRPCAddress: t.GRPC, HTTPAddress: t.HTTP, Version: t.Version, Expect: t.Expect, Formed: t.Formed,
		Set: t.Set, Promise: t.Promise, Leaving: t.Leaving}, nil
}

// lan is Gossip by memberlist. Its lock is never held while memberlist is called, as memberlist
// calls the Notify methods with its own lock held.
type lan struct {
	list    *memberlist.Memberlist
	cluster string
	changed func()
	logger  *slog.Logger

	mu    sync.Mutex
	self  []byte // encoded meta
	known map[string]*sighting
}

// sighting is the last that was heard of a server; memberlist forgets the dead too soon.
type sighting struct {
	member Member
	gone   time.Time // when it was last seen to die or leave; zero: it is there
}

// startMemberlist is the StartGossip of production.
func startMemberlist(c Config) StartGossip {
	return func(self Member, changed func()) (Gossip, error) {
		encoded, err := encodeMeta(self)
		if err != nil {
			return nil, err
		}
		g := &lan{cluster: c.Cluster, changed: changed, logger: c.Logger, self: encoded, known: map[string]*sighting{}}
		conf, err := g.config(c)
		if err != nil {
			return nil, err
		}
		if g.list, err = memberlist.Create(conf); err != nil {
			return nil, problem.New(problem.Unavailable, "gossip", "listening on %s: %w", c.GossipBind, err).
				WithRemedy("choose another address, or stop what holds this one")
		}
		return g, nil
	}
}

func (g *lan) config(c Config) (*memberlist.Config, error) {
	conf := memberlist.DefaultLANConfig()
	host, port, err := splitAddress("gossip_bind", c.GossipBind)
	if err != nil {
		return nil, err
	}
	conf.Name = c.ID
	conf.BindAddr, conf.BindPort, conf.AdvertisePort = host, port, port
	if c.GossipAdvertise != "" {
		if conf.AdvertiseAddr, conf.AdvertisePort, err = splitAddress("gossip_advertise", c.GossipAdvertise); err != nil {
			return nil, err
		}
	}
	conf.SecretKey = c.GossipKey
	conf.Logger = gossipLogger(c.Logger)
	conf.Delegate, conf.Events, conf.Alive, conf.Merge = g, g, g, g
	conf.DeadNodeReclaimTime = reclaimAfter
	// A handful of servers: whole states are small, and going over them often heals
	// whatever gossip lost.
	conf.PushPullInterval = 10 * time.Second
	conf.TCPTimeout = c.Timing.IO
	return conf, nil
}

// splitAddress parses host:port for the named field; the host must be an IP or resolve.
func splitAddress(field, address string) (string, int, error) {
	bad := func(err error) (string, int, error) {
		return "", 0, problem.New(problem.Invalid, field, "%q is not a host:port to use: %w", address, err)
	}
	host, p, err := net.SplitHostPort(address)
	if err != nil {
		return bad(err)
	}
	port, err := strconv.ParseUint(p, 10, 16)
	if err != nil {
		return bad(err)
	}
	switch {
	case host == "":
		host = "0.0.0.0"
	case net.ParseIP(host) == nil:
		a, err := net.ResolveIPAddr("ip", host)
		if err != nil {
			return bad(err)
		}
		host = a.String()
	}
	return host, int(port), nil
}

// Members implements Gossip.
func (g *lan) Members() []Member {
	g.mu.Lock()
	defer g.mu.Unlock()
	out := make([]Member, 0, len(g.known))
	for id, s := range g.known {
		if !s.gone.IsZero() && time.Since(s.gone) > forgetAfter {
			delete(g.known, id)
			continue
		}
		out = append(out, s.member)
	}
	return sortMembers(out)
}

// Update implements Gossip.
func (g *lan) Update(self Member) error {
	b, err := encodeMeta(self)
	if err != nil {
		return err
	}
	g.mu.Lock()
	g.self = b
	g.mu.Unlock()
	// The change is in our own state at once, and reaches the rest by whole-state
	// exchange even where the broadcast is slow.
	if err := g.list.UpdateNode(time.Second); err != nil {
		g.logger.Debug("telling the other servers", "error", err)
	}
	return nil
}

// Join implements Gossip. memberlist's own time limits bound it, not ctx.
func (g *lan) Join(_ context.Context, addresses []string) (int, error) {
	n, err := g.list.Join(addresses)
	if err != nil {
		return n, fmt.Errorf("joining: %w", err)
	}
	return n, nil
}

// Leave implements Gossip.
func (g *lan) Leave(ctx context.Context) error {
	wait := 5 * time.Second
	if d, ok := ctx.Deadline(); ok {
		wait = max(time.Until(d), time.Millisecond)
	}
	return g.list.Leave(wait)
}

// Close implements Gossip.
func (g *lan) Close() error { return g.list.Shutdown() }

// NodeMeta implements memberlist.Delegate.
func (g *lan) NodeMeta(int) []byte {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.self
}

// NotifyMsg, GetBroadcasts, LocalState and MergeRemoteState implement
// memberlist.Delegate: nothing but meta travels.
func (g *lan) NotifyMsg([]byte)                {}
func (g *lan) GetBroadcasts(int, int) [][]byte { return nil }
func (g *lan) LocalState(bool) []byte          { return nil }
func (g *lan) MergeRemoteState([]byte, bool)   {}

// NotifyJoin implements memberlist.EventDelegate.
func (g *lan) NotifyJoin(n *memberlist.Node) { g.see(n, Alive) }

// NotifyUpdate implements memberlist.EventDelegate.
func (g *lan) NotifyUpdate(n *memberlist.Node) { g.see(n, Alive) }

// NotifyLeave implements memberlist.EventDelegate. It is called for the dead and for those who
// left; the latter have said so before, in their meta.
func (g *lan) NotifyLeave(n *memberlist.Node) { g.see(n, Dead) }

func (g *lan) see(n *memberlist.Node, state State) {
	m, err := decodeMember(n)
	if err != nil {
		g.logger.Warn("a gossip message cannot be used", "error", err)
		return
	}
	s := &sighting{member: m}
	if state != Alive {
		s.gone = time.Now()
		if m.Leaving {
			state = Left
		}
	}
	s.member.State = state
	g.mu.Lock()
	g.known[m.ID] = s
	g.mu.Unlock()
	g.changed()
}

// NotifyAlive implements memberlist.AliveDelegate: servers of other clusters stay out.
func (g *lan) NotifyAlive(n *memberlist.Node) error {
	m, err := decodeMember(n)
	if err == nil && m.Cluster != g.cluster {
		err = fmt.Errorf("server %s at %s belongs to region %q, not to %q", m.Name, n.Address(), m.Cluster, g.cluster)
	}
	return err
}

// NotifyMerge implements memberlist.MergeDelegate: one who joins the wrong cluster is told.
func (g *lan) NotifyMerge(nodes []*memberlist.Node) error {
	for _, n := range nodes {
		if err := g.NotifyAlive(n); err != nil {
			return err
		}
	}
	return nil
}
