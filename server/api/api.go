// Package api is the public face of a server: every service of api.proto, over gRPC and
// as REST/JSON, the event stream, the metrics and the OpenAPI document.
//
// It promises that any server can be asked anything. A call that the leader must carry
// out is forwarded to it (forward.go), waiting for one where there is none; reads come
// from the state at one revision, and may wait for a change (read.go); whatever a client
// sends, the answer is its data or a problem that says what was wrong, where, and what
// to do. The HTTP side calls the gRPC side, so that there is one path through the checks.
//
// Package server composes it: New starts nothing; Run serves the connection between the
// two sides until its context ends; Register and ServerOptions belong to the server's
// grpc.Server, HTTPServer to its HTTP port.
package api

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"

	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/server/external"
	"github.com/berthd/berth/server/images"
	"github.com/berthd/berth/server/peers"
	"github.com/berthd/berth/server/state"
)

// Sizes, in bytes.
const (
	maxMessage = 4 << 20          // a gRPC request
	maxBody    = 1 << 20          // a JSON body
	maxAnswer  = peers.MaxMessage // an answer between servers
	pipeBuffer = 256 << 10
)

// defaultLeaderWait is longer than an election takes, so that a call rides over one.
const defaultLeaderWait = 15 * time.Second

// Config is what an API is made of. Everything without "may be" must be there.
type Config struct {
	Store      *state.Store
	Leadership Leadership
	Raft       Raft
	Gossip     Gossip
	Proposer   Proposer
	Planner    Planner
	Streams    Streams
	Logger     *slog.Logger
	// Version of this build; the cluster's id is filled in.
	Version *berthv1.Version

	// Desk gives where external schedulers are looked after, on the leader; nil elsewhere.
	// May be nil: external schedulers cannot register.
	Desk func() *external.Desk

	// Images is the bytes of images. May be nil: none are kept.
	Images *images.Store

	// Metrics is served at /v1/metrics, and gets the API's own.
	Metrics *prometheus.Registry
	// ServerTLS secures HTTPServer's port; may be nil: plain.
	ServerTLS *tls.Config
	// ClientTLS is for calls to other servers; may be nil: plain.
	ClientTLS *tls.Config
	// LeaderWait is how long a call waits for a leader; may be 0: 15 s.
	LeaderWait time.Duration
	// DialOptions are added for calls to other servers; may be nil.
	DialOptions []grpc.DialOption
}

// API serves the public services.
type API struct {
	store      *state.Store
	leadership Leadership
	raft       Raft
	gossip     Gossip
	proposer   Proposer
	planner    Planner
	streams    Streams
	logger     *slog.Logger
	version    *berthv1.Version
	desk       func() *external.Desk
	images     *images.Store
	registry   *prometheus.Registry
	metrics    *metrics
	serverTLS  *tls.Config
	leaderWait time.Duration

	peers   *peers.Pool
	pipe    *bufconn.Listener // between the HTTP side and the gRPC side
	inner   *grpc.Server      // what is at the pipe's other end
	own     *grpc.ClientConn  // the HTTP side's connection
	gateway *gateway

	life context.Context // ends with Run, and all that waits with it
	end  context.CancelCauseFunc

	configTurn chan struct{} // capacity 1: whose turn it is to change the scheduler's configuration

	mu    sync.Mutex
	ended bool           // no goroutine is started any more
	calls sync.WaitGroup // goroutines that calls have started
}

// New makes an API; nothing runs yet.
func New(c Config) (*API, error) {
	if err := c.check(); err != nil {
		return nil, fmt.Errorf("making the API: %w", err)
	}
	a := &API{
		store: c.Store, leadership: c.Leadership, raft: c.Raft, gossip: c.Gossip, proposer: c.Proposer,
		planner: c.Planner, streams: c.Streams, logger: c.Logger, version: c.Version, desk: c.Desk, images: c.Images,
		registry: c.Metrics, serverTLS: c.ServerTLS, leaderWait: c.LeaderWait,
		peers:      peers.New(c.ClientTLS, c.DialOptions),
		pipe:       bufconn.Listen(pipeBuffer),
		configTurn: make(chan struct{}, 1),
	}
	a.life, a.end = context.WithCancelCause(context.Background())
	if a.leaderWait == 0 {
		a.leaderWait = defaultLeaderWait
	}
	var err error
	if a.metrics, err = newMetrics(c.Metrics, a); err != nil {
		return nil, fmt.Errorf("making the API: %w", err)
	}
	a.inner = grpc.NewServer(a.ServerOptions()...)
	a.Register(a.inner)
	a.own, err = grpc.NewClient("passthrough:///self",
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return a.pipe.DialContext(ctx) }),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxAnswer)))
	if err != nil {
		return nil, fmt.Errorf("making the API: %w", err)
	}
	if a.gateway, err = newGateway(a); err != nil {
		return nil, fmt.Errorf("making the API: %w", err)
	}
	return a, nil
}

func (c Config) check() error {
	for name, missing := range map[string]bool{
		"Store": c.Store == nil, "Leadership": c.Leadership == nil, "Raft": c.Raft == nil, "Gossip": c.Gossip == nil,
		"Proposer": c.Proposer == nil, "Planner": c.Planner == nil, "Streams": c.Streams == nil,
		"Logger": c.Logger == nil, "Version": c.Version == nil, "Metrics": c.Metrics == nil,
	} {
		if missing {
			return fmt.Errorf("the configuration has no %s", name)
		}
	}
	return nil
}

// Register offers the public services on a grpc.Server that was made with ServerOptions.
func (a *API) Register(r grpc.ServiceRegistrar) {
	berthv1.RegisterJobServiceServer(r, jobService{a: a})
	berthv1.RegisterAllocServiceServer(r, allocService{a: a})
	berthv1.RegisterNodeServiceServer(r, nodeService{a: a})
	berthv1.RegisterEvaluationServiceServer(r, evaluationService{a: a})
	berthv1.RegisterNamespaceServiceServer(r, namespaceService{a: a})
	berthv1.RegisterDeploymentServiceServer(r, deploymentService{a: a})
	berthv1.RegisterReservationServiceServer(r, reservationService{a: a})
	berthv1.RegisterServiceServiceServer(r, discoveryService{a: a})
	berthv1.RegisterVariableServiceServer(r, variableService{a: a})
	berthv1.RegisterImageServiceServer(r, imageService{a: a})
	berthv1.RegisterOperatorServiceServer(r, operatorService{a: a})
	berthv1.RegisterSchedulerServiceServer(r, schedulerService{a: a})
	berthv1.RegisterStatusServiceServer(r, statusService{a: a})
}

// Run serves the HTTP side's calls until ctx ends; then everything that waits or streams
// is told that this server is going away. It may run once. Stop the gRPC and HTTP
// servers before or after; both orders work.
func (a *API) Run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, a.Close)
	defer stop()
	err := a.inner.Serve(a.pipe)
	if ctx.Err() == nil {
		return fmt.Errorf("serving the HTTP side: %w", err)
	}
	if errors.Is(err, grpc.ErrServerStopped) {
		err = nil
	}
	a.calls.Wait()
	return err
}

// Close ends everything. Only an API that is never run needs it.
func (a *API) Close() {
	a.end(errClosing())
	a.mu.Lock()
	a.ended = true
	a.mu.Unlock()
	_ = a.own.Close() // it has no error that could matter: nothing is written by it
	a.peers.Close()
	a.inner.Stop()
}

// start runs a goroutine of a call, which ends when the call does. It says whether it
// was started: not when the API has ended.
func (a *API) start(f func()) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.ended {
		a.calls.Go(f)
	}
	return !a.ended
}

// errClosing is what callers get when this server goes away.
func errClosing() error {
	return problem.New(problem.Unavailable, "", "this server is going away").WithRemedy("ask another server")
}
