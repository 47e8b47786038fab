package api

import (
	"context"
	"log/slog"
	"runtime/debug"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/peer"
	"google.golang.org/protobuf/proto"

	"github.com/berthd/berth/problem"
)

// defaultTimeout bounds a call that brings no deadline of its own, beside what a
// blocking query waits and what the wait for a leader takes.
const defaultTimeout = time.Minute

// ServerOptions is what a grpc.Server that carries the API must be made with: calls are
// checked, sent to the leader where they belong there, counted, and their errors and
// panics made into problems. Services other than the API's pass through with no more
// than that last part.
func (a *API) ServerOptions() []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.ChainUnaryInterceptor(a.unary),
		grpc.ChainStreamInterceptor(a.stream),
		grpc.MaxRecvMsgSize(maxMessage),
	}
}

// unary is around every call with one answer.
func (a *API) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (resp any, err error) {
	done := a.begin(ctx, info.FullMethod, req)
	defer func() { err = done(recover(), err) }()
	m := methods[info.FullMethod]
	if m == nil {
		return handler(ctx, req)
	}
	if err := checkMessage(req.(proto.Message)); err != nil {
		return nil, err
	}
	if _, ok := ctx.Deadline(); !ok {
		limit := defaultTimeout + a.leaderWait
		if q, ok := req.(blocking); ok && q.GetIndex() > 0 {
			limit += maxWait + maxWait/16
		}
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, limit)
		defer cancel()
	}
	return a.routeUnary(ctx, m, req.(proto.Message), handler)
}

// stream is around every call that streams.
func (a *API) stream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) (err error) {
	done := a.begin(ss.Context(), info.FullMethod, nil)
	defer func() { err = done(recover(), err) }()
	m := methods[info.FullMethod]
	if m == nil {
		return handler(srv, ss)
	}
	ctx, cancel := context.WithCancelCause(ss.Context())
	defer cancel(nil)
	stop := context.AfterFunc(a.life, func() { cancel(errClosing()) })
	defer stop()
	return a.routeStream(srv, &checkedStream{ServerStream: ss, ctx: ctx}, m, handler)
}

// begin notes that a call begins. What it returns is called at the end with the panic
// and the error that it ended with, and gives the error to send.
func (a *API) begin(ctx context.Context, fullMethod string, req any) func(panicked any, err error) error {
	name := fullMethod
	m := methods[fullMethod]
	if m != nil {
		name = m.short
	}
	start := time.Now()
	a.metrics.inFlight.WithLabelValues(name).Inc()
	return func(panicked any, err error) error {
		if panicked != nil {
			a.logger.Error("a call panicked", "method", name, "panic", panicked, "stack", string(debug.Stack()))
			err = problem.New(problem.Internal, "", "the server failed while handling %s", name).
				WithRemedy("this is a defect of Berth; the server's log has the details")
		}
		took := time.Since(start)
		a.metrics.inFlight.WithLabelValues(name).Dec()
		a.metrics.calls.WithLabelValues(name, string(problem.KindOf(err))).Inc()
		if q, waits := req.(blocking); m != nil && req != nil && (!waits || q.GetIndex() == 0) {
			a.metrics.seconds.WithLabelValues(name).Observe(took.Seconds())
		}
		if a.logger.Enabled(ctx, slog.LevelDebug) {
			a.logger.Debug("call", "method", name, "peer", peerOf(ctx), "took", took, "error", err)
		}
		return problem.Wire(err)
	}
}

func peerOf(ctx context.Context) string {
	if p, ok := peer.FromContext(ctx); ok && p.Addr != nil {
		return p.Addr.String()
	}
	return ""
}

// checkedStream checks every message that comes in, and ends with the API.
type checkedStream struct {
	grpc.ServerStream
	ctx  context.Context
	next proto.Message // already received, and not yet given to the handler
}

func (s *checkedStream) Context() context.Context { return s.ctx }

func (s *checkedStream) RecvMsg(m any) error {
	if s.next != nil {
		proto.Merge(m.(proto.Message), s.next)
		s.next = nil
		return nil
	}
	if err := s.ServerStream.RecvMsg(m); err != nil {
		return err
	}
	return checkMessage(m.(proto.Message))
}
