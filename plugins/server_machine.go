package plugins

import (
	"context"
	"io"

	"google.golang.org/grpc"

	"github.com/berthd/berth/drivers"
	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// The powers of machines, as the driver's side answers for them.

// AttachTask answers for Attacher.Attach.
func (s *server) AttachTask(stream grpc.BidiStreamingServer[berthv1.AttachTaskFrame, berthv1.AttachTaskFrame]) error {
	p, ok := s.driver.(drivers.Attacher)
	if !ok {
		return problem.Wire(lacks(drivers.CapConsole))
	}
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	start := first.GetStart()
	if start == nil {
		return problem.Wire(problem.New(problem.Invalid, "start", "the first frame does not say what to attach to"))
	}
	return problem.Wire(p.Attach(stream.Context(), start.GetId(), drivers.Capability(start.GetChannel()), &attachment{stream: stream}))
}

// attachment is a stream of frames as a stream of bytes.
type attachment struct {
	stream grpc.BidiStreamingServer[berthv1.AttachTaskFrame, berthv1.AttachTaskFrame]
	rest   []byte // of the last frame
}

func (a *attachment) Read(p []byte) (int, error) {
	for len(a.rest) == 0 {
		f, err := a.stream.Recv()
		if err != nil {
			return 0, io.EOF // however the caller has left
		}
		a.rest = f.GetData()
	}
	n := copy(p, a.rest)
	a.rest = a.rest[n:]
	return n, nil
}

func (a *attachment) Write(p []byte) (int, error) {
	return frameWriter(func(b []byte) error {
		return a.stream.Send(&berthv1.AttachTaskFrame{Frame: &berthv1.AttachTaskFrame_Data{Data: b}})
	}).Write(p)
}

// ControlTask answers for Controller.Control.
func (s *server) ControlTask(ctx context.Context, r *berthv1.ControlTaskRequest) (*berthv1.DriverTaskDone, error) {
	p, ok := s.driver.(drivers.Controller)
	if !ok {
		return nil, problem.Wire(lacks(drivers.CapPause))
	}
	return done, problem.Wire(p.Control(ctx, r.GetId(), drivers.Action(r.GetAction())))
}

// ScreenshotTask answers for Screenshotter.Screenshot.
func (s *server) ScreenshotTask(ctx context.Context, r *berthv1.TaskRef) (*berthv1.DriverScreenshot, error) {
	p, ok := s.driver.(drivers.Screenshotter)
	if !ok {
		return nil, problem.Wire(lacks(drivers.CapScreenshot))
	}
	png, err := p.Screenshot(ctx, r.GetId())
	return &berthv1.DriverScreenshot{Png: png}, problem.Wire(err)
}

func (s *server) snapshotter() (drivers.Snapshotter, error) {
	p, ok := s.driver.(drivers.Snapshotter)
	if !ok {
		return nil, problem.Wire(lacks(drivers.CapSnapshot))
	}
	return p, nil
}

// SnapshotTask answers for Snapshotter.Snapshot.
func (s *server) SnapshotTask(ctx context.Context, r *berthv1.SnapshotTaskRequest) (*berthv1.DriverSnapshot, error) {
	p, err := s.snapshotter()
	if err != nil {
		return nil, err
	}
	snapshot, err := p.Snapshot(ctx, r.GetId(), &drivers.SnapshotRequest{
		Name: r.GetName(), Description: r.GetDescription(), Memory: r.GetMemory(), Consistent: r.GetConsistent(),
	})
	if err != nil {
		return nil, problem.Wire(err)
	}
	return snapshotToWire(snapshot), nil
}

// ListTaskSnapshots answers for Snapshotter.Snapshots.
func (s *server) ListTaskSnapshots(ctx context.Context, r *berthv1.TaskRef) (*berthv1.DriverSnapshots, error) {
	p, err := s.snapshotter()
	if err != nil {
		return nil, err
	}
	all, err := p.Snapshots(ctx, r.GetId())
	list := &berthv1.DriverSnapshots{}
	for _, snapshot := range all {
		list.Snapshots = append(list.Snapshots, snapshotToWire(snapshot))
	}
	return list, problem.Wire(err)
}

// RevertTask answers for Snapshotter.Revert.
func (s *server) RevertTask(ctx context.Context, r *berthv1.TaskSnapshotRef) (*berthv1.DriverTaskDone, error) {
	p, err := s.snapshotter()
	if err != nil {
		return nil, err
	}
	return done, problem.Wire(p.Revert(ctx, r.GetId(), r.GetName()))
}

// DeleteTaskSnapshot answers for Snapshotter.DeleteSnapshot.
func (s *server) DeleteTaskSnapshot(ctx context.Context, r *berthv1.TaskSnapshotRef) (*berthv1.DriverTaskDone, error) {
	p, err := s.snapshotter()
	if err != nil {
		return nil, err
	}
	return done, problem.Wire(p.DeleteSnapshot(ctx, r.GetId(), r.GetName()))
}

// ObserveTask answers for Observer.Observe.
func (s *server) ObserveTask(r *berthv1.TaskRef, stream grpc.ServerStreamingServer[berthv1.DriverCondition]) error {
	p, ok := s.driver.(drivers.Observer)
	if !ok {
		return problem.Wire(lacks(drivers.CapObserve))
	}
	return problem.Wire(p.Observe(stream.Context(), r.GetId(), func(c drivers.Condition) {
		_ = stream.Send(conditionToWire(c)) // a stream that is broken has ended the context
	}))
}
