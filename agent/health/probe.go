package health

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// Target is what a check asks.
type Target struct {
	// Address is host:port; empty: there is no such port, and Why says it.
	Address string
	// Exec runs a script in the check's task; nil: it cannot, and Why says it.
	Exec ExecFunc
	Why  string
}

// Prober makes what runs a check.
func (p *Pool) Prober(c *berthv1.Check, t Target) Prober {
	kind := Type(c)
	switch {
	case kind == "script" && t.Exec != nil:
		return &script{exec: t.Exec, command: c.GetCommand(), timeout: RulesOf(c).Timeout}
	case kind == "script" || t.Address == "" && t.Why != "":
		return failing(t.Why)
	case kind == "http":
		return p.newHTTP(c, t.Address)
	case kind == "tcp":
		return tcp(t.Address)
	case kind == "grpc":
		return newGRPC(c, t.Address)
	}
	return failing(fmt.Sprintf("this agent knows no check of the type %q", kind))
}

// failing is a check that cannot be run; its words say why.
type failing string

func (f failing) Probe(context.Context) Outcome { return Outcome{Output: string(f)} }

// tcp passes when the address takes a connection.
type tcp string

func (a tcp) Probe(ctx context.Context) Outcome {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", string(a))
	if err != nil {
		return Outcome{Output: plain(err)}
	}
	conn.Close()
	return Outcome{OK: true, Output: "connected to " + string(a)}
}

// plain finds the words that matter in an error of the network.
func plain(err error) string {
	var errno syscall.Errno
	var timeout interface{ Timeout() bool }
	switch {
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return "no answer in time"
	case errors.As(err, &errno):
		return errno.Error()
	}
	words := err.Error()
	if op := (*net.OpError)(nil); errors.As(err, &op) {
		words = op.Err.Error()
	}
	return strings.TrimSpace(words)
}
