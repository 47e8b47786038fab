package api

import (
	"context"
	"errors"
	"io"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/server/state"
)

// What happens inside an allocation goes through a stream that its node's agent opens.
// The asked server does it: nothing of it needs the leader.

func (s allocService) RestartAlloc(ctx context.Context, q *berthv1.RestartAllocRequest) (*berthv1.RestartAllocResponse, error) {
	q = proto.CloneOf(q)
	_, err := s.ask(ctx, &q.AllocId, &q.Task, everyTask, &berthv1.StreamOrder{Order: &berthv1.StreamOrder_Restart{Restart: q}})
	return &berthv1.RestartAllocResponse{}, err
}

func (s allocService) SignalAlloc(ctx context.Context, q *berthv1.SignalAllocRequest) (*berthv1.SignalAllocResponse, error) {
	if q.GetSignal() == "" {
		return nil, problem.New(problem.Invalid, "signal", "no signal was named").WithRemedy("name one, such as SIGHUP")
	}
	q = proto.CloneOf(q)
	_, err := s.ask(ctx, &q.AllocId, &q.Task, everyTask, &berthv1.StreamOrder{Order: &berthv1.StreamOrder_Signal{Signal: q}})
	return &berthv1.SignalAllocResponse{}, err
}

func (s allocService) ListFiles(ctx context.Context, q *berthv1.ListFilesRequest) (*berthv1.ListFilesResponse, error) {
	q = proto.CloneOf(q)
	frame, err := s.ask(ctx, &q.AllocId, nil, everyTask, &berthv1.StreamOrder{Order: &berthv1.StreamOrder_ListFiles{ListFiles: q}})
	if err != nil {
		return nil, err
	}
	return &berthv1.ListFilesResponse{Files: frame.GetFiles().GetFiles()}, nil
}

func (s allocService) StatFile(ctx context.Context, q *berthv1.StatFileRequest) (*berthv1.FileInfo, error) {
	q = proto.CloneOf(q)
	frame, err := s.ask(ctx, &q.AllocId, nil, everyTask, &berthv1.StreamOrder{Order: &berthv1.StreamOrder_StatFile{StatFile: q}})
	if err != nil {
		return nil, err
	}
	if frame.GetFile() == nil {
		return nil, problem.New(problem.Internal, "", "the agent answered something else than was asked")
	}
	return frame.GetFile(), nil
}

func (s allocService) Logs(q *berthv1.LogsRequest, stream grpc.ServerStreamingServer[berthv1.LogFrame]) error {
	if st := q.GetStream(); st != "" && st != "stdout" && st != "stderr" {
		return problem.New(problem.Invalid, "stream", "there is no stream %q", st).WithRemedy("it may be stdout or stderr")
	}
	if q.GetTailBytes() < 0 || q.GetTailLines() < 0 {
		return problem.New(problem.Invalid, "tail_bytes", "a negative number of bytes or lines")
	}
	q = proto.CloneOf(q)
	order := &berthv1.StreamOrder{Order: &berthv1.StreamOrder_Logs{Logs: q}}
	return s.follow(stream.Context(), &q.AllocId, &q.Task, oneTask, order, func(f *berthv1.StreamFrame) error {
		if f.GetLog() == nil {
			return nil
		}
		return stream.Send(f.GetLog())
	})
}

func (s allocService) ReadFile(q *berthv1.ReadFileRequest, stream grpc.ServerStreamingServer[berthv1.FileChunk]) error {
	if q.GetOffset() < 0 || q.GetLimit() < 0 {
		return problem.New(problem.Invalid, "offset", "a negative offset or limit")
	}
	q = proto.CloneOf(q)
	order := &berthv1.StreamOrder{Order: &berthv1.StreamOrder_ReadFile{ReadFile: q}}
	return s.follow(stream.Context(), &q.AllocId, nil, everyTask, order, func(f *berthv1.StreamFrame) error {
		if f.GetChunk() == nil {
			return nil
		}
		return stream.Send(f.GetChunk())
	})
}

func (s allocService) Exec(stream grpc.BidiStreamingServer[berthv1.ExecFrame, berthv1.ExecFrame]) error {
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	start := first.GetStart()
	if start == nil {
		return problem.New(problem.Invalid, "start", "the first frame of an exec session must be start")
	}
	if len(start.GetCommand()) == 0 {
		return problem.New(problem.Invalid, "start.command", "no command was given")
	}
	start = proto.CloneOf(start)
	order := &berthv1.StreamOrder{Order: &berthv1.StreamOrder_Exec{Exec: start}}
	agent, err := s.open(stream.Context(), &start.AllocId, &start.Task, oneTask, order)
	if err != nil {
		return err
	}
	defer agent.Close()
	upward(s.a, stream.Recv, agent, func(f *berthv1.ExecFrame) *berthv1.StreamFrame {
		return &berthv1.StreamFrame{Body: &berthv1.StreamFrame_Exec{Exec: f}}
	})
	return drain(stream.Context(), agent, func(f *berthv1.StreamFrame) error {
		if f.GetExec() == nil {
			return nil
		}
		return stream.Send(f.GetExec())
	})
}

// upward hands on a client's frames, as the agent takes them, until either side is over.
func upward[F any](a *API, recv func() (F, error), agent Stream, wrap func(F) *berthv1.StreamFrame) {
	a.start(func() {
		for {
			frame, err := recv()
			if err != nil {
				if !errors.Is(err, io.EOF) { // the client is gone, not just done with its input
					_ = agent.Close()
				}
				return
			}
			if err := agent.Send(wrap(frame)); err != nil {
				return // the agent's side is over, and its Recv says why
			}
		}
	})
}

// ask gives an order that has one answer.
func (s allocService) ask(ctx context.Context, allocID, task *string, tasks taskRule, order *berthv1.StreamOrder) (*berthv1.StreamFrame, error) {
	var answer *berthv1.StreamFrame
	err := s.follow(ctx, allocID, task, tasks, order, func(f *berthv1.StreamFrame) error {
		answer = f
		return nil
	})
	return answer, err
}

// follow gives an order and hands on what comes back, until it is over.
func (s allocService) follow(ctx context.Context, allocID, task *string, tasks taskRule, order *berthv1.StreamOrder, take func(*berthv1.StreamFrame) error) error {
	agent, err := s.open(ctx, allocID, task, tasks, order)
	if err != nil {
		return err
	}
	defer agent.Close()
	return drain(ctx, agent, take)
}

// drain hands on an agent's frames up to the last one.
func drain(ctx context.Context, agent Stream, take func(*berthv1.StreamFrame) error) error {
	stop := context.AfterFunc(ctx, func() { _ = agent.Close() })
	defer stop()
	for {
		frame, err := agent.Recv()
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		case frame.GetProblem() != nil:
			return problem.FromProto(frame.GetProblem())
		case frame.GetDone():
			return nil
		}
		if err := take(frame); err != nil {
			return err
		}
	}
}

// taskRule says what it means to name no task.
type taskRule bool

const (
	everyTask taskRule = false
	oneTask   taskRule = true // the only one
)

// open finds the allocation, fills its whole id and its task into the order, and has its
// agent open the stream.
func (s allocService) open(ctx context.Context, allocID, task *string, tasks taskRule, order *berthv1.StreamOrder) (Stream, error) {
	alloc, job, node, err := s.locate(ctx, *allocID)
	if err != nil {
		return nil, err
	}
	*allocID = alloc.GetId()
	if task != nil {
		if *task, err = chooseTask(alloc, job, *task, tasks); err != nil {
			return nil, err
		}
	}
	if node != nil && (node.GetStatus() == berthv1.Node_down || node.GetStatus() == berthv1.Node_disconnected) {
		return nil, problem.New(problem.Unavailable, "alloc_id", "node %s, which has the allocation, is %s", node.GetName(), node.GetStatus()).
			WithRemedy("berth node status %s says why", node.GetName())
	}
	if task != nil {
		if err := able(job, alloc, node, *task, order); err != nil {
			return nil, err
		}
	}
	return s.a.streams.Open(ctx, alloc.GetNodeId(), order)
}

// locate finds an allocation with its job's version and its node (nil: not known). What
// this server has not heard of yet, the leader may know.
func (s allocService) locate(ctx context.Context, given string) (*berthv1.Alloc, *berthv1.Job, *berthv1.Node, error) {
	view := s.a.store.View()
	alloc, err := allocs.find(view, given)
	if problem.Is(err, problem.NotFound) && !s.a.leadership.IsLeader() {
		if address, _ := s.a.leadership.Leader(); address != "" && !isForwarded(ctx) {
			err = s.a.onRemote(ctx, address, func(conn *grpc.ClientConn) (err error) {
				alloc, err = berthv1.NewAllocServiceClient(conn).GetAlloc(outgoing(ctx), &berthv1.GetAllocRequest{AllocId: given})
				return err
			})
		}
	}
	if err != nil {
		return nil, nil, nil, err
	}
	return alloc, jobOfAlloc(view, alloc), view.Node(alloc.GetNodeId()), nil
}

func jobOfAlloc(view *state.View, alloc *berthv1.Alloc) *berthv1.Job {
	return view.JobVersion(alloc.GetNamespace(), alloc.GetJob(), alloc.GetJobVersion())
}

// chooseTask checks a task's name, or finds the only one. Where the job's version is not
// kept any more, the agent knows.
func chooseTask(alloc *berthv1.Alloc, job *berthv1.Job, task string, tasks taskRule) (string, error) {
	var names []string
	for _, g := range job.GetGroups() {
		if g.GetName() != alloc.GetGroup() {
			continue
		}
		for _, t := range g.GetTasks() {
			if t.GetName() == task {
				return task, nil
			}
			names = append(names, t.GetName())
		}
	}
	switch {
	case len(names) == 0, task == "" && tasks == everyTask:
		return task, nil
	case task == "" && len(names) == 1:
		return names[0], nil
	case task == "":
		return "", problem.New(problem.Invalid, "task", "allocation %s has several tasks", alloc.Name()).WithRemedy("name one: %s", orList(names))
	}
	return "", problem.New(problem.NotFound, "task", "allocation %s has no task %q", alloc.Name(), task).WithRemedy("it has %s", orList(names))
}
