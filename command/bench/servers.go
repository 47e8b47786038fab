package bench

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"time"

	"golang.org/x/sync/errgroup"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/server"
	"github.com/berthd/berth/server/consensus"
	"github.com/berthd/berth/server/state"
)

// startServer starts one server on free loopback ports, with its stores on disk.
func (r *run) startServer(ctx context.Context, group *errgroup.Group, dir string) error {
	listeners := make([]net.Listener, 4) // gRPC, HTTP, Raft, and a free port for gossip
	for i := range listeners {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return fmt.Errorf("listening on loopback: %w", err)
		}
		listeners[i] = l
	}
	gossip := listeners[3].Addr().String()
	if err := listeners[3].Close(); err != nil {
		return err
	}
	logger := slog.New(slog.DiscardHandler) // what matters ends the run with an error
	cfg := server.Config{
		GRPCListener: listeners[0], HTTPListener: listeners[1], Logger: logger, Version: &berthv1.Version{Version: "bench"},
		Consensus: consensus.Config{
			Name: dir, Cluster: "bench", DataDir: dir, Listener: listeners[2], GossipBind: gossip,
			GRPCAddress: listeners[0].Addr().String(), HTTPAddress: listeners[1].Addr().String(),
			BootstrapExpect: r.plane.Servers,
		},
	}
	if len(r.servers) > 0 {
		cfg.Consensus.Join = []string{r.gossip}
	} else {
		r.gossip = gossip
	}
	s, err := server.New(cfg)
	if err != nil {
		return fmt.Errorf("making a server: %w", err)
	}
	r.servers, r.address = append(r.servers, s), append(r.address, cfg.Consensus.GRPCAddress)
	group.Go(func() error { return s.Run(ctx) })
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
		for _, s := range r.servers {
			if s.IsLeader() {
				leader = s
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

// watchPlacements notes when allocations become durable, by the leader's state.
func (r *run) watchPlacements(ctx context.Context, leader *server.Server) error {
	store, seen := leader.Store(), leader.Store().Revision()
	for {
		watch := store.Watch(state.Topic{Table: state.TableAllocs})
		changes, ok := store.Changes(seen, 1<<20)
		if !ok {
			watch.Close()
			return fmt.Errorf("the watcher of placements was outrun; use fewer allocations")
		}
		now := time.Now()
		for i := range changes {
			c := &changes[i]
			seen = c.Revision
			if c.Table == state.TableAllocs && c.Kind == state.Created {
				_, alloc := c.Allocs()
				r.placed.add(alloc.Job(), now)
			}
		}
		if len(changes) == 0 {
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

// waitRunning waits until every allocation is running in the leader's state.
func (r *run) waitRunning(ctx context.Context, leader *server.Server) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		running := 0
		for a := range leader.Store().View().AllocRows() {
			if a.Status() == berthv1.Alloc_running {
				running++
			}
		}
		if running >= r.plane.Allocs {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for allocations to be running (%d of %d are): %w", running, r.plane.Allocs, ctx.Err())
		case <-tick.C:
		}
	}
}
