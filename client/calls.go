package client

import (
	"context"
	"errors"
	"io"
	"strings"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/berthd/berth/problem"
)

// caller is what happens around every call: defaults into the request, the token beside
// it, reads tried again, errors made problems.
type caller struct {
	cfg       Config
	addresses []string
	// connected is set once any call was answered: from then on a refused connection is
	// an outage that may pass, before it is a wrong address.
	connected atomic.Bool
}

func (c *caller) unary(ctx context.Context, method string, req, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	c.fill(req)
	ctx = c.authorize(ctx)
	giveUp := time.Now().Add(c.cfg.RetryFor)
	var header metadata.MD
	if c.cfg.Observe != nil {
		opts = append(opts, grpc.Header(&header))
	}
	for delay := 100 * time.Millisecond; ; delay = min(2*delay, time.Second) {
		err := invoke(ctx, method, req, reply, conn, opts...)
		if err == nil {
			c.connected.Store(true)
			if c.cfg.Observe != nil {
				c.cfg.Observe(FreshnessOf(header))
			}
			return nil
		}
		again := isRead(method) && c.mayPass(err)
		if !again || time.Now().Add(delay).After(giveUp) || !sleep(ctx, delay) {
			return c.decode(ctx, err)
		}
	}
}

func (c *caller) stream(ctx context.Context, desc *grpc.StreamDesc, conn *grpc.ClientConn, method string, open grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	stream, err := open(c.authorize(ctx), desc, conn, method, opts...)
	if err != nil {
		return nil, c.decode(ctx, err)
	}
	return &decodingStream{ClientStream: stream, caller: c}, nil
}

// decodingStream makes problems of a stream's errors.
type decodingStream struct {
	grpc.ClientStream
	caller *caller
}

func (s *decodingStream) SendMsg(m any) error {
	s.caller.fill(m)
	return s.caller.decode(s.Context(), s.ClientStream.SendMsg(m))
}

func (s *decodingStream) RecvMsg(m any) error {
	err := s.ClientStream.RecvMsg(m)
	if err == nil {
		s.caller.connected.Store(true)
	}
	return s.caller.decode(s.Context(), err)
}

// fill sets what the configuration says for every request that can hold it.
func (c *caller) fill(req any) {
	m, ok := req.(proto.Message)
	if !ok {
		return
	}
	r := m.ProtoReflect()
	fields := r.Descriptor().Fields()
	if f := fields.ByName("namespace"); f != nil && f.Kind() == protoreflect.StringKind && c.cfg.Namespace != "" && !r.Has(f) {
		r.Set(f, protoreflect.ValueOfString(c.cfg.Namespace))
	}
	if f := fields.ByName("stale"); f != nil && f.Kind() == protoreflect.BoolKind && c.cfg.Stale {
		r.Set(f, protoreflect.ValueOfBool(true))
	}
}

func (c *caller) authorize(ctx context.Context) context.Context {
	if c.cfg.Token == "" {
		return ctx
	}
	return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+c.cfg.Token)
}

// mayPass says whether the same read may be answered in a moment: a server said so (it
// has no leader just now), or servers that did answer have become unreachable.
func (c *caller) mayPass(err error) bool {
	if problem.KindOf(err) != problem.Unavailable {
		return false
	}
	return fromServer(err) || c.connected.Load()
}

// isRead says whether a method changes nothing, so that it can be called twice.
func isRead(method string) bool {
	name := method[strings.LastIndexByte(method, '/')+1:]
	for _, verb := range []string{"Get", "List", "Plan", "Validate", "Parse", "Stat"} {
		if strings.HasPrefix(name, verb) {
			return true
		}
	}
	return false
}

// decode makes a problem of what a call returned; io.EOF, the good end of a stream, and
// nil stay what they are.
func (c *caller) decode(ctx context.Context, err error) error {
	if err == nil || errors.Is(err, io.EOF) {
		return err
	}
	if cause := context.Cause(ctx); cause != nil && !fromServer(err) {
		return problem.From(cause)
	}
	return explain(err, c.addresses, c.cfg.TLS != nil)
}

// sleep waits, and says whether it was for the whole time.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
