// Package qga speaks to qemu-guest-agent in a guest, through a socket of QEMU's.
//
// Whether there is an agent is known by its answers alone: everything here has a
// deadline. One connection is one conversation: QEMU lets one client in at a time, and
// what an earlier one left unread is skipped by the delimiter that guest-sync-delimited
// has the agent send.
package qga

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"time"

	"github.com/berthd/berth/drivers/qemu/sock"
)

// maxAnswer bounds an answer; the agent itself keeps 16 MiB of a command's output.
const maxAnswer = 48 << 20

// ErrNoAgent says that nobody answers in the guest.
var ErrNoAgent = errors.New("no qemu-guest-agent answers in the guest")

// Error is the agent's refusal of a command.
type Error struct {
	Command, Class, Reason string
}

func (e *Error) Error() string {
	return fmt.Sprintf("the guest's agent refuses %s: %s", e.Command, e.Reason)
}

// Agent is a conversation with a guest's agent. It is for one goroutine.
type Agent struct {
	conn net.Conn
	r    *bufio.Reader
}

// Dial connects to the agent behind the socket called name in dir. ErrNoAgent: there is
// none, as far as can be seen until ctx ends; it should do so after some seconds.
func Dial(ctx context.Context, dir, name string) (*Agent, error) {
	conn, err := sock.Dial(ctx, dir, name)
	if err != nil {
		return nil, err
	}
	a := &Agent{conn: conn, r: bufio.NewReader(conn)}
	if err := a.within(ctx, a.sync); err != nil {
		conn.Close()
		if ctx.Err() != nil {
			return nil, fmt.Errorf("%w: %w", ErrNoAgent, ctx.Err())
		}
		return nil, fmt.Errorf("greeting the guest's agent: %w", err)
	}
	return a, nil
}

// Close ends the conversation.
func (a *Agent) Close() { a.conn.Close() }

// within does something with the connection that ends when ctx does.
func (a *Agent) within(ctx context.Context, do func() error) error {
	stop := context.AfterFunc(ctx, func() { _ = a.conn.SetDeadline(time.Unix(1, 0)) })
	err := do()
	if !stop() {
		// The deadline stays: what was half read cannot be gone on with.
		return ctx.Err()
	}
	return err
}

// delimiter is no part of any JSON, and begins the answer to guest-sync-delimited.
const delimiter = 0xff

func (a *Agent) sync() error {
	id := rand.Int32()
	line := fmt.Sprintf("\xff"+`{"execute": "guest-sync-delimited", "arguments": {"id": %d}}`+"\n", id)
	if _, err := io.WriteString(a.conn, line); err != nil {
		return err
	}
	for {
		b, err := a.r.ReadByte()
		if err != nil {
			return err
		}
		if b != delimiter {
			continue // of an earlier conversation
		}
		answer, err := a.read()
		if err != nil {
			return err
		}
		var got int32
		if json.Unmarshal(answer.Return, &got) == nil && got == id {
			return nil
		}
	}
}

type answer struct {
	Return json.RawMessage `json:"return"`
	Error  *struct {
		Class string `json:"class"`
		Desc  string `json:"desc"`
	} `json:"error"`
}

func (a *Agent) read() (*answer, error) {
	var line []byte
	for {
		part, err := a.r.ReadSlice('\n')
		line = append(line, part...)
		if len(line) > maxAnswer {
			return nil, fmt.Errorf("the guest's agent sent more than %d MiB", maxAnswer>>20)
		}
		if err == nil {
			break
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return nil, err
		}
	}
	got := &answer{}
	if err := json.Unmarshal(line, got); err != nil {
		return nil, fmt.Errorf("the guest's agent sent what is not JSON: %.80q", line)
	}
	return got, nil
}

// Run has the agent execute a command; result may be nil.
func (a *Agent) Run(ctx context.Context, command string, args, result any) error {
	err := a.within(ctx, func() error {
		if err := a.send(command, args); err != nil {
			return err
		}
		got, err := a.read()
		if err != nil {
			return err
		}
		if got.Error != nil {
			return &Error{Command: command, Class: got.Error.Class, Reason: got.Error.Desc}
		}
		if result == nil {
			return nil
		}
		return json.Unmarshal(got.Return, result)
	})
	var refusal *Error
	if err != nil && !errors.As(err, &refusal) {
		return fmt.Errorf("asking the guest's agent for %s: %w", command, err)
	}
	return err
}

func (a *Agent) send(command string, args any) error {
	line, err := json.Marshal(struct {
		Execute   string `json:"execute"`
		Arguments any    `json:"arguments,omitempty"`
	}{command, args})
	if err != nil {
		return err
	}
	_, err = a.conn.Write(append(line, '\n'))
	return err
}
