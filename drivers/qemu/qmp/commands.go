package qmp

import (
	"context"
	"encoding/json"

	goqemu "github.com/digitalocean/go-qemu/qmp"
	"github.com/digitalocean/go-qemu/qmp/raw"
)

// The commands that need no more than go-qemu's generated code.

// Continue lets the CPUs run.
func (m *Monitor) Continue(ctx context.Context) error { return m.generated(ctx).Cont() }

// Stop has the CPUs stand still.
func (m *Monitor) Stop(ctx context.Context) error { return m.generated(ctx).Stop() }

// Reset resets the machine.
func (m *Monitor) Reset(ctx context.Context) error { return m.generated(ctx).SystemReset() }

// Powerdown presses the power button.
func (m *Monitor) Powerdown(ctx context.Context) error { return m.generated(ctx).SystemPowerdown() }

// NMI injects a non-maskable interrupt.
func (m *Monitor) NMI(ctx context.Context) error { return m.generated(ctx).InjectNmi() }

// Quit ends QEMU.
func (m *Monitor) Quit(ctx context.Context) error { return m.generated(ctx).Quit() }

// Status is the machine's state in QEMU's words: "running", "paused", "shutdown",
// "guest-panicked", "io-error", ... (go-qemu's list of them is too old to be read with).
func (m *Monitor) Status(ctx context.Context) (string, error) {
	var s struct {
		Status string `json:"status"`
	}
	err := m.Run(ctx, "query-status", nil, &s)
	return s.Status, err
}

// VCPU is a virtual CPU and the thread that runs it.
type VCPU struct {
	Index  int `json:"cpu-index"`
	Thread int `json:"thread-id"`
}

// VCPUs lists the virtual CPUs (go-qemu lacks query-cpus-fast).
func (m *Monitor) VCPUs(ctx context.Context) ([]VCPU, error) {
	var all []VCPU
	err := m.Run(ctx, "query-cpus-fast", nil, &all)
	return all, err
}

func (m *Monitor) generated(ctx context.Context) *raw.Monitor {
	return raw.NewMonitor(bound{m: m, ctx: ctx})
}

// bound is a Monitor as go-qemu's generated code calls it, for one context.
type bound struct {
	m   *Monitor
	ctx context.Context //nolint:containedctx // go-qemu's interface has none, and this lives for one call
}

var _ goqemu.Monitor = bound{}

func (bound) Connect() error    { return nil }
func (bound) Disconnect() error { return nil }

// Events is not how events are got here.
func (bound) Events(context.Context) (<-chan goqemu.Event, error) {
	return nil, goqemu.ErrEventsNotSupported
}

// Run takes a whole command and gives a whole answer.
func (b bound) Run(line []byte) ([]byte, error) {
	var c struct {
		Execute   string          `json:"execute"`
		Arguments json.RawMessage `json:"arguments"`
	}
	if err := json.Unmarshal(line, &c); err != nil {
		return nil, err
	}
	var result json.RawMessage
	if err := b.m.Run(b.ctx, c.Execute, c.Arguments, &result); err != nil {
		return nil, err
	}
	return json.Marshal(map[string]json.RawMessage{"return": result})
}
