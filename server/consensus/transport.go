package consensus

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/berthd/berth/problem"
)

// streams is the raft.StreamLayer on TCP, with TLS where it is configured. It keeps the
// connections that came in, so that Close ends them.
type streams struct {
	net.Listener
	id        string
	advertise raft.ServerAddress
	server    *tls.Config
	client    *tls.Config
	io        time.Duration

	mu     sync.Mutex
	closed bool
	open   map[net.Conn]struct{}
}

func newStreams(c Config) (*streams, error) {
	s := &streams{Listener: c.Listener, id: c.ID, server: c.ServerTLS, client: c.ClientTLS, io: c.Timing.IO, open: map[net.Conn]struct{}{}}
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

// A connection begins, inside TLS, with the ID of the server that it is meant for: one
// byte of version, one of length, and the ID. Raft's messages do not say whom they are
// for, and an empty server at the address of one that lost its data must not answer, and
// so vote and acknowledge, in its name.
const preambleVersion = 1

// target is a server and its address in one: what Dial is given.
func target(id raft.ServerID, address raft.ServerAddress) raft.ServerAddress {
	return raft.ServerAddress(string(id) + "@" + string(address))
}

// Dial implements raft.StreamLayer.
func (s *streams) Dial(to raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	i := strings.LastIndex(string(to), "@")
	if i < 0 {
		return nil, fmt.Errorf("%q does not say which server it is for", to)
	}
	id, address := string(to[:i]), string(to[i+1:])
	conn, err := s.dial(ctx, address)
	if err != nil {
		return nil, err
	}
	_ = conn.SetWriteDeadline(time.Now().Add(timeout))
	if _, err := conn.Write(append([]byte{preambleVersion, byte(len(id))}, id...)); err != nil {
		_ = conn.Close()
		return nil, err
	}
	return conn, conn.SetWriteDeadline(time.Time{})
}

func (s *streams) dial(ctx context.Context, address string) (net.Conn, error) {
	if s.client == nil {
		return new(net.Dialer).DialContext(ctx, "tcp", address)
	}
	return (&tls.Dialer{Config: s.client}).DialContext(ctx, "tcp", address)
}

// Accept implements net.Listener.
func (s *streams) Accept() (net.Conn, error) {
	conn, err := s.Listener.Accept()
	if err != nil {
		return nil, err
	}
	in := &incoming{Conn: conn, of: s}
	if s.server != nil {
		in.Conn = tls.Server(conn, s.server)
	}
	in.greet = sync.OnceValue(in.greeting)
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
	of    *streams
	greet func() error
}

// Read implements net.Conn. The TLS handshake and the preamble come with the first one, in the
// connection's own goroutine, so that a silent peer holds up nobody else.
func (c *incoming) Read(b []byte) (int, error) {
	if err := c.greet(); err != nil {
		return 0, err
	}
	return c.Conn.Read(b)
}

// greeting reads what comes before Raft's messages. TLS shakes hands with the first byte.
func (c *incoming) greeting() error {
	if err := c.Conn.SetDeadline(time.Now().Add(c.of.io)); err != nil {
		return err
	}
	var head [2]byte
	if _, err := io.ReadFull(c.Conn, head[:]); err != nil {
		return fmt.Errorf("greeting from %s: %w", c.RemoteAddr(), err)
	}
	if head[0] != preambleVersion {
		return fmt.Errorf("%s does not speak Berth's Raft protocol", c.RemoteAddr())
	}
	id := make([]byte, head[1])
	if _, err := io.ReadFull(c.Conn, id); err != nil {
		return fmt.Errorf("greeting from %s: %w", c.RemoteAddr(), err)
	}
	if string(id) != c.of.id {
		return fmt.Errorf("%s looks for server %q, and this is %q", c.RemoteAddr(), id, c.of.id)
	}
	return c.Conn.SetDeadline(time.Time{})
}

// Close implements net.Conn.
func (c *incoming) Close() error {
	c.of.mu.Lock()
	delete(c.of.open, c)
	c.of.mu.Unlock()
	return c.Conn.Close()
}
