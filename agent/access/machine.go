package access

import (
	"context"
	"io"
	"slices"
	"strings"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/berthd/berth/drivers"
	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// What is done to machines: tasks whose driver has the powers of drivers/powers.go.

// power gives a running task and what its driver can do beyond the contract: an interface
// of package drivers, where the driver says that it has what the order needs.
func power[P any](s *Server, allocID, task string, order *berthv1.StreamOrder) (P, *drivers.Task, error) {
	var none P
	d, t, err := s.allocs.Running(allocID, task)
	if err != nil {
		return none, nil, err
	}
	needed := berthv1.CapabilitiesFor(order)
	has := func(c string) bool { return slices.Contains(d.Info().Capabilities, drivers.Capability(c)) }
	p, ok := d.(P)
	if !ok || !slices.ContainsFunc(needed, has) {
		return none, nil, problem.New(problem.Unsupported, t.Name, "the driver %q has no %s", d.Info().Name, strings.Join(needed, " or "))
	}
	return p, t, nil
}

// machine serves the orders that have at most one answer; nil: there is none.
func (s *Server) machine(ctx context.Context, order *berthv1.StreamOrder) (*berthv1.StreamFrame, error) {
	switch o := order.GetOrder().(type) {
	case *berthv1.StreamOrder_Control:
		c, task, err := power[drivers.Controller](s, o.Control.GetAllocId(), o.Control.GetTask(), order)
		if err != nil {
			return nil, err
		}
		s.log.Info("a machine is controlled", "alloc", task.AllocID, "task", task.Name, "action", o.Control.GetAction())
		return nil, c.Control(ctx, task.ID, drivers.Action(o.Control.GetAction()))
	case *berthv1.StreamOrder_Screenshot:
		c, task, err := power[drivers.Screenshotter](s, o.Screenshot.GetAllocId(), o.Screenshot.GetTask(), order)
		if err != nil {
			return nil, err
		}
		return screenshot(ctx, c, task)
	}
	return s.snapshots(ctx, order)
}

// maxScreenshot is what fits into a message of the API, in bytes.
const maxScreenshot = 3 << 20

func screenshot(ctx context.Context, s drivers.Screenshotter, task *drivers.Task) (*berthv1.StreamFrame, error) {
	png, err := s.Screenshot(ctx, task.ID)
	if err != nil {
		return nil, err
	}
	if len(png) > maxScreenshot {
		return nil, problem.New(problem.Unsupported, task.Name, "the picture is larger than %d MiB", maxScreenshot>>20).WithRemedy("berth alloc console -vnc shows the display")
	}
	return &berthv1.StreamFrame{Body: &berthv1.StreamFrame_Screenshot{Screenshot: &berthv1.ScreenshotAllocResponse{Png: png}}}, nil
}

func (s *Server) snapshots(ctx context.Context, order *berthv1.StreamOrder) (*berthv1.StreamFrame, error) {
	named, ok := snapshotOrder(order)
	if !ok {
		return nil, problem.New(problem.Unsupported, "order", "this agent does not know the order").WithRemedy("upgrade the agent")
	}
	p, task, err := power[drivers.Snapshotter](s, named.GetAllocId(), named.GetTask(), order)
	if err != nil {
		return nil, err
	}
	switch o := order.GetOrder().(type) {
	case *berthv1.StreamOrder_Snapshot:
		s.log.Info("a snapshot is made", "alloc", task.AllocID, "task", task.Name, "snapshot", o.Snapshot.GetName())
		made, err := p.Snapshot(ctx, task.ID, &drivers.SnapshotRequest{
			Name: o.Snapshot.GetName(), Description: o.Snapshot.GetDescription(),
			Memory: o.Snapshot.GetMemory(), Consistent: o.Snapshot.GetConsistent(),
		})
		if err != nil {
			return nil, err
		}
		return &berthv1.StreamFrame{Body: &berthv1.StreamFrame_Snapshot{Snapshot: snapshotToProto(made)}}, nil
	case *berthv1.StreamOrder_Revert:
		s.log.Info("a task goes back to a snapshot", "alloc", task.AllocID, "task", task.Name, "snapshot", o.Revert.GetName())
		return nil, p.Revert(ctx, task.ID, o.Revert.GetName())
	case *berthv1.StreamOrder_DeleteSnapshot:
		return nil, p.DeleteSnapshot(ctx, task.ID, o.DeleteSnapshot.GetName())
	}
	list, err := p.Snapshots(ctx, task.ID)
	if err != nil {
		return nil, err
	}
	answer := &berthv1.ListAllocSnapshotsResponse{}
	for _, one := range list {
		answer.Snapshots = append(answer.Snapshots, snapshotToProto(one))
	}
	return &berthv1.StreamFrame{Body: &berthv1.StreamFrame_Snapshots{Snapshots: answer}}, nil
}

// ofTask is an order that names a task.
type ofTask interface {
	GetAllocId() string
	GetTask() string
}

func snapshotOrder(order *berthv1.StreamOrder) (ofTask, bool) {
	switch o := order.GetOrder().(type) {
	case *berthv1.StreamOrder_Snapshot:
		return o.Snapshot, true
	case *berthv1.StreamOrder_ListSnapshots:
		return o.ListSnapshots, true
	case *berthv1.StreamOrder_Revert:
		return o.Revert, true
	case *berthv1.StreamOrder_DeleteSnapshot:
		return o.DeleteSnapshot, true
	}
	return nil, false
}

func snapshotToProto(s *drivers.Snapshot) *berthv1.AllocSnapshot {
	return &berthv1.AllocSnapshot{
		Name: s.Name, Description: s.Description, Time: timestamppb.New(s.At),
		Memory: s.Memory, Consistent: s.Consistent, Bytes: s.Bytes,
	}
}

// attach joins a console or display to the stream, until either has ended.
func (s *Server) attach(ctx context.Context, order *berthv1.StreamOrder, out *sender, in <-chan *berthv1.StreamFrame) error {
	start := order.GetAttach()
	a, task, err := power[drivers.Attacher](s, start.GetAllocId(), start.GetTask(), order)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	typed, input := io.Pipe()
	defer typed.Close()
	go func() { // ends with ctx, or when nobody reads any more
		defer input.Close()
		for {
			select {
			case <-ctx.Done():
				return
			case f := <-in:
				if _, err := input.Write(f.GetAttach().GetData()); err != nil {
					return
				}
			}
		}
	}()
	s.log.Info("somebody joins a machine", "alloc", task.AllocID, "task", task.Name, "channel", start.GetChannel())
	shown := writerFunc(func(b []byte) (int, error) {
		return sendChunks(b, out, func(b []byte) *berthv1.StreamFrame {
			return attachFrame(&berthv1.AttachFrame{Body: &berthv1.AttachFrame_Data{Data: b}})
		})
	})
	if err := a.Attach(ctx, task.ID, drivers.Capability(start.GetChannel()), readWriter{typed, shown}); err != nil {
		return err
	}
	return out.send(attachFrame(&berthv1.AttachFrame{Body: &berthv1.AttachFrame_Done{Done: true}}))
}

func attachFrame(f *berthv1.AttachFrame) *berthv1.StreamFrame {
	return &berthv1.StreamFrame{Body: &berthv1.StreamFrame_Attach{Attach: f}}
}

type readWriter struct {
	io.Reader
	io.Writer
}
