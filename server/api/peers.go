package api

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"strconv"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/berthd/berth/problem"
)

// peers is the connections to other servers, made when first needed and kept.
type peers struct {
	options []grpc.DialOption

	mu     sync.Mutex
	conns  map[string]*grpc.ClientConn
	closed bool
}

func newPeers(config *tls.Config, extra []grpc.DialOption) *peers {
	creds := insecure.NewCredentials()
	if config != nil {
		creds = credentials.NewTLS(config)
	}
	return &peers{
		conns: map[string]*grpc.ClientConn{},
		options: append([]grpc.DialOption{
			grpc.WithTransportCredentials(creds),
			grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxAnswer), grpc.MaxCallSendMsgSize(maxAnswer)),
			grpc.WithConnectParams(grpc.ConnectParams{
				Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: time.Second},
				MinConnectTimeout: 2 * time.Second,
			}),
			grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 20 * time.Second, Timeout: 5 * time.Second}),
		}, extra...),
	}
}

func (p *peers) conn(address string) (*grpc.ClientConn, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, errClosing()
	}
	if conn := p.conns[address]; conn != nil {
		return conn, nil
	}
	conn, err := grpc.NewClient("passthrough:///"+address, p.options...)
	if err != nil {
		return nil, err
	}
	p.conns[address] = conn
	return conn, nil
}

// ready gives a connection that is up. An error means that nothing was sent over it,
// which the error of a call would leave open.
func (p *peers) ready(ctx context.Context, address string) (*grpc.ClientConn, error) {
	conn, err := p.conn(address)
	if err != nil {
		return nil, err
	}
	conn.Connect()
	for s := conn.GetState(); s != connectivity.Ready; s = conn.GetState() {
		switch s {
		case connectivity.TransientFailure:
			return nil, problem.New(problem.Unavailable, "", "no connection to %s", address)
		case connectivity.Shutdown:
			return nil, errClosing()
		case connectivity.Idle:
			conn.Connect()
		}
		if !conn.WaitForStateChange(ctx, s) {
			return nil, context.Cause(ctx)
		}
	}
	return conn, nil
}

func (p *peers) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	for _, conn := range p.conns {
		_ = conn.Close()
	}
	clear(p.conns)
}

// tellContact says in the answer's headers how well this server knows its leader.
func (a *API) tellContact(ctx context.Context) {
	address, _ := a.leadership.Leader()
	setHeader(ctx, HeaderKnownLeader, strconv.FormatBool(address != "" || a.leadership.IsLeader()))
	setHeader(ctx, HeaderLastContact, strconv.FormatInt(a.leadership.LastContact().Milliseconds(), 10))
}

type sender interface{ SendMsg(m any) error }
type receiver interface{ RecvMsg(m any) error }

// pump copies messages until either side ends; io.EOF says that the source has.
func pump(to sender, from receiver, message func() protoreflect.Message) error {
	for {
		m := message().Interface()
		if err := from.RecvMsg(m); err != nil {
			return err
		}
		if err := to.SendMsg(m); err != nil {
			if errors.Is(err, io.EOF) { // the other side is over; its Recv says why
				return io.EOF
			}
			return err
		}
	}
}
