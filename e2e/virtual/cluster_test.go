package virtual

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/berthd/berth/agent"
	"github.com/berthd/berth/drivers"
	"github.com/berthd/berth/drivers/mock"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/server"
	"github.com/berthd/berth/server/consensus"
	"github.com/berthd/berth/server/consensus/consensustest"
)

// cluster is servers s1.. and agents a1.., and what lies between them.
type cluster struct {
	t       *testing.T
	fabric  *fabric
	net     *consensustest.Network
	servers []*serverHost
	agents  []*agentHost
	user    map[string]*grpc.ClientConn // a user's connections, by server
	log     *slog.Logger
}

// serverHost is a machine for a server: its disk outlives the process.
type serverHost struct {
	c      *cluster
	name   string
	stores *consensus.Stores
	disk   *consensustest.SlowLog
	lives  int
	proc   *server.Server // nil: it is down
	cancel context.CancelFunc
	done   chan struct{}
}

// agentHost is a machine for an agent: its disk and its tasks outlive the process.
type agentHost struct {
	c      *cluster
	name   string
	dir    string
	host   *mock.Host
	proc   *agent.Agent
	cancel context.CancelFunc
	done   chan struct{}
}

func logger() *slog.Logger {
	if os.Getenv("BERTH_TEST_LOG") == "" {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

func newCluster(t *testing.T, servers, agents int) *cluster {
	c := &cluster{t: t, fabric: newFabric(), net: consensustest.NewNetwork(), user: map[string]*grpc.ClientConn{}, log: logger()}
	for i := range servers {
		stores := consensustest.MemoryStores()
		disk := &consensustest.SlowLog{LogStore: stores.Log}
		stores.Log = disk
		c.servers = append(c.servers, &serverHost{c: c, name: fmt.Sprint("s", i+1), stores: stores, disk: disk})
	}
	for _, s := range c.servers {
		s.start()
		conn, err := grpc.NewClient("passthrough:///"+s.name, grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithContextDialer(c.fabric.dialer("user")))
		if err != nil {
			t.Fatal(err)
		}
		c.user[s.name] = conn
	}
	c.leader()
	for i := range agents {
		a := &agentHost{c: c, name: fmt.Sprint("a", i+1), dir: t.TempDir(), host: mock.NewHost()}
		machine(t, a.root(), 4, 8192)
		c.agents = append(c.agents, a)
		a.start()
	}
	return c
}

// close ends every process; the bubble must be empty when the test returns.
func (c *cluster) close() {
	for _, conn := range c.user {
		_ = conn.Close()
	}
	for _, a := range c.agents {
		a.crash()
	}
	for _, s := range c.servers {
		s.crash()
	}
	time.Sleep(time.Minute) // Raft's calls to those that are gone run into their time limits
}

func (s *serverHost) start() {
	t := s.c.t
	s.lives++
	cfg := server.Config{
		GRPCListener: s.c.fabric.listen(s.name), HTTPListener: s.c.fabric.listen(s.name + "-http"),
		Logger:      s.c.log.With("host", s.name),
		PeerOptions: []grpc.DialOption{grpc.WithContextDialer(s.c.fabric.dialer(s.name))},
		Consensus: consensus.Config{
			ID: s.name, Name: s.name, Cluster: "virtual", BootstrapExpect: len(s.c.servers),
			GRPCAddress: s.name, HTTPAddress: s.name + "-http", Stores: s.stores,
			Transport:   s.c.net.Transport(s.name, raft.ServerAddress(fmt.Sprintf("%s.%d", s.name, s.lives))),
			StartGossip: s.c.net.StartGossip,
		},
	}
	for _, other := range s.c.servers {
		cfg.Consensus.Join = append(cfg.Consensus.Join, consensustest.GossipAddress(other.name))
	}
	proc, err := server.New(cfg)
	if err != nil {
		t.Fatalf("starting %s: %v", s.name, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	s.proc, s.cancel, s.done = proc, cancel, done
	go func() {
		defer close(done)
		if err := proc.Run(ctx); err != nil {
			t.Errorf("%s ended: %v", s.name, err)
		}
	}()
}

// crash ends the server as a power cut does: nothing that it would say on its way out
// gets through.
func (s *serverHost) crash() {
	if s.proc == nil {
		return
	}
	s.c.net.Partition([]string{s.name})
	s.c.fabric.crash(s.name)
	s.cancel()
	<-s.done
	s.c.net.Partition()
	s.proc = nil
}

func (a *agentHost) root() string { return filepath.Join(a.dir, "root") }

func (a *agentHost) start() {
	cfg := agent.Config{
		DataDir: filepath.Join(a.dir, "data"), Name: a.name, Root: a.root(), Address: "127.0.0.1",
		Drivers: []drivers.Driver{mock.New(a.host)}, Logger: a.c.log.With("host", a.name),
		Dialer: a.c.fabric.dialer(a.name), SecretsDir: filepath.Join(a.dir, "secrets"),
	}
	for _, s := range a.c.servers {
		cfg.Servers = append(cfg.Servers, s.name)
	}
	proc, err := agent.New(cfg)
	if err != nil {
		a.c.t.Fatalf("starting %s: %v", a.name, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	a.proc, a.cancel, a.done = proc, cancel, done
	go func() {
		defer close(done)
		if err := proc.Run(ctx); err != nil {
			a.c.t.Errorf("%s ended: %v", a.name, err)
		}
	}()
}

func (a *agentHost) crash() {
	if a.proc == nil {
		return
	}
	a.c.fabric.crash(a.name)
	a.cancel()
	<-a.done
	a.proc = nil
}

// setCut cuts an agent off from all servers, or heals it.
func (a *agentHost) setCut(cut bool) {
	for _, s := range a.c.servers {
		a.c.fabric.setCut(a.name, s.name, cut)
	}
}

// isolate cuts servers off from the rest of the servers, in Raft, gossip and gRPC; nobody: all is whole.
func (c *cluster) isolate(names ...string) {
	in := map[string]bool{}
	for _, n := range names {
		in[n] = true
	}
	if len(names) == 0 {
		c.net.Partition()
	} else {
		c.net.Partition(names)
	}
	for _, a := range c.servers {
		for _, b := range c.servers {
			if a.name < b.name {
				c.fabric.setCut(a.name, b.name, in[a.name] != in[b.name])
			}
		}
	}
}

// leader waits for one and gives it.
func (c *cluster) leader() *serverHost {
	c.t.Helper()
	for range 3000 {
		for _, s := range c.servers {
			if s.proc != nil && s.proc.IsLeader() {
				return s
			}
		}
		time.Sleep(100 * time.Millisecond)
	}
	c.t.Fatal("there is no leader after 5 minutes")
	return nil
}

// anyServer gives a server that is up; one always is.
func (c *cluster) anyServer() *serverHost {
	for _, s := range c.servers {
		if s.proc != nil {
			return s
		}
	}
	c.t.Fatal("no server is up")
	return nil
}

// call calls the API at each server in turn until one answers.
func call[Req, Resp any](c *cluster, method func(context.Context, grpc.ClientConnInterface, Req) (Resp, error), req Req) (Resp, error) {
	var resp Resp
	var err error
	for range 2 {
		for _, s := range c.servers {
			if s.proc == nil {
				continue
			}
			ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
			resp, err = method(ctx, c.user[s.name], req)
			cancel()
			if err == nil {
				return resp, nil
			}
		}
		time.Sleep(time.Second)
	}
	return resp, err
}

func registerJob(ctx context.Context, conn grpc.ClientConnInterface, req *berthv1.RegisterJobRequest) (*berthv1.RegisterJobResponse, error) {
	return berthv1.NewJobServiceClient(conn).RegisterJob(ctx, req)
}

func stopJob(ctx context.Context, conn grpc.ClientConnInterface, req *berthv1.StopJobRequest) (*berthv1.StopJobResponse, error) {
	return berthv1.NewJobServiceClient(conn).StopJob(ctx, req)
}
