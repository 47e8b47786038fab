package api

import (
	"context"
	"regexp"
	"slices"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// What is done to machines: allocations whose driver has these powers. What the driver of
// a task cannot do is refused here, by what its node says of it.

func (s allocService) ControlAlloc(ctx context.Context, q *berthv1.ControlAllocRequest) (*berthv1.ControlAllocResponse, error) {
	if !slices.Contains(berthv1.ControlActions(), q.GetAction()) {
		return nil, problem.New(problem.Invalid, "action", "there is no action %q", q.GetAction()).WithRemedy("it may be %s", orList(berthv1.ControlActions()))
	}
	q = proto.CloneOf(q)
	_, err := s.ask(ctx, &q.AllocId, &q.Task, oneTask, &berthv1.StreamOrder{Order: &berthv1.StreamOrder_Control{Control: q}})
	return &berthv1.ControlAllocResponse{}, err
}

func (s allocService) ScreenshotAlloc(ctx context.Context, q *berthv1.ScreenshotAllocRequest) (*berthv1.ScreenshotAllocResponse, error) {
	q = proto.CloneOf(q)
	frame, err := s.ask(ctx, &q.AllocId, &q.Task, oneTask, &berthv1.StreamOrder{Order: &berthv1.StreamOrder_Screenshot{Screenshot: q}})
	if err != nil {
		return nil, err
	}
	return answered(frame.GetScreenshot())
}

func (s allocService) SnapshotAlloc(ctx context.Context, q *berthv1.SnapshotAllocRequest) (*berthv1.AllocSnapshot, error) {
	if err := checkSnapshotName(q.GetName()); err != nil {
		return nil, err
	}
	if len(q.GetDescription()) > maxDescription {
		return nil, problem.New(problem.Invalid, "description", "the description is longer than %d bytes", maxDescription)
	}
	q = proto.CloneOf(q)
	frame, err := s.ask(ctx, &q.AllocId, &q.Task, oneTask, &berthv1.StreamOrder{Order: &berthv1.StreamOrder_Snapshot{Snapshot: q}})
	if err != nil {
		return nil, err
	}
	return answered(frame.GetSnapshot())
}

func (s allocService) ListAllocSnapshots(ctx context.Context, q *berthv1.ListAllocSnapshotsRequest) (*berthv1.ListAllocSnapshotsResponse, error) {
	q = proto.CloneOf(q)
	frame, err := s.ask(ctx, &q.AllocId, &q.Task, oneTask, &berthv1.StreamOrder{Order: &berthv1.StreamOrder_ListSnapshots{ListSnapshots: q}})
	if err != nil {
		return nil, err
	}
	return answered(frame.GetSnapshots())
}

func (s allocService) RevertAlloc(ctx context.Context, q *berthv1.RevertAllocRequest) (*berthv1.RevertAllocResponse, error) {
	if err := checkSnapshotName(q.GetName()); err != nil {
		return nil, err
	}
	q = proto.CloneOf(q)
	_, err := s.ask(ctx, &q.AllocId, &q.Task, oneTask, &berthv1.StreamOrder{Order: &berthv1.StreamOrder_Revert{Revert: q}})
	return &berthv1.RevertAllocResponse{}, err
}

func (s allocService) DeleteAllocSnapshot(ctx context.Context, q *berthv1.DeleteAllocSnapshotRequest) (*berthv1.DeleteAllocSnapshotResponse, error) {
	if err := checkSnapshotName(q.GetName()); err != nil {
		return nil, err
	}
	q = proto.CloneOf(q)
	_, err := s.ask(ctx, &q.AllocId, &q.Task, oneTask, &berthv1.StreamOrder{Order: &berthv1.StreamOrder_DeleteSnapshot{DeleteSnapshot: q}})
	return &berthv1.DeleteAllocSnapshotResponse{}, err
}

// answered is the answer that an order must have.
func answered[M comparable](answer M) (M, error) {
	var none M
	if answer == none {
		return none, problem.New(problem.Internal, "", "the agent answered something else than was asked")
	}
	return answer, nil
}

// maxDescription bounds the words that go with a snapshot, in bytes.
const maxDescription = 1 << 10

var snapshotName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$`)

func checkSnapshotName(name string) error {
	if snapshotName.MatchString(name) {
		return nil
	}
	return problem.New(problem.Invalid, "name", "a snapshot cannot be named %q", name).
		WithRemedy("use 1 to 63 letters, digits, dots, hyphens and underscores, beginning with a letter or digit")
}

// attachChannels are what Attach may join.
var attachChannels = []string{"console", "vnc"}

func (s allocService) Attach(stream grpc.BidiStreamingServer[berthv1.AttachFrame, berthv1.AttachFrame]) error {
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	start := proto.CloneOf(first.GetStart())
	if start == nil {
		return problem.New(problem.Invalid, "start", "the first frame must be start")
	}
	if !slices.Contains(attachChannels, start.GetChannel()) {
		return problem.New(problem.Invalid, "start.channel", "there is no channel %q", start.GetChannel()).WithRemedy("it may be %s", orList(attachChannels))
	}
	order := &berthv1.StreamOrder{Order: &berthv1.StreamOrder_Attach{Attach: start}}
	agent, err := s.open(stream.Context(), &start.AllocId, &start.Task, oneTask, order)
	if err != nil {
		return err
	}
	defer agent.Close()
	upward(s.a, stream.Recv, agent, func(f *berthv1.AttachFrame) *berthv1.StreamFrame {
		return &berthv1.StreamFrame{Body: &berthv1.StreamFrame_Attach{Attach: f}}
	})
	return drain(stream.Context(), agent, func(f *berthv1.StreamFrame) error {
		if f.GetAttach() == nil {
			return nil
		}
		return stream.Send(f.GetAttach())
	})
}

// able refuses an order that the driver of its task cannot carry out, as far as its node
// has said what its drivers can do.
func able(job *berthv1.Job, alloc *berthv1.Alloc, node *berthv1.Node, task string, order *berthv1.StreamOrder) error {
	needed := berthv1.CapabilitiesFor(order)
	driver := driverOf(job, alloc, task)
	if len(needed) == 0 || driver == "" {
		return nil
	}
	for _, d := range node.GetDrivers() {
		if d.GetName() != driver {
			continue
		}
		if slices.ContainsFunc(needed, func(c string) bool { return slices.Contains(d.GetCapabilities(), c) }) {
			return nil
		}
		return problem.New(problem.Unsupported, "task", "task %q is run by the driver %q, which has no %s on node %s", task, driver, orList(needed), node.GetName()).
			WithRemedy("berth node status %s lists what its drivers can do", node.GetName())
	}
	return nil
}

func driverOf(job *berthv1.Job, alloc *berthv1.Alloc, task string) string {
	for _, g := range job.GetGroups() {
		if g.GetName() != alloc.GetGroup() {
			continue
		}
		for _, t := range g.GetTasks() {
			if t.GetName() == task {
				return t.GetDriver()
			}
		}
	}
	return ""
}
