package qemu

import (
	"context"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/berthd/berth/drivers"
	"github.com/berthd/berth/drivers/attach"
	"github.com/berthd/berth/drivers/logs"
	"github.com/berthd/berth/drivers/qemu/machine"
	"github.com/berthd/berth/drivers/qemu/sock"
)

// console moves a machine's output into the task's logs, and shares its serial console.
//
// All output, also that which viewers see, comes from the file that QEMU writes: so what
// is scrollback and what is new never overlap. The socket is for what is typed; that
// something comes out of it tells that there is more in the file.
type console struct {
	dir  stateDir
	task *drivers.Task

	wake  chan struct{} // holds one word when there may be output
	joins chan *attach.Viewer
	done  chan struct{} // closed when the console has ended

	mu   sync.Mutex
	all  map[*attach.Viewer]bool
	conn net.Conn      // nil: not connected
	open chan struct{} // closed when conn is set; made anew when it breaks
}

// scrollback is what a viewer gets first at most, in bytes.
const scrollback = 64 << 10

func newConsole(dir stateDir, t *drivers.Task) *console {
	return &console{
		dir: dir, task: t, wake: make(chan struct{}, 1), joins: make(chan *attach.Viewer), done: make(chan struct{}),
		all: map[*attach.Viewer]bool{}, open: make(chan struct{}),
	}
}

// run works until ctx ends; then it moves what is left.
func (c *console) run(ctx context.Context) {
	defer close(c.done)
	var reader sync.WaitGroup
	reader.Go(func() { c.listen(ctx) })
	defer reader.Wait()
	out, err := c.tail(machine.ConsoleLog, "stdout")
	if err != nil {
		return // the directory is gone
	}
	defer out.close()
	words, err := c.tail(errorsFile, "stderr")
	if err != nil {
		return
	}
	defer words.close()
	move := func() {
		_ = out.move(c.show)
		_ = words.move(func([]byte) {})
	}
	// QEMU writes to the socket a moment before it writes to the file.
	const soon, rarely = 5 * time.Millisecond, 500 * time.Millisecond
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-c.wake:
			move()
			timer.Reset(soon)
		case <-timer.C:
			move()
			timer.Reset(rarely)
		case v := <-c.joins:
			move()
			v.Add(newest(c.task, scrollback))
			c.mu.Lock()
			c.all[v] = true
			c.mu.Unlock()
		case <-ctx.Done():
			move()
			return
		}
	}
}

func (c *console) tail(file, stream string) (*tail, error) {
	t := c.task
	return openTail(c.dir.path(file), logs.Open(t.Dirs.Logs, t.Name, stream, t.Logs.MaxFiles, t.Logs.MaxFileBytes))
}

func (c *console) show(b []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for v := range c.all {
		v.Add(b)
	}
}

// listen keeps the connection to the console's socket, and reads it empty.
func (c *console) listen(ctx context.Context) {
	buf := make([]byte, 4<<10)
	for ctx.Err() == nil {
		conn, err := sock.Dial(ctx, string(c.dir), machine.ConsoleSocket)
		if err != nil {
			pause(ctx, 200*time.Millisecond)
			continue
		}
		c.mu.Lock()
		c.conn = conn
		close(c.open)
		c.mu.Unlock()
		stop := context.AfterFunc(ctx, func() { conn.Close() })
		for err == nil {
			_, err = conn.Read(buf)
			select {
			case c.wake <- struct{}{}:
			default:
			}
		}
		stop()
		conn.Close()
		c.mu.Lock()
		c.conn, c.open = nil, make(chan struct{})
		c.mu.Unlock()
	}
}

// typed writes to the serial line. A guest that does not read it makes it wait.
func (c *console) typed(b []byte) {
	for len(b) > 0 {
		c.mu.Lock()
		conn, open := c.conn, c.open
		c.mu.Unlock()
		if conn == nil {
			select {
			case <-open:
				continue
			case <-c.done:
				return
			}
		}
		n, err := conn.Write(b)
		b = b[n:]
		if err != nil {
			select {
			case <-c.done:
				return
			case <-time.After(10 * time.Millisecond):
			}
		}
	}
}

// attach shares the console with rw.
func (c *console) attach(ctx context.Context, rw io.ReadWriter, ended <-chan struct{}) error {
	v := attach.NewViewer()
	select {
	case c.joins <- v:
	case <-c.done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.all, v)
	}()
	return v.Serve(ctx, rw, c.typed, ended, c.done)
}

// newest is the end of a task's standard output, from its log files.
func newest(t *drivers.Task, most int) []byte {
	prefix := filepath.Join(t.Dirs.Logs, t.Name+".stdout.")
	names, _ := filepath.Glob(prefix + "*")
	number := func(name string) int {
		n, _ := strconv.Atoi(strings.TrimPrefix(name, prefix))
		return n
	}
	slices.SortFunc(names, func(a, b string) int { return number(b) - number(a) })
	var all []byte
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil || len(all) >= most {
			break
		}
		all = append(b, all...)
	}
	return all[max(0, len(all)-most):]
}
