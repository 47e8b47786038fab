package qemu

import (
	"context"
	"errors"
	"os"

	"golang.org/x/sys/unix"

	"github.com/berthd/berth/drivers/qemu/qmp"
	"github.com/berthd/berth/problem"
)

// maxScreenshot bounds a picture, in bytes.
const maxScreenshot = 64 << 20

// Screenshot implements drivers.Screenshotter. QEMU writes the picture to a file in
// memory that it is handed: it may write nowhere else.
func (d *Driver) Screenshot(ctx context.Context, id string) ([]byte, error) {
	t, err := d.task(id)
	if err != nil {
		return nil, err
	}
	mon, err := t.monitor(ctx)
	if err != nil {
		return nil, err
	}
	fd, err := unix.MemfdCreate("berth-screen", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, unavailable("making room for the picture", err)
	}
	picture := os.NewFile(uintptr(fd), "berth-screen")
	defer picture.Close()
	// QEMU takes a file only for what it was opened for: to be written.
	canvas, err := os.OpenFile("/proc/self/fd/"+itoa(fd), os.O_WRONLY, 0)
	if err != nil {
		return nil, unavailable("making room for the picture", err)
	}
	defer canvas.Close()
	name, done, err := handOver(ctx, mon, canvas)
	if err != nil {
		return nil, asProblem(ctx, err)
	}
	defer done()
	err = mon.Run(ctx, "screendump", map[string]any{"filename": name, "format": "png"}, nil)
	var refusal *qmp.Error
	if errors.As(err, &refusal) {
		return nil, problem.New(problem.Unsupported, "config.display", "there is no picture to take: %s", refusal.Reason).
			WithRemedy("the machine needs a display (and the node QEMU 7.1 or newer)")
	}
	if err != nil {
		return nil, asProblem(ctx, err)
	}
	size, err := picture.Seek(0, 2)
	if err != nil || size > maxScreenshot {
		return nil, problem.New(problem.Unavailable, "", "the picture has %d bytes: %w", size, err)
	}
	b := make([]byte, size)
	if _, err := picture.ReadAt(b, 0); err != nil {
		return nil, unavailable("reading the picture", err)
	}
	return b, nil
}

// handOver gives QEMU an open file, to be named where a path is wanted. done takes it back.
func handOver(ctx context.Context, mon *qmp.Monitor, f *os.File) (name string, done func(), err error) {
	var set struct {
		ID int `json:"fdset-id"`
	}
	if err := mon.RunWithFile(ctx, "add-fd", map[string]any{}, f, &set); err != nil {
		return "", nil, err
	}
	done = func() {
		_ = mon.Run(context.WithoutCancel(ctx), "remove-fd", map[string]int{"fdset-id": set.ID}, nil)
	}
	return "/dev/fdset/" + itoa(set.ID), done, nil
}
