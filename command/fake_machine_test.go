package command

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// Attach has a console that shows its scrollback and echoes in capitals until it reads
// "bye", and a display that says its first words and echoes.
func (f *fakeCluster) Attach(s grpc.BidiStreamingServer[berthv1.AttachFrame, berthv1.AttachFrame]) error {
	first, err := s.Recv()
	if err != nil {
		return err
	}
	f.mu.Lock()
	err = f.machine(first.GetStart().GetAllocId(), first.GetStart().GetTask())
	f.mu.Unlock()
	if err != nil {
		return err
	}
	show := func(b []byte) {
		_ = s.Send(&berthv1.AttachFrame{Body: &berthv1.AttachFrame_Data{Data: b}})
	}
	if first.GetStart().GetChannel() == "vnc" {
		show([]byte("RFB 003.008\n"))
	} else {
		show([]byte("scrollback\r\n"))
	}
	for {
		frame, err := s.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if bytes.Contains(frame.GetData(), []byte("bye")) {
			return s.Send(&berthv1.AttachFrame{Body: &berthv1.AttachFrame_Done{Done: true}})
		}
		show(bytes.ToUpper(frame.GetData()))
	}
}

// machine finds an allocation, whose task can only be the server. f.mu is held, as in every call with one answer.
func (f *fakeCluster) machine(alloc, task string) error {
	if _, err := f.alloc(alloc); err != nil {
		return err
	}
	if task != "" && task != "server" {
		return problem.New(problem.NotFound, "task", "there is no task %q", task)
	}
	return nil
}

func (f *fakeCluster) ControlAlloc(_ context.Context, r *berthv1.ControlAllocRequest) (*berthv1.ControlAllocResponse, error) {
	if r.GetAction() == "nmi" {
		return nil, problem.New(problem.Unsupported, "task", "the driver has no nmi")
	}
	return &berthv1.ControlAllocResponse{}, f.machine(r.GetAllocId(), r.GetTask())
}

func (f *fakeCluster) ScreenshotAlloc(_ context.Context, r *berthv1.ScreenshotAllocRequest) (*berthv1.ScreenshotAllocResponse, error) {
	return &berthv1.ScreenshotAllocResponse{Png: []byte("a picture\n")}, f.machine(r.GetAllocId(), r.GetTask())
}

func (f *fakeCluster) SnapshotAlloc(_ context.Context, r *berthv1.SnapshotAllocRequest) (*berthv1.AllocSnapshot, error) {
	if err := f.machine(r.GetAllocId(), r.GetTask()); err != nil {
		return nil, err
	}
	made := &berthv1.AllocSnapshot{
		Name: r.GetName(), Description: r.GetDescription(), Time: timestamppb.New(time.Now()),
		Memory: r.GetMemory(), Consistent: r.GetConsistent(), Bytes: 3 << 20,
	}
	f.allocSnapshots = append(f.allocSnapshots, made)
	return made, nil
}

func (f *fakeCluster) ListAllocSnapshots(_ context.Context, r *berthv1.ListAllocSnapshotsRequest) (*berthv1.ListAllocSnapshotsResponse, error) {
	if err := f.machine(r.GetAllocId(), r.GetTask()); err != nil {
		return nil, err
	}
	return &berthv1.ListAllocSnapshotsResponse{Snapshots: slices.Clone(f.allocSnapshots)}, nil
}

func (f *fakeCluster) RevertAlloc(_ context.Context, r *berthv1.RevertAllocRequest) (*berthv1.RevertAllocResponse, error) {
	_, err := f.allocSnapshot(r.GetName())
	return &berthv1.RevertAllocResponse{}, err
}

func (f *fakeCluster) DeleteAllocSnapshot(_ context.Context, r *berthv1.DeleteAllocSnapshotRequest) (*berthv1.DeleteAllocSnapshotResponse, error) {
	i, err := f.allocSnapshot(r.GetName())
	if err != nil {
		return nil, err
	}
	f.allocSnapshots = slices.Delete(f.allocSnapshots, i, i+1)
	return &berthv1.DeleteAllocSnapshotResponse{}, nil
}

func (f *fakeCluster) allocSnapshot(name string) (int, error) {
	i := slices.IndexFunc(f.allocSnapshots, func(s *berthv1.AllocSnapshot) bool { return s.GetName() == name })
	if i < 0 {
		return 0, problem.New(problem.NotFound, "name", "there is no snapshot %q", name)
	}
	return i, nil
}
