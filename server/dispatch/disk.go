package dispatch

import (
	"context"
	"errors"
	"io"

	"google.golang.org/grpc"

	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/server/state"
)

// FetchDisk implements berthv1.AgentServiceServer: the node of an allocation gets the
// sticky disk of the one before it. It passes through frame by frame: whoever is slow slows
// the others down, and nothing is kept here.
//
// NotFound: there is no disk, and there will be none.
func (d *Dispatcher) FetchDisk(req *berthv1.FetchDiskRequest, to grpc.ServerStreamingServer[berthv1.FileChunk]) error {
	view := d.cfg.Store.View()
	a, err := d.mayFetch(view, req)
	for err == nil {
		if a, err = predecessor(view, a, req.GetNodeId()); err != nil {
			break
		}
		began := false
		err = d.passDisk(to.Context(), a, func(c *berthv1.FileChunk) error {
			began = true
			return to.Send(c)
		})
		switch {
		case err == nil:
			return nil
		case began || !problem.Is(err, problem.NotFound):
		case a.Ran():
			err = problem.New(problem.NotFound, "", "alloc %s on node %s left none", a.GetId(), a.GetNodeName())
		default:
			err = nil // it never came to have one: that of the one before it is the newest
		}
	}
	return problem.Wire(err)
}

// mayFetch gives the allocation that a node wants a disk for.
func (d *Dispatcher) mayFetch(view *state.View, req *berthv1.FetchDiskRequest) (*berthv1.Alloc, error) {
	if d.session(req.GetNodeId()) == nil {
		return nil, problem.New(problem.Unavailable, "node_id", "the node has no session with this server")
	}
	a := view.Alloc(req.GetAllocId())
	switch {
	case a == nil || a.GetNodeId() != req.GetNodeId():
		return nil, problem.New(problem.Denied, "alloc_id", "the allocation is not of this node")
	case !a.Wanted() || a.Terminal():
		return nil, problem.New(problem.Denied, "alloc_id", "the allocation is not to run")
	case !sticky(view, a):
		return nil, problem.New(problem.Denied, "alloc_id", "the allocation's group has no sticky disk")
	}
	return a, nil
}

func sticky(view *state.View, a *berthv1.Alloc) bool {
	job := view.JobVersion(a.GetNamespace(), a.GetJob(), a.GetJobVersion())
	return job.GroupNamed(a.GetGroup()).GetStateful().GetStickyDisk()
}

// predecessor is the newest allocation before a that another node can be asked for; asker
// has looked at its own. Only what its node can never give any more is given up.
func predecessor(view *state.View, a *berthv1.Alloc, asker string) (*berthv1.Alloc, error) {
	for {
		id := a.GetPreviousAlloc()
		if id == "" {
			return nil, problem.New(problem.NotFound, "", "no allocation before it had one")
		}
		if a = view.Alloc(id); a == nil {
			return nil, problem.New(problem.NotFound, "", "alloc %s, which had it, is forgotten", id)
		}
		if a.GetNodeId() == asker {
			continue
		}
		node := view.Node(a.GetNodeId())
		gone := node == nil || a.GetStatus() == berthv1.Alloc_lost && node.GetStatus() == berthv1.Node_down
		switch {
		case !gone:
			return a, nil
		case a.Ran():
			return nil, problem.New(problem.NotFound, "", "alloc %s, which had it, is lost with its node %s", id, a.GetNodeName())
		}
	}
}

// passDisk has an allocation's node send its disk.
func (d *Dispatcher) passDisk(ctx context.Context, a *berthv1.Alloc, send func(*berthv1.FileChunk) error) error {
	order := &berthv1.StreamOrder_SendDisk{SendDisk: &berthv1.SendDiskOrder{AllocId: a.GetId()}}
	from, err := d.Open(ctx, a.GetNodeId(), &berthv1.StreamOrder{Order: order})
	if err != nil {
		return problem.New(problem.KindOf(err), "", "node %s, which has it: %w", a.GetNodeName(), err)
	}
	stop := context.AfterFunc(ctx, func() { _ = from.Close() }) // a Recv ends that nobody waits for
	defer stop()
	defer func() { _ = from.Close() }()
	for {
		frame, err := from.Recv()
		if errors.Is(err, io.EOF) {
			err = problem.New(problem.Unavailable, "", "the stream ended too early")
		}
		if err != nil {
			return problem.New(problem.KindOf(err), "", "node %s, which has it: %w", a.GetNodeName(), err)
		}
		switch body := frame.GetBody().(type) {
		case *berthv1.StreamFrame_Chunk:
			if err := send(body.Chunk); err != nil {
				return err
			}
		case *berthv1.StreamFrame_Done:
			return nil
		case *berthv1.StreamFrame_Problem:
			return problem.FromProto(body.Problem)
		}
	}
}
