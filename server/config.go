package server

import (
	"crypto/tls"
	"log/slog"
	"net"
	"time"

	"google.golang.org/grpc"

	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/server/consensus"
	"github.com/berthd/berth/server/dispatch"
)

// Config is what a server is made of.
type Config struct {
	// Consensus is this server's part in the Raft set: names, addresses, data directory,
	// who to join. Its FSM, CheckSnapshot and Logger are filled in.
	Consensus consensus.Config
	// GRPCListener serves the API, agents and other servers; HTTPListener the REST API.
	// Run closes them.
	GRPCListener, HTTPListener net.Listener
	// ServerTLS and ClientTLS secure gRPC and HTTP; nil: plain.
	ServerTLS, ClientTLS *tls.Config
	// Dispatch is how fast agents are noticed.
	Dispatch dispatch.Timing
	// Version of the build.
	Version *berthv1.Version
	Logger  *slog.Logger

	// PeerOptions are added to connections to other servers; tests dial in memory.
	PeerOptions []grpc.DialOption
	// History is how many changes are kept for event streams; 0: the state's default.
	History int
	// StopTimeout bounds how long calls may go on after Run's context has ended (5 s).
	StopTimeout time.Duration
}

func (c Config) check() (Config, error) {
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.GRPCListener == nil || c.HTTPListener == nil {
		return c, problem.New(problem.Invalid, "listeners", "a server needs a gRPC and an HTTP listener")
	}
	if c.Version == nil {
		c.Version = &berthv1.Version{Version: "dev"}
	}
	if c.StopTimeout == 0 {
		c.StopTimeout = 5 * time.Second
	}
	return c, nil
}
