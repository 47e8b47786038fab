// Package session keeps an agent in touch with the servers: it dials one of them, says
// who the node is, takes assignments down and reports up, and dials another one when
// that ends. The agent dials, always.
//
// It promises that assignments are applied whole and in order (a complete one, then
// deltas that chain; a gap ends the session), that a server that has fallen behind or
// belongs to another cluster does not take anything away, and that a report is repeated
// until a server has made it durable. Being without servers is not an error: Run goes
// on dialling until its context ends.
//
// The agent composes it with the runner (Assignments), the store (Memory) and the
// access package (Streams).
package session

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

const (
	protocolVersion = 1
	// The wait between rounds over all servers grows from dialMin to dialMax. With its
	// jitter that is well below what a new leader gives agents to be heard (TTL and Grace in
	// package dispatch, 10.5 s): who waits longer is down after every loss of the quorum.
	dialMin = 100 * time.Millisecond
	dialMax = 4 * time.Second
	// steady is how long a session must have lasted for the next dial not to wait.
	steady = 10 * time.Second
	// stalePatience is how long assignments older than what is held are refused. A
	// server that lags catches up; a cluster that was restored does not.
	stalePatience = time.Minute
	// sayAgain is how long a failure that repeats itself is not repeated in the log.
	sayAgain = 10 * time.Minute
	// maxMessage bounds a message from a server, in bytes: a complete Assignments with
	// all its jobs.
	maxMessage = 256 << 20
)

// Assignments takes what the node is to run. An error ends the session.
type Assignments interface {
	Apply(*berthv1.Assignments) error
}

// Memory is what outlives the agent.
type Memory interface {
	Servers() []string
	SetServers([]string) error
	ClusterID() string
	SetClusterID(string) error
	Confirm([]*berthv1.AllocStatusUpdate) error
}

// Streams serves what people ask of allocations; it returns when the stream is done.
type Streams interface {
	Serve(ctx context.Context, order *berthv1.StreamOrder, stream grpc.BidiStreamingClient[berthv1.StreamFrame, berthv1.StreamFrame])
}

// Discovery is what the agent wants to know of the cluster beside its assignments, and
// takes the answers.
type Discovery interface {
	Topics() []*berthv1.Topic
	// Changed has something when Topics gives something else than before.
	Changed() <-chan struct{}
	Know(*berthv1.Known)
}

// Config is what a Client works with.
type Config struct {
	// Servers are the gRPC addresses to begin with; those that servers tell are added.
	Servers []string
	TLS     *tls.Config // nil: plain
	// Dialer replaces the network in tests; nil: TCP.
	Dialer      func(ctx context.Context, addr string) (net.Conn, error)
	Node        func() *berthv1.Node
	Assignments Assignments
	Memory      Memory
	Reports     *Reports
	Streams     Streams
	Discovery   Discovery // nil: nothing
	// Contact is told when the servers were last heard; the zero time: they are heard.
	Contact func(lost time.Time)
	// Clock is told how far the servers' clock is ahead of the node's, at every heartbeat.
	Clock func(ahead time.Duration)
	Log   *slog.Logger
	// Revision is what the agent holds when it starts.
	Revision uint64
}

// Client keeps the sessions of one agent.
type Client struct {
	cfg Config
	log *slog.Logger

	nodeChanged chan struct{}

	mu         sync.Mutex
	revision   uint64    // results_in of what is held
	staleSince time.Time // since when only older assignments were offered
	servers    []string  // as the servers told; nil: not yet
	lastHeard  time.Time
	connected  string                     // address of the server of the session; "": none
	rpc        berthv1.AgentServiceClient // of that server; nil: none
	said       map[string]time.Time       // when a failure was last logged, by its words
}

// New makes a Client; it dials nothing yet.
func New(cfg Config) *Client {
	if cfg.Contact == nil {
		cfg.Contact = func(time.Time) {}
	}
	if cfg.Clock == nil {
		cfg.Clock = func(time.Duration) {}
	}
	return &Client{cfg: cfg, log: cfg.Log, revision: cfg.Revision, nodeChanged: make(chan struct{}, 1)}
}

// NodeChanged has the node sent again, as Config.Node gives it.
func (c *Client) NodeChanged() {
	select {
	case c.nodeChanged <- struct{}{}:
	default:
	}
}

// Connected is the address of the server that the agent has a session with; "": none.
func (c *Client) Connected() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.connected
}

// errRedirect ends a session whose server said to dial another one.
var errRedirect = errors.New("the server asks to dial another one")

// Run keeps a session until ctx ends.
func (c *Client) Run(ctx context.Context) error {
	if len(c.addresses()) == 0 {
		return problem.New(problem.Invalid, "servers", "the agent knows no server").
			WithRemedy("name at least one with -servers or in the configuration")
	}
	c.mu.Lock()
	c.servers = c.cfg.Memory.Servers()
	c.lastHeard = time.Now()
	c.mu.Unlock()
	c.cfg.Contact(time.Now())
	var last string
	for round := 0; ctx.Err() == nil; round++ {
		for _, addr := range c.shuffled(last) {
			began := time.Now()
			err := c.session(ctx, addr)
			c.ended(ctx, addr, err)
			if ctx.Err() != nil {
				return nil
			}
			last = addr
			if time.Since(began) >= steady || errors.Is(err, errRedirect) {
				round = 0
			}
			if time.Since(began) >= steady {
				break // the list may have changed
			}
			pause(ctx, jitter(dialMin/5))
		}
		pause(ctx, jitter(min(dialMin<<min(round, 16), dialMax)))
	}
	return nil
}

// ended says why a session ended.
func (c *Client) ended(ctx context.Context, addr string, err error) {
	c.mu.Lock()
	was, heard := c.connected, c.lastHeard
	c.connected, c.rpc = "", nil
	c.mu.Unlock()
	if was != "" {
		c.cfg.Contact(heard)
	}
	switch {
	case ctx.Err() != nil:
		c.log.Info("the session was closed because the agent ends; workloads go on", "server", addr)
	case was != "":
		c.log.Warn("the session with the server ended; workloads go on, another server is dialled", "server", addr, "why", err)
	default:
		c.log.Log(ctx, c.loudness(addr+": "+err.Error()), "no session with this server; workloads go on, dialling goes on", "server", addr, "why", err)
	}
}

// loudness lets the same words be a warning once in sayAgain only.
func (c *Client) loudness(words string) slog.Level {
	c.mu.Lock()
	defer c.mu.Unlock()
	if at, ok := c.said[words]; ok && time.Since(at) < sayAgain {
		return slog.LevelDebug
	}
	if c.said == nil || len(c.said) > 100 {
		c.said = map[string]time.Time{}
	}
	c.said[words] = time.Now()
	return slog.LevelWarn
}

// addresses are all servers that the agent knows of.
func (c *Client) addresses() []string {
	c.mu.Lock()
	told := c.servers
	c.mu.Unlock()
	if told == nil {
		told = c.cfg.Memory.Servers()
	}
	var all []string
	for _, a := range append(slices.Clone(told), c.cfg.Servers...) {
		if a != "" && !slices.Contains(all, a) {
			all = append(all, a)
		}
	}
	return all
}

// shuffled are the addresses in random order, the one just lost at the end.
func (c *Client) shuffled(last string) []string {
	all := c.addresses()
	rand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	slices.SortStableFunc(all, func(a, b string) int {
		switch {
		case a == last && b != last:
			return 1
		case b == last && a != last:
			return -1
		}
		return 0
	})
	return all
}

// dial makes the connection of one session. It connects when it is first used.
func (c *Client) dial(addr string) (*grpc.ClientConn, error) {
	creds := insecure.NewCredentials()
	if c.cfg.TLS != nil {
		creds = credentials.NewTLS(c.cfg.TLS)
	}
	opts := []grpc.DialOption{
		grpc.WithTransportCredentials(creds),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage)),
		grpc.WithReadBufferSize(16 << 10), grpc.WithWriteBufferSize(16 << 10),
		grpc.WithIdleTimeout(0),
	}
	if c.cfg.Dialer != nil {
		opts = append(opts, grpc.WithContextDialer(c.cfg.Dialer))
	}
	conn, err := grpc.NewClient("passthrough:///"+addr, opts...)
	if err != nil {
		return nil, fmt.Errorf("dialling %s: %w", addr, err)
	}
	return conn, nil
}

// heard notes that a server said something.
func (c *Client) heard() {
	c.mu.Lock()
	c.lastHeard = time.Now()
	c.mu.Unlock()
}

// learn remembers the servers' addresses.
func (c *Client) learn(servers []string) {
	servers = slices.Sorted(slices.Values(servers)) // each server may have its own order
	c.mu.Lock()
	same := len(servers) == 0 || slices.Equal(servers, c.servers)
	if !same {
		c.servers = slices.Clone(servers)
	}
	c.mu.Unlock()
	if same {
		return
	}
	c.log.Info("the servers are", "servers", servers)
	if err := c.cfg.Memory.SetServers(servers); err != nil {
		c.log.Warn("the servers' addresses cannot be stored", "error", err)
	}
}

// pause waits, or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// jitter gives between half of d and one and a half.
func jitter(d time.Duration) time.Duration { return d/2 + rand.N(d) }
