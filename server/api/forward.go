package api

import (
	"context"
	"errors"
	"io"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/berthd/berth/problem"
	"github.com/berthd/berth/server/consensus"
)

// forwardedKey marks a call that another server has forwarded: it is not forwarded
// again, so that servers that disagree about who leads do not send it in circles.
const forwardedKey = "berth-forwarded"

// notLeaderField marks the problem of a server that does not lead, over the wire as well.
const notLeaderField = "leader"

// retryPause is how long to wait before the believed leader is tried again, unless there
// is news before.
const retryPause = 100 * time.Millisecond

// NotLeader is the problem of a call that only the leader can carry out, and that has
// done nothing: it can be tried again without harm. cause may be nil.
func NotLeader(cause error) error {
	p := problem.New(problem.Unavailable, notLeaderField, "there is no leader")
	if cause != nil {
		p = problem.New(problem.Unavailable, notLeaderField, "the leader cannot be reached: %w", cause)
	}
	return p.WithRemedy("try again soon; if it stays so, `berth server members` shows which servers are missing")
}

func isNotLeader(err error) bool {
	if err == nil || errors.Is(err, consensus.ErrNotLeader) {
		return err != nil
	}
	p := problem.From(err)
	return p.Kind == problem.Unavailable && p.Field == notLeaderField
}

// routeUnary carries a call out where it belongs: here, or on the leader. It rides over
// elections: a call that has done nothing yet waits for the next leader.
func (a *API) routeUnary(ctx context.Context, m *method, req proto.Message, handler grpc.UnaryHandler) (any, error) {
	a.tellContact(ctx)
	if m.local || isStale(req) {
		return handler(ctx, req)
	}
	var resp any
	again := func(err error) bool {
		return isNotLeader(err) || m.repeatable(req) && problem.Is(err, problem.Unavailable)
	}
	err := a.onLeader(ctx, again,
		func() (err error) {
			if isConsistent(req) {
				if err := a.leadership.VerifyLeader(ctx); err != nil {
					return NotLeader(err)
				}
			}
			resp, err = handler(ctx, req)
			return err
		},
		func(conn *grpc.ClientConn) error {
			answer := m.out.New().Interface()
			var header metadata.MD
			if err := conn.Invoke(outgoing(ctx), m.name, req, answer, grpc.Header(&header)); err != nil {
				return err
			}
			if index := header.Get(HeaderIndex); len(index) > 0 {
				setHeader(ctx, HeaderIndex, index[0])
			}
			resp = answer
			return nil
		})
	return resp, err
}

// routeStream is routeUnary for streams; once begun, they are not tried again.
func (a *API) routeStream(srv any, ss *checkedStream, m *method, handler grpc.StreamHandler) error {
	if m.local {
		return handler(srv, ss)
	}
	if !m.desc.IsStreamingClient() {
		first := m.in.New().Interface()
		if err := ss.RecvMsg(first); err != nil {
			return err
		}
		ss.next = first
		if isStale(first) {
			return handler(srv, ss)
		}
	}
	begun := false
	again := func(err error) bool { return isNotLeader(err) && !begun }
	return a.onLeader(ss.Context(), again,
		func() error { begun = true; return handler(srv, ss) },
		func(conn *grpc.ClientConn) error { begun = true; return a.relay(ss, conn, m) })
}

// onLeader runs local when this server leads, and remote on a connection to the leader
// otherwise, waiting for a leader where there is none. again says after which errors it
// is tried anew.
func (a *API) onLeader(ctx context.Context, again func(error) bool, local func() error, remote func(*grpc.ClientConn) error) error {
	var limit <-chan time.Time // begins when something has failed
	for {
		address, changed := a.leadership.Leader()
		var last error
		tried := true
		switch {
		case a.leadership.IsLeader():
			if last = local(); errors.Is(last, consensus.ErrNotLeader) {
				last = NotLeader(last)
			}
		case isForwarded(ctx):
			return NotLeader(nil)
		case address != "":
			last = a.onRemote(ctx, address, remote)
		default:
			last, tried = NotLeader(nil), false
		}
		if last == nil || !again(last) || ctx.Err() != nil {
			return last
		}
		if limit == nil {
			limit = time.After(a.leaderWait)
		}
		var pause <-chan time.Time // without a leader, only news helps
		if tried {
			pause = time.After(retryPause)
		}
		select {
		case <-changed:
		case <-pause:
		case <-limit:
			return last
		case <-ctx.Done():
			return last
		case <-a.life.Done():
			return errClosing()
		}
	}
}

func (a *API) onRemote(ctx context.Context, address string, remote func(*grpc.ClientConn) error) error {
	conn, err := a.peers.Ready(ctx, address)
	if err != nil {
		return NotLeader(err)
	}
	err = remote(conn)
	if s, ok := status.FromError(err); ok && s.Code() == codes.Unavailable && len(s.Details()) == 0 {
		// grpc's own words: the connection broke on the way. The leader's come with details.
		return problem.New(problem.Unavailable, "", "the leader was lost while it carried this out: %w", err).
			WithRemedy("it may be done or not: read what became of it, then decide whether to try again")
	}
	return err
}

// relay carries a stream to the leader and back, message by message.
func (a *API) relay(ss grpc.ServerStream, conn *grpc.ClientConn, m *method) error {
	ctx, cancel := context.WithCancel(outgoing(ss.Context()))
	defer cancel()
	desc := &grpc.StreamDesc{StreamName: string(m.desc.Name()), ServerStreams: true, ClientStreams: true}
	cs, err := conn.NewStream(ctx, desc, m.name)
	if err != nil {
		return err
	}
	refused := make(chan error, 1)
	a.start(func() {
		if err := pump(cs, ss, m.in.New); err != nil && !errors.Is(err, io.EOF) {
			refused <- err
			cancel()
			return
		}
		_ = cs.CloseSend()
	})
	err = pump(ss, cs, m.out.New)
	select {
	case err := <-refused: // the caller's message was at fault, not the leader
		return err
	default:
	}
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// outgoing is ctx for a call to another server: the caller's credentials go with it.
func outgoing(ctx context.Context) context.Context {
	md := metadata.Pairs(forwardedKey, "1")
	if in, ok := metadata.FromIncomingContext(ctx); ok {
		md.Append("authorization", in.Get("authorization")...)
	}
	return metadata.NewOutgoingContext(ctx, md)
}

func isForwarded(ctx context.Context) bool {
	md, _ := metadata.FromIncomingContext(ctx)
	return len(md.Get(forwardedKey)) > 0
}
