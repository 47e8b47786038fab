// Package qmp speaks QEMU's monitor protocol.
//
// A Monitor is one machine's: commands with deadlines, matched to their answers by ids;
// events, drained always and handed out through bounded queues; a connection that is
// made anew with the next command when it has broken. What is not QMP breaks the
// connection with a clear error; nothing that comes from QEMU makes it panic or hang.
//
// The commands themselves and their types are digitalocean/go-qemu's, which this package
// alone imports. The connection is ours: see docs/adr/0012.
package qmp

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/berthd/berth/drivers/qemu/sock"
)

// Timeout bounds a command whose context has no deadline, and the beginning of a
// connection. QEMU answers in microseconds unless the host is overloaded.
const Timeout = 30 * time.Second

// Error is QEMU's refusal of a command.
type Error struct {
	Command, Class, Reason string
}

func (e *Error) Error() string { return fmt.Sprintf("QEMU refuses %s: %s", e.Command, e.Reason) }

// ErrClosed says that Close was called.
var ErrClosed = errors.New("the connection to QEMU was closed")

// Monitor is a machine's monitor. Its methods may be called from several goroutines.
type Monitor struct {
	dir, name string
	subs      subscribers
	// dialing is held while a connection is made.
	dialing chan struct{}

	mu     sync.Mutex
	conn   *conn // the newest; may be broken
	closed bool
}

// Dial connects to the monitor at the socket called name in dir.
func Dial(ctx context.Context, dir, name string) (*Monitor, error) {
	m := &Monitor{dir: dir, name: name, dialing: make(chan struct{}, 1)}
	if _, err := m.connected(ctx); err != nil {
		return nil, err
	}
	return m, nil
}

// Close ends the connection; commands in flight fail.
func (m *Monitor) Close() {
	m.mu.Lock()
	m.closed = true
	c := m.conn
	m.mu.Unlock()
	if c != nil {
		c.fail(ErrClosed)
	}
}

// Version is QEMU's: "7.2.22".
func (m *Monitor) Version() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.conn.version
}

// Run has QEMU execute a command. result, may be nil, is filled from what it returns. A
// command whose answer was lost with the connection is not sent again: whether it was
// done is not known.
func (m *Monitor) Run(ctx context.Context, command string, args, result any) error {
	return m.RunWithFile(ctx, command, args, nil, result)
}

// RunWithFile passes an open file along, for commands that take one (getfd, add-fd).
func (m *Monitor) RunWithFile(ctx context.Context, command string, args any, file *os.File, result any) error {
	ctx, cancel := bounded(ctx)
	defer cancel()
	c, err := m.connected(ctx)
	if err != nil {
		return err
	}
	return c.run(ctx, command, args, file, result)
}

func bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, Timeout)
}

// connected gives a connection that was whole a moment ago.
func (m *Monitor) connected(ctx context.Context) (*conn, error) {
	select {
	case m.dialing <- struct{}{}:
	case <-ctx.Done():
		return nil, fmt.Errorf("waiting for QEMU's monitor: %w", ctx.Err())
	}
	defer func() { <-m.dialing }()
	m.mu.Lock()
	c, closed := m.conn, m.closed
	m.mu.Unlock()
	if closed {
		return nil, ErrClosed
	}
	if c != nil && c.broken() == nil {
		return c, nil
	}
	ctx, cancel := bounded(ctx)
	defer cancel()
	raw, err := sock.Dial(ctx, m.dir, m.name)
	if err != nil {
		return nil, err
	}
	if c, err = handshake(ctx, raw, m.subs.publish); err != nil {
		return nil, err
	}
	m.mu.Lock()
	m.conn, closed = c, m.closed
	m.mu.Unlock()
	if closed {
		c.fail(ErrClosed)
		return nil, ErrClosed
	}
	return c, nil
}
