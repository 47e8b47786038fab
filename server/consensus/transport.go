package consensus

import (
	"context"
	"crypto/tls"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/berthd/berth/problem"
)

// streams is the raft.StreamLayer on TCP, with TLS where it is configured. It keeps the
// connections that came in, so that Close ends them.
type streams struct {
	net.Listener
	advertise raft.ServerAddress
	server    *tls.Config
	client    *tls.Config
	io        time.Duration

	mu     sync.Mutex
	closed bool
	open   map[net.Conn]struct{}
}

func newStreams(c Config) (*streams, error) {
	s := &streams{Listener: c.Listener, server: c.ServerTLS, client: c.ClientTLS, io: c.Timing.IO, open: map[net.Conn]struct{}{}}
	s.advertise = raft.ServerAddress(c.RaftAdvertise)
	if s.advertise == "" {
		s.advertise = raft.ServerAddress(c.Listener.Addr().String())
	}
	host, port, err := net.SplitHostPort(string(s.advertise))
	if err != nil {
		return nil, problem.New(problem.Invalid, "raft_advertise", "%q is not host:port: %w", s.advertise, err)
	}
	if ip := net.ParseIP(host); host == "" || port == "0" || ip != nil && ip.IsUnspecified() {
		return nil, problem.New(problem.Invalid, "raft_advertise", "other servers cannot reach %q", s.advertise).
			WithRemedy("set it to the host:port by which they reach this server's Raft listener")
	}
	return s, nil
}

// advertised is an address that is told to others; it may hold a host name.
type advertised string

func (advertised) Network() string  { return "tcp" }
func (a advertised) String() string { return string(a) }

// Addr implements net.Listener: where others reach it.
func (s *streams) Addr() net.Addr { return advertised(s.advertise) }

// Dial implements raft.StreamLayer.
func (s *streams) Dial(to raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	if s.client == nil {
		return new(net.Dialer).DialContext(ctx, "tcp", string(to))
	}
	return (&tls.Dialer{Config: s.client}).DialContext(ctx, "tcp", string(to))
}

// Accept implements net.Listener.
func (s *streams) Accept() (net.Conn, error) {
	conn, err := s.Listener.Accept()
	if err != nil {
		return nil, err
	}
	in := &incoming{Conn: conn, of: s}
	if s.server != nil {
		t := tls.Server(conn, s.server)
		in.Conn = t
		in.handshake = sync.OnceValue(func() error {
			ctx, cancel := context.WithTimeout(context.Background(), s.io)
			defer cancel()
			return t.HandshakeContext(ctx)
		})
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		_ = conn.Close()
		return nil, net.ErrClosed
	}
	s.open[in] = struct{}{}
	return in, nil
}

// Close implements net.Listener and ends the connections that came in.
func (s *streams) Close() error {
	err := s.Listener.Close()
	s.mu.Lock()
	s.closed = true
	open := s.open
	s.open = nil
	s.mu.Unlock()
	for c := range open {
		_ = c.(*incoming).Conn.Close()
	}
	return err
}

// incoming is a connection that another server opened.
type incoming struct {
	net.Conn
	of        *streams
	handshake func() error // nil: plain
}

// Read implements net.Conn. The TLS handshake comes with the first one, in the
// connection's own goroutine, so that a silent peer holds up nobody else.
func (c *incoming) Read(b []byte) (int, error) {
	if c.handshake != nil {
		if err := c.handshake(); err != nil {
			return 0, err
		}
	}
	return c.Conn.Read(b)
}

// Close implements net.Conn.
func (c *incoming) Close() error {
	c.of.mu.Lock()
	delete(c.of.open, c)
	c.of.mu.Unlock()
	return c.Conn.Close()
}
