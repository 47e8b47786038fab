package virtual

import (
	"context"
	"fmt"
	"net"
	"sync"

	"google.golang.org/grpc/test/bufconn"
)

// fabric is the network that gRPC runs over. A cut between two hosts holds back what is
// sent, as a dead wire does; healed, it arrives. A host that crashes resets everything.
type fabric struct {
	mu        sync.Mutex
	listeners map[string]*bufconn.Listener // by address; an address is its host's name
	cut       map[[2]string]bool           // by the two hosts, in order
	conns     map[*gatedConn]struct{}
	changed   chan struct{}
}

// buffered is how many bytes a wire takes that nobody has read. Each connection makes its
// buffers at once, and hosts that are cut off dial again and again.
const buffered = 32 << 10

func newFabric() *fabric {
	return &fabric{listeners: map[string]*bufconn.Listener{}, cut: map[[2]string]bool{}, conns: map[*gatedConn]struct{}{}, changed: make(chan struct{})}
}

func (f *fabric) listen(host string) net.Listener {
	l := bufconn.Listen(buffered)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.listeners[host] = l
	return l
}

func pair(a, b string) [2]string {
	if a > b {
		a, b = b, a
	}
	return [2]string{a, b}
}

// setCut cuts or heals the wire between two hosts.
func (f *fabric) setCut(a, b string, cut bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.cut[pair(a, b)] = cut
	close(f.changed)
	f.changed = make(chan struct{})
}

// crash drops every connection of a host, and its listener.
func (f *fabric) crash(host string) {
	f.mu.Lock()
	var gone []*gatedConn
	for c := range f.conns {
		if c.from == host || c.to == host {
			gone = append(gone, c)
		}
	}
	delete(f.listeners, host)
	f.mu.Unlock()
	for _, c := range gone {
		_ = c.Close()
	}
}

// dialer dials from a host.
func (f *fabric) dialer(from string) func(context.Context, string) (net.Conn, error) {
	return func(ctx context.Context, to string) (net.Conn, error) {
		for {
			f.mu.Lock()
			cut, changed, l := f.cut[pair(from, to)], f.changed, f.listeners[to]
			f.mu.Unlock()
			if !cut {
				if l == nil {
					return nil, fmt.Errorf("dialing %s: connection refused", to)
				}
				inner, err := l.DialContext(ctx)
				if err != nil {
					return nil, err
				}
				c := &gatedConn{Conn: inner, fabric: f, from: from, to: to, closed: make(chan struct{})}
				f.mu.Lock()
				f.conns[c] = struct{}{}
				f.mu.Unlock()
				return c, nil
			}
			select {
			case <-ctx.Done():
				return nil, ctx.Err()
			case <-changed:
			}
		}
	}
}

// gatedConn is the dialling end of a connection; its gate holds back both directions.
type gatedConn struct {
	net.Conn
	fabric   *fabric
	from, to string
	once     sync.Once
	closed   chan struct{}
}

// pass waits until the wire is whole.
func (c *gatedConn) pass() error {
	for {
		c.fabric.mu.Lock()
		cut, changed := c.fabric.cut[pair(c.from, c.to)], c.fabric.changed
		c.fabric.mu.Unlock()
		if !cut {
			return nil
		}
		select {
		case <-changed:
		case <-c.closed:
			return net.ErrClosed
		}
	}
}

func (c *gatedConn) Write(p []byte) (int, error) {
	if err := c.pass(); err != nil {
		return 0, err
	}
	return c.Conn.Write(p)
}

func (c *gatedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if perr := c.pass(); perr != nil {
		return 0, perr
	}
	return n, err
}

func (c *gatedConn) Close() error {
	c.once.Do(func() {
		close(c.closed)
		c.fabric.mu.Lock()
		delete(c.fabric.conns, c)
		c.fabric.mu.Unlock()
	})
	return c.Conn.Close()
}
