package qemu

import (
	"context"
	"io"
	"os"

	"github.com/berthd/berth/drivers"
	"github.com/berthd/berth/drivers/qemu/machine"
	"github.com/berthd/berth/drivers/qemu/sock"
	"github.com/berthd/berth/problem"
)

// Attach implements drivers.Attacher.
func (d *Driver) Attach(ctx context.Context, id string, channel drivers.Capability, rw io.ReadWriter) error {
	if channel != drivers.CapConsole && channel != drivers.CapVNC {
		return problem.New(problem.Invalid, "channel", "a machine has no channel %q", channel).
			WithRemedy("it has %q and %q", drivers.CapConsole, drivers.CapVNC)
	}
	t, err := d.task(id)
	if err != nil {
		return err
	}
	if _, err := t.monitor(ctx); err != nil {
		return err
	}
	t.mu.Lock()
	k := t.keeper
	t.mu.Unlock()
	if k == nil {
		return problem.New(problem.Unavailable, "", "the machine is going away")
	}
	if channel == drivers.CapConsole {
		return k.console.attach(ctx, rw, t.ended)
	}
	return t.display(ctx, rw)
}

// display joins the machine's VNC server, which takes several viewers by itself.
func (t *task) display(ctx context.Context, rw io.ReadWriter) error {
	if _, err := os.Stat(t.dir.path(machine.VNCSocket)); err != nil {
		return problem.New(problem.Unsupported, "config.display", "the machine has no display").
			WithRemedy(`set display = "virtio" or "std"`)
	}
	conn, err := sock.Dial(ctx, string(t.dir), machine.VNCSocket)
	if err != nil {
		return unavailable("connecting to the machine's display", err)
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	go func() { // ends with the caller's side
		_, _ = io.Copy(conn, rw)
		_ = conn.CloseRead() // the caller has left: so does the copy below
		_ = conn.Close()
	}()
	_, _ = io.Copy(rw, conn)
	return ctx.Err()
}
