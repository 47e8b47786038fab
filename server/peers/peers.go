// Package peers holds a server's gRPC connections to the other servers. The API forwards
// calls over them, dispatch registers, reports and relays. A Pool starts nothing by
// itself: connections are made when they are asked for, and kept until Close.
package peers

import (
	"context"
	"crypto/tls"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"

	"github.com/berthd/berth/problem"
)

// MaxMessage bounds a message between servers, in bytes.
const MaxMessage = 64 << 20

// Pool is the connections to other servers, made when first needed and kept.
type Pool struct {
	options []grpc.DialOption

	mu     sync.Mutex
	conns  map[string]*grpc.ClientConn
	closed bool
}

// New makes a pool without connections. config secures them, nil: plain; extra options
// go over its own.
func New(config *tls.Config, extra []grpc.DialOption) *Pool {
	creds := insecure.NewCredentials()
	if config != nil {
		creds = credentials.NewTLS(config)
	}
	return &Pool{
		conns: map[string]*grpc.ClientConn{},
		options: append([]grpc.DialOption{
			grpc.WithTransportCredentials(creds),
			grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(MaxMessage), grpc.MaxCallSendMsgSize(MaxMessage)),
			grpc.WithConnectParams(grpc.ConnectParams{
				Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: time.Second},
				MinConnectTimeout: 2 * time.Second,
			}),
			grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 20 * time.Second, Timeout: 5 * time.Second}),
		}, extra...),
	}
}

// Conn gives the connection to a gRPC address, up or not.
func (p *Pool) Conn(address string) (*grpc.ClientConn, error) {
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

// Ready gives a connection that is up. An error means that nothing was sent over it,
// which the error of a call would leave open.
func (p *Pool) Ready(ctx context.Context, address string) (*grpc.ClientConn, error) {
	conn, err := p.Conn(address)
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

// Close ends all connections; nobody is connected to any more.
func (p *Pool) Close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	for _, conn := range p.conns {
		_ = conn.Close()
	}
	clear(p.conns)
}

// errClosing is what callers get when this server goes away.
func errClosing() error {
	return problem.New(problem.Unavailable, "", "this server is going away").WithRemedy("ask another server")
}
