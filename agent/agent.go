// Package agent is the daemon on a host: it tells the servers what the node is, pulls
// what it was assigned, runs that through drivers and reports how it is.
//
// It promises that an agent that ends, for whatever reason, never touches a workload:
// the next one takes it up again. It dials the servers and is never dialled. The parts
// are packages of their own: session (the way to the servers), runner (allocations and
// tasks), store (what is remembered), inventory (what the node is made of), access
// (logs, exec and files for people). Package command composes and runs it.
package agent

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berthd/berth/agent/access"
	"github.com/berthd/berth/agent/discovery"
	"github.com/berthd/berth/agent/dns"
	"github.com/berthd/berth/agent/inventory"
	"github.com/berthd/berth/agent/runner"
	"github.com/berthd/berth/agent/session"
	"github.com/berthd/berth/agent/store"
	"github.com/berthd/berth/drivers"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// Agent is one host's agent.
type Agent struct {
	cfg       Config
	log       *slog.Logger
	store     *store.Store
	inventory *inventory.Inventory
	drivers   map[string]drivers.Driver
	runner    *runner.Manager
	client    *session.Client
	catalog   *discovery.Catalog
	rebooted  bool

	node  atomic.Pointer[berthv1.Node]
	words atomic.Pointer[words]
	// nodeMu makes one change of node follow the other.
	nodeMu sync.Mutex
	clock  clock
	// dnsAddress is where names are answered; nil or "": nowhere.
	dnsAddress atomic.Pointer[string]

	mu          sync.Mutex
	stopSession context.CancelFunc
	sessionDone chan struct{}
}

// New opens the agent's data directory; it starts nothing. Run closes it again.
func New(cfg Config) (*Agent, error) {
	cfg, err := cfg.complete()
	if err != nil {
		return nil, err
	}
	st, err := store.Open(filepath.Join(cfg.DataDir, "agent"), cfg.Logger)
	if err != nil {
		return nil, err
	}
	a := &Agent{
		cfg: cfg, log: cfg.Logger, store: st, drivers: map[string]drivers.Driver{},
		inventory: inventory.New(cfg.Root, cfg.DataDir), sessionDone: make(chan struct{}),
		catalog: discovery.New(),
	}
	a.clock.log = cfg.Logger
	a.words.Store(&words{cfg.Meta, cfg.Taints})
	for _, d := range cfg.Drivers {
		a.drivers[d.Info().Name] = d
	}
	return a, nil
}

// NodeID is the node's id.
func (a *Agent) NodeID() string { return a.store.NodeID() }

// Node is the node as it was last seen; nil before Run has looked. It must not be changed.
func (a *Agent) Node() *berthv1.Node { return a.node.Load() }

// words are what the configuration says of the node, and can be changed.
type words struct {
	meta   map[string]string
	taints []*berthv1.Taint
}

// Reconfigure changes what can be changed while the agent runs: the node's meta words and
// taints. The servers are told at once. Neither argument may be changed afterwards.
func (a *Agent) Reconfigure(meta map[string]string, taints []*berthv1.Taint) {
	a.words.Store(&words{meta, taints})
	if a.node.Load() != nil {
		a.assemble()
	}
}

// Close gives the data directory back where Run was never called.
func (a *Agent) Close() error { return a.store.Close() }

// Connected is the address of the server that the agent has a session with; "": none.
func (a *Agent) Connected() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.client == nil {
		return ""
	}
	return a.client.Connected()
}

// Run runs the agent until ctx ends. The workloads go on; StopWorkloads before that
// stops them.
func (a *Agent) Run(ctx context.Context) (err error) {
	defer func() {
		if cerr := a.store.Close(); err == nil && cerr != nil {
			err = fmt.Errorf("closing the agent's store: %w", cerr)
		}
	}()
	a.look(ctx)
	a.noteBoot()
	reports := session.NewReports()
	if err := a.compose(reports); err != nil {
		return err
	}
	// The session ends first, then what it calls.
	sessionCtx, stopSession := context.WithCancel(ctx)
	defer stopSession()
	runCtx, stopRun := context.WithCancel(context.WithoutCancel(ctx))
	defer stopRun()
	a.mu.Lock()
	a.stopSession = stopSession
	a.mu.Unlock()

	var wg sync.WaitGroup
	wg.Go(func() { _ = a.runner.Run(runCtx) })
	if a.cfg.DNS.Address != "" {
		responder := dns.New(dns.Config{Address: a.cfg.DNS.Address, TTL: a.cfg.DNS.TTL, Region: a.cfg.Region, Catalog: a.catalog, Log: a.log, Listening: a.dnsListens})
		wg.Go(func() { _ = responder.Run(runCtx) })
	}
	wg.Go(func() { a.watch(runCtx) })
	err = a.client.Run(sessionCtx)
	close(a.sessionDone)
	if err == nil {
		<-ctx.Done()
	}
	stopRun()
	wg.Wait()
	a.tidy()
	return err
}

// compose makes the parts that need the node to be known.
func (a *Agent) compose(reports *session.Reports) error {
	m := runner.New(runner.Config{
		Store: a.store, Reporter: reports, Log: a.log, Rebooted: a.rebooted, MaxDead: a.cfg.MaxDeadAllocs,
		Layout: runner.Layout{Data: a.cfg.DataDir, Secrets: a.secretsDir()},
		Driver: func(name string) drivers.Driver { return a.drivers[name] },
		Node:   a.node.Load, Catalog: a.catalog,
		FetchDisk: func(ctx context.Context, alloc string) (io.ReadCloser, error) {
			a.mu.Lock()
			client := a.client // made below, of the runner
			a.mu.Unlock()
			return client.FetchDisk(ctx, alloc)
		},
	})
	if err := m.Restore(); err != nil {
		return err
	}
	revision := uint64(0)
	if content, err := a.store.Load(); err == nil {
		revision = content.Revision
	}
	client := session.New(session.Config{
		Servers: a.cfg.Servers, TLS: a.cfg.TLS, Dialer: a.cfg.Dialer, Log: a.log,
		Node: a.node.Load, Assignments: m, Memory: a.store, Reports: reports, Revision: revision,
		Discovery: a.catalog, Streams: access.New(m, a.log), Contact: m.Disconnected, Clock: a.heardClock,
	})
	a.mu.Lock()
	defer a.mu.Unlock()
	a.runner, a.client = m, client
	return nil
}

// StopWorkloads closes the session and stops everything that runs here; it returns when
// all has ended, or ctx has. Call it while Run runs, and end Run afterwards.
func (a *Agent) StopWorkloads(ctx context.Context) error {
	a.mu.Lock()
	stop, m := a.stopSession, a.runner
	a.mu.Unlock()
	if stop == nil || m == nil {
		return nil // nothing was taken up yet
	}
	stop()
	select {
	case <-a.sessionDone:
	case <-ctx.Done():
		return ctx.Err()
	}
	return m.StopAll(ctx, "the agent was told to stop its workloads")
}

// noteBoot finds out whether the machine was booted since the agent last ran.
func (a *Agent) noteBoot() {
	now, before := a.node.Load().GetBootId(), a.store.BootID()
	if now == "" || now == before {
		return
	}
	a.rebooted = before != ""
	if a.rebooted {
		a.log.Warn("the machine was rebooted since the agent last ran; what is still wanted is started again")
	}
	if err := a.store.SetBootID(now); err != nil {
		a.log.Warn("the boot's id cannot be stored", "error", err)
	}
}

// secretsDir is a place on memory, where there is one.
func (a *Agent) secretsDir() string {
	if a.cfg.SecretsDir != "" {
		return a.cfg.SecretsDir
	}
	var st unix.Statfs_t
	if os.Geteuid() == 0 && unix.Statfs("/run", &st) == nil && st.Type == unix.TMPFS_MAGIC {
		return filepath.Join("/run/berth", a.store.NodeID(), "secrets")
	}
	return ""
}

// tidy deletes the default secrets directory and those above it, as far as they are
// empty: /run/berth/<node>/secrets.
func (a *Agent) tidy() {
	dir := a.secretsDir()
	if dir == "" || dir == a.cfg.SecretsDir {
		return
	}
	for range 3 {
		if os.Remove(dir) != nil {
			return
		}
		dir = filepath.Dir(dir)
	}
}

// dnsListens takes where names are answered, for tasks to ask: "" is nowhere.
func (a *Agent) dnsListens(address string) {
	a.dnsAddress.Store(&address)
	a.assemble()
}

// heardClock compares the servers' clock with the node's.
func (a *Agent) heardClock(ahead time.Duration) {
	if a.clock.heard(ahead) {
		a.assemble()
	}
}

const (
	// clockLimit is how far the clocks may differ before it is said.
	clockLimit = 5 * time.Second
	// clockJump is how far the node's clock may move against its monotonic one between
	// two heartbeats.
	clockJump = 2 * time.Second
)

// clock watches the node's clock. Nothing here is timed by it; it is for people, and
// for what tasks see.
type clock struct {
	log *slog.Logger

	mu    sync.Mutex
	last  time.Time // with its monotonic reading
	ahead time.Duration
	wrong bool
}

// heard takes one comparison and says whether the node's attribute changes.
func (c *clock) heard(ahead time.Duration) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	if !c.last.IsZero() {
		jump := now.Round(0).Sub(c.last.Round(0)) - now.Sub(c.last)
		if math.Abs(float64(jump)) > float64(clockJump) {
			c.log.Warn("the node's clock has jumped; no timer of the agent depends on it", "by", jump.Round(time.Millisecond))
		}
	}
	c.last = now
	off := math.Abs(float64(ahead))
	wrong := off > float64(clockLimit) || (c.wrong && off > float64(clockLimit/2))
	if wrong == c.wrong {
		return false
	}
	c.wrong, c.ahead = wrong, ahead.Round(time.Second)
	if wrong {
		c.log.Warn("the node's clock differs from the servers'; correct it (NTP)", "servers_ahead", c.ahead)
	} else {
		c.log.Info("the node's clock agrees with the servers' again")
	}
	return true
}

// skew is how far the servers are ahead; false: it agrees.
func (c *clock) skew() (time.Duration, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ahead, c.wrong
}
