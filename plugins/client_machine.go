package plugins

import (
	"context"
	"errors"
	"io"

	"google.golang.org/grpc"

	"github.com/berthd/berth/drivers"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// The powers of machines, as the agent calls them.
var (
	_ drivers.Attacher      = (*Plugin)(nil)
	_ drivers.Controller    = (*Plugin)(nil)
	_ drivers.Screenshotter = (*Plugin)(nil)
	_ drivers.Snapshotter   = (*Plugin)(nil)
	_ drivers.Observer      = (*Plugin)(nil)
)

// attachStream is the client's side of AttachTask.
type attachStream = grpc.BidiStreamingClient[berthv1.AttachTaskFrame, berthv1.AttachTaskFrame]

// Attach implements drivers.Attacher.
func (p *Plugin) Attach(ctx context.Context, id string, channel drivers.Capability, rw io.ReadWriter) error {
	l, err := p.current()
	if err != nil {
		return err
	}
	streamCtx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := l.service.AttachTask(streamCtx)
	if err != nil {
		return p.asProblem(ctx, err)
	}
	start := &berthv1.AttachTaskStart{Id: id, Channel: string(channel)}
	// An error of Send is told by Recv, in the driver's words.
	_ = stream.Send(&berthv1.AttachTaskFrame{Frame: &berthv1.AttachTaskFrame_Start{Start: start}})
	go sendTyped(stream, rw) // ends with the stream at the latest when the caller's side does
	for {
		f, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return p.asProblem(ctx, err)
		}
		if _, err := rw.Write(f.GetData()); err != nil {
			return nil // the caller has left
		}
	}
}

// sendTyped sends what comes from the caller; its end is the end of the whole.
func sendTyped(stream attachStream, r io.Reader) {
	buf := make([]byte, 32<<10)
	for {
		n, err := r.Read(buf)
		if n > 0 {
			data := append([]byte(nil), buf[:n]...)
			if stream.Send(&berthv1.AttachTaskFrame{Frame: &berthv1.AttachTaskFrame_Data{Data: data}}) != nil {
				return
			}
		}
		if err != nil {
			_ = stream.CloseSend()
			return
		}
	}
}

// long makes one call that takes as long as the task needs: the caller's context bounds it.
func (p *Plugin) long(ctx context.Context, do func(context.Context, *link) error) error {
	l, err := p.current()
	if err != nil {
		return err
	}
	return p.asProblem(ctx, do(ctx, l))
}

// Control implements drivers.Controller. To suspend a machine takes as long as its memory
// is large.
func (p *Plugin) Control(ctx context.Context, id string, action drivers.Action) error {
	return p.long(ctx, func(ctx context.Context, l *link) error {
		_, err := l.service.ControlTask(ctx, &berthv1.ControlTaskRequest{Id: id, Action: string(action)})
		return err
	})
}

// Screenshot implements drivers.Screenshotter.
func (p *Plugin) Screenshot(ctx context.Context, id string) (png []byte, err error) {
	err = p.call(ctx, func(ctx context.Context, l *link) error {
		s, err := l.service.ScreenshotTask(ctx, &berthv1.TaskRef{Id: id})
		png = s.GetPng()
		return err
	})
	return png, err
}

// Snapshot implements drivers.Snapshotter.
func (p *Plugin) Snapshot(ctx context.Context, id string, req *drivers.SnapshotRequest) (snapshot *drivers.Snapshot, err error) {
	err = p.long(ctx, func(ctx context.Context, l *link) error {
		s, err := l.service.SnapshotTask(ctx, &berthv1.SnapshotTaskRequest{
			Id: id, Name: req.Name, Description: req.Description, Memory: req.Memory, Consistent: req.Consistent,
		})
		if err == nil {
			snapshot = snapshotFromWire(s)
		}
		return err
	})
	return snapshot, err
}

// Snapshots implements drivers.Snapshotter.
func (p *Plugin) Snapshots(ctx context.Context, id string) (all []*drivers.Snapshot, err error) {
	err = p.call(ctx, func(ctx context.Context, l *link) error {
		list, err := l.service.ListTaskSnapshots(ctx, &berthv1.TaskRef{Id: id})
		for _, s := range list.GetSnapshots() {
			all = append(all, snapshotFromWire(s))
		}
		return err
	})
	return all, err
}

// Revert implements drivers.Snapshotter.
func (p *Plugin) Revert(ctx context.Context, id, name string) error {
	return p.long(ctx, func(ctx context.Context, l *link) error {
		_, err := l.service.RevertTask(ctx, &berthv1.TaskSnapshotRef{Id: id, Name: name})
		return err
	})
}

// DeleteSnapshot implements drivers.Snapshotter.
func (p *Plugin) DeleteSnapshot(ctx context.Context, id, name string) error {
	return p.long(ctx, func(ctx context.Context, l *link) error {
		_, err := l.service.DeleteTaskSnapshot(ctx, &berthv1.TaskSnapshotRef{Id: id, Name: name})
		return err
	})
}

// Observe implements drivers.Observer.
func (p *Plugin) Observe(ctx context.Context, id string, told func(drivers.Condition)) error {
	return p.long(ctx, func(ctx context.Context, l *link) error {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		stream, err := l.service.ObserveTask(ctx, &berthv1.TaskRef{Id: id})
		for err == nil {
			var c *berthv1.DriverCondition
			if c, err = stream.Recv(); err == nil {
				told(conditionFromWire(c))
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		return err
	})
}
