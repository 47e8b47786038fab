package consensus_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"

	"github.com/berthd/berth/problem"
	"github.com/berthd/berth/server/consensus"
	"github.com/berthd/berth/server/consensus/consensustest"
)

// journal is an FSM that remembers every command.
type journal struct {
	mu    sync.Mutex
	lines []string
}

func (j *journal) Apply(l *raft.Log) any { return j.ApplyBatch([]*raft.Log{l})[0] }

func (j *journal) ApplyBatch(logs []*raft.Log) []any {
	j.mu.Lock()
	defer j.mu.Unlock()
	var out []any
	for _, l := range logs {
		if l.Type != raft.LogCommand {
			panic("not a command")
		}
		j.lines = append(j.lines, string(l.Data))
		out = append(out, len(j.lines))
	}
	return out
}

func (j *journal) Snapshot() (raft.FSMSnapshot, error) { return frozen(j.all()), nil }

func (j *journal) Restore(r io.ReadCloser) error {
	var lines []string
	if err := json.NewDecoder(r).Decode(&lines); err != nil {
		return err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lines = lines
	return nil
}

func (j *journal) all() []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Clone(j.lines)
}

type frozen []string

func (f frozen) Persist(sink raft.SnapshotSink) error {
	if err := json.NewEncoder(sink).Encode([]string(f)); err != nil {
		return err
	}
	return sink.Close()
}
func (f frozen) Release() {}

// server is one server of a test cluster.
type server struct {
	*consensus.Consensus
	id     string
	fsm    *journal
	stores *consensus.Stores
	cancel context.CancelFunc
	ended  chan error

	mu    sync.Mutex
	terms []uint64 // in which it led
	leads int      // duties running now
}

// cluster is a test cluster in a synctest bubble.
type cluster struct {
	t       *testing.T
	net     *consensustest.Network
	servers map[string]*server
}

func newCluster(t *testing.T) *cluster {
	return &cluster{t: t, net: consensustest.NewNetwork(), servers: map[string]*server{}}
}

// start brings up a server; change may alter its configuration. A server that ran before keeps its stores.
func (c *cluster) start(id string, expect int, join []string, change ...func(*consensus.Config)) *server {
	c.t.Helper()
	stores := consensustest.MemoryStores()
	if old := c.servers[id]; old != nil {
		stores = old.stores
	}
	s := &server{id: id, fsm: &journal{}, stores: stores, ended: make(chan error, 1)}
	conf := consensus.Config{ID: id, Name: id, Cluster: "test", FSM: s.fsm, Logger: testLogger(), Stores: s.stores,
		StartGossip: c.net.StartGossip, GRPCAddress: id + ":7461", BootstrapExpect: expect}
	for _, j := range join {
		conf.Join = append(conf.Join, consensustest.GossipAddress(j))
	}
	for _, f := range change {
		f(&conf)
	}
	if conf.Transport == nil {
		conf.Transport = c.net.Transport(id, raft.ServerAddress(id+":7462"))
	}
	var err error
	if s.Consensus, err = consensus.New(conf); err != nil {
		c.t.Fatal(err)
	}
	s.OnLeadership(func(ctx context.Context, term uint64) {
		s.mu.Lock()
		s.terms, s.leads = append(s.terms, term), s.leads+1
		s.mu.Unlock()
		<-ctx.Done()
		s.mu.Lock()
		s.leads--
		s.mu.Unlock()
	})
	ctx, cancel := context.WithCancel(c.t.Context())
	s.cancel = cancel
	go func() { s.ended <- s.Run(ctx) }()
	c.servers[id] = s
	return s
}

func testLogger() *slog.Logger {
	if os.Getenv("CONSENSUS_LOG") == "" {
		return nil
	}
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// stop ends a server in order.
func (c *cluster) stop(ids ...string) {
	c.t.Helper()
	for _, id := range ids {
		s := c.servers[id]
		s.cancel()
		if err := <-s.ended; err != nil {
			c.t.Errorf("server %s ended with %v", id, err)
		}
		s.ended <- nil
	}
}

// crash cuts a server off, then ends it: the others hear nothing.
func (c *cluster) crash(ids ...string) {
	c.t.Helper()
	c.net.Partition(ids)
	c.stop(ids...)
	c.net.Partition()
}

// stopAll ends what still runs; a bubble must be empty when it ends.
func (c *cluster) stopAll() {
	for _, s := range c.servers {
		s.cancel()
	}
	for _, s := range c.servers {
		<-s.ended
	}
	// hashicorp/raft waits for none of its calls on their way; they end by their time limits.
	time.Sleep(time.Minute)
}

// wait waits, in virtual time, until ok says so.
func (c *cluster) wait(what string, ok func() bool) {
	c.t.Helper()
	for range 6000 {
		if ok() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	c.t.Fatalf("after a minute there is still no: %s\n%s", what, c.describe())
}

func (c *cluster) describe() string {
	var b strings.Builder
	for id, s := range c.servers {
		peers, err := s.Peers()
		fmt.Fprintf(&b, "%s leads=%v term=%d peers=%+v %v\n  members=%+v\n", id, s.IsLeader(), s.Term(), peers, err, s.Members())
	}
	return b.String()
}

// leader waits for the one leader among these servers, and its duties.
func (c *cluster) leader(ids ...string) *server {
	c.t.Helper()
	var found *server
	c.wait("leader", func() bool {
		found = nil
		n := 0
		for _, id := range ids {
			s := c.servers[id]
			s.mu.Lock()
			if s.leads > 0 {
				found = s
				n++
			}
			s.mu.Unlock()
		}
		return n == 1
	})
	return found
}

// voters are the IDs of the voters that a server knows.
func voters(s *server) string {
	peers, _ := s.Peers()
	var ids []string
	for _, p := range peers {
		if p.Voter {
			ids = append(ids, p.ID)
		}
	}
	slices.Sort(ids)
	return strings.Join(ids, " ")
}

// propose writes lines by the leader.
func (c *cluster) propose(s *server, lines ...string) {
	c.t.Helper()
	for _, line := range lines {
		if _, err := s.Propose(c.t.Context(), []byte(line)); err != nil {
			c.t.Fatal(err)
		}
	}
}

// agree waits until these servers hold exactly these lines.
func (c *cluster) agree(lines []string, ids ...string) {
	c.t.Helper()
	for _, id := range ids {
		c.wait(fmt.Sprintf("%v on %s, which has %v", lines, id, c.servers[id].fsm.all()), func() bool {
			return slices.Equal(c.servers[id].fsm.all(), lines)
		})
	}
}

// three starts a cluster of a, b and c and gives its leader.
func (c *cluster) three() *server {
	for _, id := range []string{"a", "b", "c"} {
		c.start(id, 3, []string{"a", "b", "c"})
	}
	return c.leader("a", "b", "c")
}

// others gives the IDs but one.
func others(id string, ids ...string) []string {
	return slices.DeleteFunc(slices.Clone(ids), func(s string) bool { return s == id })
}

// bubble runs a test in virtual time.
func bubble(t *testing.T, f func(t *testing.T, c *cluster)) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		defer c.stopAll()
		f(t, c)
	})
}

func TestOneServerStartsAtOnce(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		s := c.start("a", 1, nil)
		c.leader("a")
		c.propose(s, "x")
		c.agree([]string{"x"}, "a")
	})
}

func TestThreeServersStartOnce(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		c.start("a", 3, []string{"b", "c"})
		c.start("b", 3, []string{"a", "c"})
		time.Sleep(time.Minute)
		if c.servers["a"].IsLeader() || c.servers["b"].IsLeader() {
			t.Fatal("two of three servers started a cluster")
		}
		c.start("c", 3, []string{"a", "b"})
		l := c.leader("a", "b", "c")
		c.propose(l, "x", "y")
		c.agree([]string{"x", "y"}, "a", "b", "c")
		for _, s := range c.servers {
			if got := voters(s); got != "a b c" {
				t.Errorf("%s knows the voters %q", s.id, got)
			}
			who, ok := s.Leader()
			if !ok || who.ID != l.id || who.GRPCAddress != l.id+":7461" {
				t.Errorf("%s takes %+v for the leader", s.id, who)
			}
			if age, ok := s.LastContact(); !ok || age > time.Second {
				t.Errorf("%s heard the leader %v ago, %v", s.id, age, ok)
			}
		}
	})
}

func TestFollowerRefusesToPropose(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		l := c.three()
		f := c.servers[others(l.id, "a", "b", "c")[0]]
		c.wait("known leader", func() bool { _, ok := f.Leader(); return ok })
		_, err := f.Propose(t.Context(), []byte("x"))
		p := problem.From(err)
		if p.Kind != problem.Unavailable || !strings.Contains(p.Error(), l.id+" does (ask it at "+l.id+":7461") {
			t.Errorf("got %v", err)
		}
		if _, err := l.Propose(t.Context(), make([]byte, consensus.MaxEntry+1)); !problem.Is(err, problem.Invalid) {
			t.Errorf("an entry that is too large: %v", err)
		}
	})
}

// A follower must not wait for the next entry, nor for Raft's commit timeout.
func TestFollowersHearOfACommitAtOnce(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		slow := func(conf *consensus.Config) { conf.Timing.Commit = 200 * time.Millisecond }
		c.start("a", 3, []string{"b", "c"}, slow)
		c.start("b", 3, []string{"a", "c"}, slow)
		c.start("c", 3, []string{"a", "b"}, slow)
		l := c.leader("a", "b", "c")
		time.Sleep(5 * time.Second) // until nothing of the beginning is on its way
		for i := range 5 {
			c.propose(l, fmt.Sprint("entry ", i))
			time.Sleep(50 * time.Millisecond)
			for _, s := range c.servers {
				if n := len(s.fsm.all()); n != i+1 {
					t.Errorf("%s has applied %d entries of %d", s.id, n, i+1)
				}
			}
		}
	})
}

func TestLeaderIsLost(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		l := c.three()
		c.propose(l, "x")
		rest := others(l.id, "a", "b", "c")
		start := time.Now()
		c.crash(l.id)
		next := c.leader(rest...)
		if d := time.Since(start); d > 3*time.Second {
			t.Errorf("the next leader took %v", d)
		}
		c.propose(next, "y")
		c.start(l.id, 3, rest)
		c.agree([]string{"x", "y"}, "a", "b", "c")
	})
}

func TestLeaderHandsOverWhenItStops(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		l := c.three()
		start := time.Now()
		c.stop(l.id)
		c.leader(others(l.id, "a", "b", "c")...)
		if d := time.Since(start); d > 400*time.Millisecond {
			t.Errorf("handing over took %v, as long as an election", d)
		}
	})
}

func TestDutiesEndWithLeadership(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		l := c.three()
		rest := others(l.id, "a", "b", "c")
		c.net.Partition([]string{l.id})
		next := c.leader(rest...)
		c.wait("end of the old leader's duties", func() bool { l.mu.Lock(); defer l.mu.Unlock(); return l.leads == 0 })
		if _, err := l.Propose(t.Context(), []byte("lost")); !problem.Is(err, problem.Unavailable) {
			t.Errorf("the old leader took an entry: %v", err)
		}
		c.propose(next, "x")
		c.net.Partition()
		c.agree([]string{"x"}, "a", "b", "c")
		if next.terms[0] <= l.terms[0] {
			t.Errorf("terms %v after %v", next.terms, l.terms)
		}
	})
}

func TestProposalsOfALostLeaderAreUncertainOrRefused(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		l := c.three()
		c.net.Partition([]string{l.id})
		f := l.ProposeAsync([]byte("x"))
		_, err := f.Wait(t.Context())
		if p := problem.From(err); p == nil || p.Kind != problem.Unavailable || !strings.Contains(err.Error(), "may be applied or not") {
			t.Errorf("got %v", err)
		}
	})
}

func TestOrderOfPipelinedProposals(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		l := c.three()
		var futures []*consensus.Future
		var want []string
		for i := range 500 {
			want = append(want, fmt.Sprint(i))
			futures = append(futures, l.ProposeAsync([]byte(want[i])))
		}
		for i, f := range futures {
			if got, err := f.Wait(t.Context()); err != nil || got != i+1 {
				t.Fatalf("entry %d: %v, %v", i, got, err)
			}
		}
		c.agree(want, "a", "b", "c")
		if s := l.Stats(); s.Applied != 500 || s.ApplyBatches > 250 || s.LogBytes == 0 {
			t.Errorf("nothing was grouped: %+v", s)
		}
	})
}

func TestGrowAndShrink(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		a := c.start("a", 1, nil)
		c.leader("a")
		c.propose(a, "x")
		c.start("b", 0, []string{"a"})
		c.start("c", 0, []string{"a"})
		c.wait("3 voters", func() bool { return voters(a) == "a b c" })
		c.start("d", 0, []string{"c"})
		c.start("e", 0, []string{"b"})
		c.wait("5 voters", func() bool { return voters(a) == "a b c d e" })
		l := c.leader("a", "b", "c", "d", "e")
		c.propose(l, "y")
		c.agree([]string{"x", "y"}, "a", "b", "c", "d", "e")

		for _, id := range []string{l.id, others(l.id, "a", "b", "c", "d", "e")[0]} {
			if err := c.servers[id].Leave(t.Context()); err != nil {
				t.Fatal(err)
			}
			c.stop(id)
		}
		rest := others(others(l.id, "a", "b", "c", "d", "e")[0], others(l.id, "a", "b", "c", "d", "e")...)
		l = c.leader(rest...)
		c.wait("3 voters", func() bool { return voters(l) == strings.Join(rest, " ") })
		c.propose(l, "z")
		c.agree([]string{"x", "y", "z"}, rest...)
	})
}

// A server that is cut off from Raft while it leaves does not hear that it was removed, and still ends.
func TestLeaveWithoutAnAnswer(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		l := c.three()
		leaver := others(l.id, "a", "b", "c")[0]
		c.net.SetFault(func(from, to string) consensustest.Fault {
			return consensustest.Fault{Lose: from == leaver || to == leaver}
		})
		if err := c.servers[leaver].Leave(t.Context()); err != nil {
			t.Fatal(err)
		}
		c.wait("removal of "+leaver, func() bool { return voters(l) == strings.Join(others(leaver, "a", "b", "c"), " ") })
	})
}

func TestDeadServerIsRemovedAndComesBack(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		l := c.three()
		dead := others(l.id, "a", "b", "c")[0]
		c.crash(dead)
		time.Sleep(50 * time.Second)
		if got := voters(l); got != "a b c" {
			t.Fatalf("removed before the grace was over: %s", got)
		}
		rest := strings.Join(others(dead, "a", "b", "c"), " ")
		c.wait("removal of "+dead, func() bool { return voters(l) == rest })
		c.propose(l, "x")
		c.start(dead, 3, []string{l.id})
		c.wait("return of "+dead, func() bool { return voters(l) == "a b c" })
		c.agree([]string{"x"}, "a", "b", "c")
	})
}

// A host that lost its data comes back as another server at the same address.
func TestWipedServerIsReplaced(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		l := c.three()
		wiped := others(l.id, "a", "b", "c")[0]
		c.propose(l, "x")
		c.crash(wiped)
		c.start("new", 3, []string{l.id}, func(conf *consensus.Config) {
			conf.Transport = c.net.Transport("new", raft.ServerAddress(wiped+":7462"))
		})
		start := time.Now()
		c.wait("replacement", func() bool { return voters(l) == strings.Join(append(others(wiped, "a", "b", "c"), "new"), " ") })
		if d := time.Since(start); d > 10*time.Second {
			t.Errorf("it took %v", d)
		}
		c.agree([]string{"x"}, "new")
	})
}

func TestRestartOfAll(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		l := c.three()
		c.propose(l, "x", "y")
		c.agree([]string{"x", "y"}, "a", "b", "c")
		c.stop("a", "b", "c")
		// No join list: the addresses of the others were kept. New Raft addresses: gossip
		// tells them before there is a leader.
		for _, id := range []string{"a", "b", "c"} {
			c.start(id, 3, nil, func(conf *consensus.Config) {
				conf.Transport = c.net.Transport(id, raft.ServerAddress(id+":8000"))
			})
		}
		l = c.leader("a", "b", "c")
		c.agree([]string{"x", "y"}, "a", "b", "c")
		c.propose(l, "z")
		c.agree([]string{"x", "y", "z"}, "a", "b", "c")
	})
}

func TestChangedAddressIsTakenOver(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		l := c.three()
		moved := others(l.id, "a", "b", "c")[0]
		c.stop(moved)
		c.start(moved, 3, nil, func(conf *consensus.Config) {
			conf.Transport = c.net.Transport(moved, raft.ServerAddress(moved+":8000"))
		})
		c.wait("new address", func() bool {
			peers, _ := l.Peers()
			return slices.ContainsFunc(peers, func(p consensus.Peer) bool { return p.ID == moved && p.Address == moved+":8000" && p.Voter })
		})
		c.propose(l, "x")
		c.agree([]string{"x"}, "a", "b", "c")
	})
}

func TestRemovePeer(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		l := c.three()
		gone := others(l.id, "a", "b", "c")[0]
		c.wait("voters", func() bool { return voters(l) == "a b c" })
		if err := l.RemovePeer(t.Context(), gone); !problem.Is(err, problem.Conflict) {
			t.Errorf("removing a living server: %v", err)
		}
		if err := l.RemovePeer(t.Context(), "nobody"); !problem.Is(err, problem.NotFound) {
			t.Errorf("removing nobody: %v", err)
		}
		c.crash(gone)
		if err := l.RemovePeer(t.Context(), gone); err != nil {
			t.Fatal(err)
		}
		if got := voters(l); strings.Contains(got, gone) {
			t.Errorf("%s is still in %s", gone, got)
		}
	})
}

func TestTransferLeadership(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		l := c.three()
		to := others(l.id, "a", "b", "c")[1]
		if err := l.TransferLeadership(t.Context(), to); err != nil {
			t.Fatal(err)
		}
		c.wait("leadership of "+to, func() bool { return c.leader("a", "b", "c").id == to })
	})
}

func TestForeignClusterIsNotSwallowed(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		a := c.start("a", 1, nil)
		b := c.start("b", 1, nil)
		c.leader("a")
		c.leader("b")
		c.propose(a, "of a")
		c.propose(b, "of b")
		if _, err := a.Join(t.Context(), []string{consensustest.GossipAddress("b")}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Minute)
		if voters(a) != "a" || voters(b) != "b" {
			t.Errorf("voters %q and %q", voters(a), voters(b))
		}
		c.agree([]string{"of a"}, "a")
		c.agree([]string{"of b"}, "b")
	})
}

func TestFarBehindServerGetsASnapshot(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		short := func(conf *consensus.Config) {
			conf.SnapshotThreshold, conf.SnapshotInterval, conf.TrailingLogs = 20, time.Second, 5
		}
		a := c.start("a", 1, nil, short)
		c.leader("a")
		var want []string
		for i := range 100 {
			want = append(want, fmt.Sprint(i))
		}
		c.propose(a, want...)
		c.wait("snapshot", func() bool { return a.Stats().SnapshotIndex > 50 })
		c.start("b", 0, []string{"a"}, short)
		c.agree(want, "b")
		c.wait("vote", func() bool { return voters(a) == "a b" })
	})
}

func TestSaveAndRestoreSnapshot(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		l := c.three()
		c.propose(l, "x", "y")
		var file bytes.Buffer
		info, err := l.SaveSnapshot(t.Context(), &file)
		if err != nil || info.Cluster != "test" || info.Index == 0 {
			t.Fatalf("%+v, %v", info, err)
		}
		c.propose(l, "z")
		before := len(l.terms)
		follower := c.servers[others(l.id, "a", "b", "c")[0]]
		if _, err := follower.RestoreSnapshot(t.Context(), bytes.NewReader(file.Bytes())); !problem.Is(err, problem.Unavailable) {
			t.Errorf("a follower restored: %v", err)
		}
		if _, err := l.RestoreSnapshot(t.Context(), bytes.NewReader(file.Bytes()[:file.Len()-1])); !problem.Is(err, problem.Invalid) {
			t.Errorf("a file cut short was restored: %v", err)
		}
		c.agree([]string{"x", "y", "z"}, "a", "b", "c")
		if _, err := l.RestoreSnapshot(t.Context(), &file); err != nil {
			t.Fatal(err)
		}
		c.agree([]string{"x", "y"}, "a", "b", "c")
		c.wait("new duties", func() bool { l.mu.Lock(); defer l.mu.Unlock(); return len(l.terms) == before+1 && l.leads == 1 })
		c.propose(l, "w")
		c.agree([]string{"x", "y", "w"}, "a", "b", "c")
	})
}

func TestRefusedSnapshotContentChangesNothing(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		s := c.start("a", 1, nil, func(conf *consensus.Config) {
			conf.CheckSnapshot = func(r io.Reader) error {
				_, err := io.Copy(io.Discard, r)
				if err != nil {
					return err
				}
				return problem.New(problem.Invalid, "snapshot", "it is of another kind")
			}
		})
		c.leader("a")
		c.propose(s, "x")
		var file bytes.Buffer
		if _, err := s.SaveSnapshot(t.Context(), &file); err != nil {
			t.Fatal(err)
		}
		if _, err := s.RestoreSnapshot(t.Context(), &file); !problem.Is(err, problem.Invalid) {
			t.Errorf("got %v", err)
		}
		c.agree([]string{"x"}, "a")
	})
}

// Messages are lost, late and doubled, a disk is slow, and servers crash, for a simulated
// quarter of an hour: what was acknowledged stays, in one order everywhere.
func TestTroubledCluster(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		slow := &consensustest.SlowLog{}
		ids := []string{"a", "b", "c"}
		for _, id := range ids {
			c.start(id, 3, ids, func(conf *consensus.Config) {
				if id == "b" {
					slow.LogStore = conf.Stores.Log
					s := *conf.Stores
					s.Log = slow
					conf.Stores = &s
				}
			})
		}
		c.leader(ids...)
		var mu sync.Mutex
		n := 0
		c.net.SetFault(func(_, _ string) consensustest.Fault {
			mu.Lock()
			defer mu.Unlock()
			n++
			return consensustest.Fault{Lose: n%17 == 0, Twice: n%5 == 0, Delay: time.Duration(n%7) * time.Millisecond}
		})
		slow.SetDelay(30 * time.Millisecond)
		var acked []string
		for i := range 300 {
			switch i % 60 {
			case 20:
				c.net.Partition([]string{ids[i%3]})
			case 40:
				c.net.Partition()
			}
			for _, id := range ids {
				if !c.servers[id].IsLeader() {
					continue
				}
				ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
				if _, err := c.servers[id].Propose(ctx, []byte(fmt.Sprint(i))); err == nil {
					acked = append(acked, fmt.Sprint(i))
				}
				cancel()
			}
			time.Sleep(3 * time.Second)
		}
		c.net.SetFault(nil)
		c.net.Partition()
		l := c.leader(ids...)
		c.propose(l, "end")
		want := l.fsm.all()
		c.agree(want, ids...)
		for _, a := range acked {
			if !slices.Contains(want, a) {
				t.Errorf("entry %s was acknowledged and is lost", a)
			}
		}
		if len(acked) < 100 {
			t.Errorf("only %d entries came through", len(acked))
		}
	})
}
