package bench

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/server"
	"github.com/berthd/berth/server/consensus"
	"github.com/berthd/berth/server/state"
)

// freePorts stands for four free ports of loopback: gRPC, HTTP, Raft, gossip.
var freePorts = []string{"127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0"}

// startServer starts one server on ports of loopback, with its stores on disk.
func (r *run) startServer(ctx context.Context, group *errgroup.Group, dir string, ports []string) error {
	listeners := make([]net.Listener, len(ports))
	at := make([]string, len(ports))
	for i := range listeners {
		l, err := net.Listen("tcp", ports[i])
		if err != nil {
			return fmt.Errorf("listening on loopback: %w", err)
		}
		listeners[i], at[i] = l, l.Addr().String()
	}
	r.ports = append(r.ports, at)
	gossip := listeners[3].Addr().String()
	if err := listeners[3].Close(); err != nil {
		return err
	}
	logger := slog.New(slog.DiscardHandler) // what matters ends the run with an error
	if r.plane.Log != nil {
		logger = slog.New(r.plane.Log).With("server", filepath.Base(dir))
	}
	cfg := server.Config{
		GRPCListener: listeners[0], HTTPListener: listeners[1], Logger: logger, Version: &berthv1.Version{Version: "bench"},
		Consensus: consensus.Config{
			Name: dir, Cluster: "bench", DataDir: dir, Listener: listeners[2], GossipBind: gossip,
			GRPCAddress: listeners[0].Addr().String(), HTTPAddress: listeners[1].Addr().String(),
			BootstrapExpect: r.plane.Servers,
		},
	}
	if r.plane.Nodes > fewAgents { // they share one process, and one garbage collector, with a large heap
		cfg.Consensus.Timing.Heartbeat = 2 * time.Second
	}
	if len(r.servers) > 0 {
		cfg.Consensus.Join = []string{r.gossip}
		if r.gossip == gossip { // the first one, again
			cfg.Consensus.Join = []string{r.ports[1%len(r.ports)][3]}
		}
	} else {
		r.gossip = gossip
	}
	s, err := server.New(cfg)
	if err != nil {
		return fmt.Errorf("making a server: %w", err)
	}
	own, stop := context.WithCancel(ctx)
	ended := make(chan struct{})
	r.ended = append(r.ended, ended)
	r.servers, r.address, r.stops = append(r.servers, s), append(r.address, cfg.Consensus.GRPCAddress), append(r.stops, stop)
	group.Go(func() error {
		defer close(ended)
		if err := s.Run(own); ctx.Err() != nil || own.Err() == nil {
			return err
		}
		return nil // it was stopped
	})
	return nil
}

// waitLeader waits until a server leads and the others have heard of the cluster.
func (r *run) waitLeader(ctx context.Context) (*server.Server, error) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("waiting for a leader: %w", ctx.Err())
		case <-tick.C:
		}
		var leader *server.Server
		formed := 0
		for i, s := range r.servers {
			if s.IsLeader() {
				leader = s
				r.leader.Store(int32(i))
			}
			if s.Store().View().ClusterID() != "" {
				formed++
			}
		}
		if leader != nil && formed == len(r.servers) {
			return leader, nil
		}
	}
}

// watchPlacements notes when allocations become durable, and when their agents'
// acknowledgements do, by the leader's state.
func (r *run) watchPlacements(ctx context.Context, leader *server.Server) error {
	store, seen := leader.Store(), leader.Store().Revision()
	var changes []state.Change
	for {
		watch := store.Watch(state.Topic{Table: state.TableAny})
		var ok bool
		if changes, ok = store.ChangesInto(changes, seen, 1<<14); !ok { // it was outrun: count anew
			view := store.View()
			seen = view.Revision()
			r.recount(view)
		}
		for i, now := 0, time.Now(); i < len(changes); i++ {
			c := &changes[i]
			seen = c.Revision
			if c.Table == state.TableJobs {
				r.registered(c, now)
			}
			if c.Table != state.TableAllocs {
				continue
			}
			switch before, after := c.Allocs(); {
			case !after.Exists():
			case c.Kind == state.Created && strings.HasPrefix(after.Job(), smallPrefix):
				r.small.add(after.Job(), 1, now)
				planned := after.Alloc().GetCreateTime().AsTime()
				r.legs.note(after.Job(), func(j *journey) { j.planned, j.placed = planned, now })
			case strings.HasPrefix(after.Job(), smallPrefix):
			case c.Kind == state.Created:
				r.placed.add(after.Job(), 1, now)
			case before.Status() != berthv1.Alloc_running && after.Status() == berthv1.Alloc_running:
				r.running.add(after.Job(), 1, now)
			}
		}
		if ok && len(changes) == 0 {
			select {
			case <-ctx.Done():
				watch.Close()
				return nil
			case <-watch.C:
			}
		}
		watch.Close()
	}
}

// registered notes that a small job has come to the leader's state.
func (r *run) registered(c *state.Change, now time.Time) {
	job, _ := c.Item().(*berthv1.Job)
	if c.Kind != state.Created || !strings.HasPrefix(job.GetName(), smallPrefix) {
		return
	}
	proposed := job.GetSubmitTime().AsTime()
	r.legs.note(job.GetName(), func(j *journey) { j.proposed, j.registered = proposed, now })
}

// recount notes what the changes that were missed must have been.
func (r *run) recount(view *state.View) {
	placed, running := map[string]int{}, map[string]int{}
	for a := range view.AllocRows() {
		if strings.HasPrefix(a.Job(), smallPrefix) {
			continue
		}
		placed[a.Job()]++
		if a.Status() == berthv1.Alloc_running {
			running[a.Job()]++
		}
	}
	now := time.Now()
	for job, n := range placed {
		r.placed.reach(job, n, now)
		r.running.reach(job, running[job], now)
	}
}
