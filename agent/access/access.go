// Package access serves what people do inside an allocation: logs, exec, files, signals
// and restarts.
package access

import (
	"context"
	"log/slog"

	"google.golang.org/grpc"

	"github.com/berthd/berth/agent/runner"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// Server serves streams.
type Server struct {
	allocs *runner.Manager
	log    *slog.Logger
}

// New makes a Server.
func New(allocs *runner.Manager, log *slog.Logger) *Server { return &Server{allocs, log} }

// Serve serves one order.
func (s *Server) Serve(ctx context.Context, order *berthv1.StreamOrder, stream grpc.BidiStreamingClient[berthv1.StreamFrame, berthv1.StreamFrame]) {
}
