package qmp

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"sync"
	"syscall"
	"time"

	goqemu "github.com/digitalocean/go-qemu/qmp"
)

// maxLine bounds one message: query-qmp-schema is 200 KB.
const maxLine = 16 << 20

// conn is one connection. A goroutine reads it until it breaks; it ends with that.
type conn struct {
	raw     *net.UnixConn
	version string
	publish func(Event)
	// writing is held while a command is sent.
	writing chan struct{}
	ended   chan struct{} // closed when it is broken

	mu      sync.Mutex
	err     error // why it is broken
	next    uint64
	waiting map[string]chan message
}

// message is any message of QEMU's.
type message struct {
	ID     string          `json:"id"`
	Return json.RawMessage `json:"return"`
	Error  *struct {
		Class string `json:"class"`
		Desc  string `json:"desc"`
	} `json:"error"`
	QMP *struct {
		Version goqemu.Version `json:"version"`
	} `json:"QMP"`
	goqemu.Event
}

// command is go-qemu's, and an id.
type command struct {
	goqemu.Command
	ID string `json:"id"`
}

// handshake makes a connection of a socket that was dialed. It closes raw when it fails.
func handshake(ctx context.Context, raw *net.UnixConn, publish func(Event)) (*conn, error) {
	c := &conn{
		raw: raw, publish: publish, writing: make(chan struct{}, 1), ended: make(chan struct{}),
		waiting: map[string]chan message{},
	}
	stop := context.AfterFunc(ctx, func() { _ = raw.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	lines := bufio.NewReader(raw)
	greeting, err := read(lines)
	if err == nil && greeting.QMP == nil {
		err = errors.New("QEMU's monitor does not greet as one")
	}
	if err != nil {
		raw.Close()
		if ctx.Err() != nil {
			err = fmt.Errorf("it does not greet (somebody else may be connected): %w", ctx.Err())
		}
		return nil, fmt.Errorf("connecting to QEMU's monitor: %w", err)
	}
	c.version = greeting.QMP.Version.String()
	go c.read(lines)
	err = c.run(ctx, "qmp_capabilities", nil, nil, nil)
	if !stop() && err == nil {
		err = ctx.Err() // and the deadline would end the connection
	}
	if err != nil {
		c.fail(err)
		return nil, fmt.Errorf("connecting to QEMU's monitor: %w", err)
	}
	return c, nil
}

// read reads one message.
func read(r *bufio.Reader) (message, error) {
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		line = append(line, part...)
		if len(line) > maxLine {
			return message{}, fmt.Errorf("QEMU's monitor sent a message of more than %d MiB", maxLine>>20)
		}
		if err == nil {
			break
		}
		if errors.Is(err, io.EOF) && len(line) > 0 {
			err = io.ErrUnexpectedEOF
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return message{}, err
		}
	}
	var m message
	if err := json.Unmarshal(line, &m); err != nil {
		return m, fmt.Errorf("QEMU's monitor sent what is not QMP: %.80q", line)
	}
	return m, nil
}

// read takes all that comes until the connection breaks.
func (c *conn) read(lines *bufio.Reader) {
	for {
		m, err := read(lines)
		if errors.Is(err, io.EOF) {
			err = errors.New("QEMU closed the connection to its monitor")
		}
		if err != nil {
			c.fail(err)
			return
		}
		if m.Event.Event != "" {
			c.publish(asEvent(m.Event))
			continue
		}
		c.mu.Lock()
		answer := c.waiting[m.ID]
		delete(c.waiting, m.ID)
		c.mu.Unlock()
		if answer != nil { // else: it came too late, or answers what is no command
			answer <- m
		}
	}
}

// fail breaks the connection; the first reason stays.
func (c *conn) fail(err error) {
	c.mu.Lock()
	first := c.err == nil
	if first {
		c.err = err
		close(c.ended)
	}
	c.mu.Unlock()
	c.raw.Close()
	if first {
		c.publish(Event{Name: Broken, At: time.Now()})
	}
}

func (c *conn) broken() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

func (c *conn) run(ctx context.Context, name string, args any, file *os.File, result any) error {
	c.mu.Lock()
	c.next++
	id, answer := strconv.FormatUint(c.next, 10), make(chan message, 1)
	c.waiting[id] = answer
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		delete(c.waiting, id)
		c.mu.Unlock()
	}()
	line, err := json.Marshal(command{Command: goqemu.Command{Execute: name, Args: args}, ID: id})
	if err != nil {
		return fmt.Errorf("writing %s for QEMU: %w", name, err)
	}
	if err := c.send(ctx, append(line, '\n'), file); err != nil {
		return fmt.Errorf("sending %s to QEMU: %w", name, err)
	}
	select {
	case m := <-answer:
		return m.result(name, result)
	case <-c.ended:
		return fmt.Errorf("waiting for QEMU's answer to %s: %w", name, c.broken())
	case <-ctx.Done():
		return fmt.Errorf("waiting for QEMU's answer to %s: %w", name, ctx.Err())
	}
}

// send writes a line. Half a line would spoil all that follow, so that breaks the connection.
func (c *conn) send(ctx context.Context, line []byte, file *os.File) error {
	select {
	case c.writing <- struct{}{}:
	case <-c.ended:
		return c.broken()
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-c.writing }()
	stop := context.AfterFunc(ctx, func() { _ = c.raw.SetWriteDeadline(time.Unix(1, 0)) })
	var rights []byte
	if file != nil {
		rights = syscall.UnixRights(int(file.Fd()))
	}
	n, _, err := c.raw.WriteMsgUnix(line, rights, nil)
	for err == nil && n < len(line) {
		var more int
		more, err = c.raw.Write(line[n:])
		n += more
	}
	if !stop() && err == nil {
		err = ctx.Err() // and the deadline would end what is written next
	}
	if err != nil {
		c.fail(fmt.Errorf("writing to QEMU's monitor: %w", err))
	}
	return err
}

func (m *message) result(command string, result any) error {
	if m.Error != nil {
		return &Error{Command: command, Class: m.Error.Class, Reason: m.Error.Desc}
	}
	if result == nil {
		return nil
	}
	if err := json.Unmarshal(m.Return, result); err != nil {
		return fmt.Errorf("reading QEMU's answer to %s: %w", command, err)
	}
	return nil
}
