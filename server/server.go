// Package server composes a member of the Raft set: consensus, state machine, plan loop,
// dispatch to agents and the API. command makes one for `berth server` and
// `berth agent -dev`; tests and the bench make several in one process.
//
// New opens the stores and starts nothing; Run blocks. Everything that only the leader
// does is made when this server wins leadership, from the state, and thrown away when it
// loses it (leader.go).
package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"path/filepath"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/server/api"
	"github.com/berthd/berth/server/consensus"
	"github.com/berthd/berth/server/dispatch"
	"github.com/berthd/berth/server/fsm"
	"github.com/berthd/berth/server/images"
	"github.com/berthd/berth/server/state"
)

// Server is one server.
type Server struct {
	cfg       Config
	log       *slog.Logger
	store     *state.Store
	consensus *consensus.Consensus
	cluster   *cluster
	dispatch  *dispatch.Dispatcher
	leader    *leader
	images    *images.Keeper // nil: this server has no disk
	api       *api.API
	grpc      *grpc.Server
	metrics   *prometheus.Registry
	fatal     chan error // capacity 1: why the server cannot go on
}

// New makes a server and opens its stores. One that is never run must be closed.
func New(cfg Config) (*Server, error) {
	cfg, err := cfg.check()
	if err != nil {
		return nil, err
	}
	s := &Server{cfg: cfg, log: cfg.Logger, store: state.New(), metrics: prometheus.NewRegistry(), fatal: make(chan error, 1)}
	if cfg.History > 0 {
		s.store = state.NewSized(cfg.History)
	}
	raftConfig := cfg.Consensus
	raftConfig.FSM = fsm.New(s.store, s.fail)
	raftConfig.Logger = cfg.Logger.With("part", "consensus")
	raftConfig.CheckSnapshot = func(r io.Reader) error {
		_, err := state.Read(r)
		return err
	}
	if s.consensus, err = consensus.New(raftConfig); err != nil {
		return nil, err
	}
	s.cluster = newCluster(s.consensus, cfg)
	if err := s.openImages(); err != nil {
		return nil, errors.Join(err, s.consensus.Close())
	}
	s.dispatch = s.makeDispatch()
	s.leader = newLeader(s)
	s.consensus.OnLeadership(s.leader.reign)
	if err := s.makeAPI(); err != nil {
		return nil, errors.Join(err, s.consensus.Close())
	}
	registerMetrics(s)
	return s, nil
}

// openImages opens the store of images beside the log.
func (s *Server) openImages() error {
	if s.cfg.Consensus.DataDir == "" {
		return nil
	}
	files, err := images.Open(filepath.Join(s.cfg.Consensus.DataDir, "cluster-images"))
	if err != nil {
		return err
	}
	s.images = images.NewKeeper(images.Config{Files: files, State: s.store, Others: s.cluster.others, Log: s.log.With("part", "images")})
	return nil
}

func (s *Server) makeDispatch() *dispatch.Dispatcher {
	c := dispatch.Config{
		ServerID: s.consensus.ID(), Store: s.store, Proposer: s.cluster, Cluster: s.cluster,
		Timing: s.cfg.Dispatch, Logger: s.cfg.Logger,
	}
	if s.images != nil {
		c.Images, c.LocalImages = s.images, s.images.Files()
	}
	return dispatch.New(c)
}

func (s *Server) makeAPI() (err error) {
	var files *images.Store
	if s.images != nil {
		files = s.images.Files()
	}
	s.api, err = api.New(api.Config{
		Store: s.store, Leadership: s.cluster, Raft: s.cluster, Gossip: s.cluster, Proposer: s.cluster,
		Planner: s.leader, Streams: streams{s.dispatch}, Logger: s.cfg.Logger.With("part", "api"),
		Version: s.cfg.Version, Desk: s.leader.desk, Metrics: s.metrics, ServerTLS: s.cfg.ServerTLS, ClientTLS: s.cfg.ClientTLS,
		DialOptions: s.cfg.PeerOptions, Images: files,
	})
	if err != nil {
		return err
	}
	options := append(s.api.ServerOptions(), grpcOptions(s.cfg.ServerTLS)...)
	s.grpc = grpc.NewServer(options...)
	s.api.Register(s.grpc)
	s.dispatch.Register(s.grpc)
	return nil
}

// fail ends Run: going on would do harm.
func (s *Server) fail(err error) {
	select {
	case s.fatal <- err:
	default:
	}
}

// ID is the server's id.
func (s *Server) ID() string { return s.consensus.ID() }

// Store is the state; to be read.
func (s *Server) Store() *state.Store { return s.store }

// IsLeader says whether this server leads.
func (s *Server) IsLeader() bool { return s.cluster.IsLeader() }

// Stats are the counters of consensus.
func (s *Server) Stats() consensus.Stats { return s.consensus.Stats() }

// Close closes the stores of a server that was never run.
func (s *Server) Close() error { return s.consensus.Close() }

// Run serves until ctx ends or this server has left the cluster, then hands over leadership, lets calls finish for a while,
// and closes everything. It returns nil after that, or what kept it from running.
func (s *Server) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	// The API and the agents are served until consensus has handed over.
	serving, stopServing := context.WithCancel(context.WithoutCancel(ctx))
	group.Go(func() error {
		defer stopServing()
		if err := s.consensus.Run(ctx); err != nil {
			return fmt.Errorf("running consensus: %w", err)
		}
		return ctx.Err()
	})
	group.Go(func() error { return s.cluster.run(serving) })
	group.Go(func() error { return quiet(s.dispatch.Run(serving)) })
	if s.images != nil {
		group.Go(func() error { return quiet(s.images.Run(serving)) })
	}
	group.Go(func() error { return s.api.Run(serving) })
	group.Go(func() error { return s.serveGRPC(serving) })
	group.Go(func() error { return s.serveHTTP(serving) })
	group.Go(func() error {
		select {
		case <-ctx.Done():
			return nil
		case err := <-s.fatal:
			return err
		case <-s.cluster.left:
			s.log.Info("this server has left the cluster, and ends")
			select {
			case <-ctx.Done():
			case <-time.After(answerWithin):
			}
			return context.Canceled
		}
	})
	return quiet(group.Wait())
}

// quiet makes no error of an end that was asked for.
func quiet(err error) error {
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

func (s *Server) serveGRPC(ctx context.Context) error {
	stop := context.AfterFunc(ctx, s.grpc.Stop)
	defer stop()
	if err := s.grpc.Serve(s.cfg.GRPCListener); err != nil && ctx.Err() == nil {
		return fmt.Errorf("serving gRPC: %w", err)
	}
	return nil
}

func (s *Server) serveHTTP(ctx context.Context) error {
	h := s.api.HTTPServer()
	stop := context.AfterFunc(ctx, func() {
		grace, cancel := context.WithTimeout(context.Background(), s.cfg.StopTimeout)
		defer cancel()
		if h.Shutdown(grace) != nil {
			_ = h.Close() // what did not end in time is cut off
		}
	})
	defer stop()
	serve := func() error { return h.Serve(s.cfg.HTTPListener) }
	if s.cfg.ServerTLS != nil {
		serve = func() error { return h.ServeTLS(s.cfg.HTTPListener, "", "") }
	}
	if err := serve(); err != nil && !errors.Is(err, http.ErrServerClosed) && ctx.Err() == nil {
		return fmt.Errorf("serving HTTP: %w", err)
	}
	return nil
}

// streams gives dispatch's streams the shape that the API wants.
type streams struct{ dispatch *dispatch.Dispatcher }

// Open implements api.Streams.
func (s streams) Open(ctx context.Context, nodeID string, order *berthv1.StreamOrder) (api.Stream, error) {
	return s.dispatch.Open(ctx, nodeID, order)
}
