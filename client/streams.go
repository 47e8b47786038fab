package client

import (
	"context"
	"errors"
	"io"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// chunkBytes is how much of a file goes into one message.
const chunkBytes = 64 << 10

func headerInto(header *metadata.MD) grpc.CallOption { return grpc.Header(header) }

// FollowLogs hands each piece of a task's output to each until it ends (without
// req.Follow: at its end; with it: when the task is gone), ctx ends, or each fails.
func (c *Client) FollowLogs(ctx context.Context, req *berthv1.LogsRequest, each func(*berthv1.LogFrame) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := c.Allocs.Logs(ctx, req)
	if err != nil {
		return err
	}
	return receive(stream.Recv, each)
}

// ReadFile writes a file of an allocation to w.
func (c *Client) ReadFile(ctx context.Context, req *berthv1.ReadFileRequest, w io.Writer) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := c.Allocs.ReadFile(ctx, req)
	if err != nil {
		return err
	}
	return receive(stream.Recv, func(chunk *berthv1.FileChunk) error {
		_, err := w.Write(chunk.GetData())
		return err
	})
}

// SaveSnapshot writes a snapshot of the whole state of the cluster to w and returns its
// size in bytes.
func (c *Client) SaveSnapshot(ctx context.Context, w io.Writer) (int64, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := c.Operator.SaveSnapshot(ctx, &berthv1.SaveSnapshotRequest{})
	if err != nil {
		return 0, err
	}
	var size int64
	err = receive(stream.Recv, func(chunk *berthv1.SnapshotChunk) error {
		n, err := w.Write(chunk.GetData())
		size += int64(n)
		return err
	})
	return size, err
}

// RestoreSnapshot replaces the whole state of the cluster by the snapshot in r.
func (c *Client) RestoreSnapshot(ctx context.Context, r io.Reader) (*berthv1.RestoreSnapshotResponse, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := c.Operator.RestoreSnapshot(ctx)
	if err != nil {
		return nil, err
	}
	buf := make([]byte, chunkBytes)
	for {
		n, err := r.Read(buf)
		if n > 0 {
			sendErr := stream.Send(&berthv1.SnapshotChunk{Data: buf[:n]})
			if errors.Is(sendErr, io.EOF) {
				break // the server has said no already; CloseAndRecv tells why
			}
			if sendErr != nil {
				return nil, sendErr
			}
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, problem.New(problem.Invalid, "", "reading the snapshot: %w", err)
		}
	}
	return stream.CloseAndRecv()
}

// Events hands every change after req.Index to each, until ctx ends or each fails. When
// the connection is lost it goes on where it was, at another server if need be, for as
// long as the client's RetryFor; heartbeats are swallowed.
func (c *Client) Events(ctx context.Context, req *berthv1.StreamEventsRequest, each func(*berthv1.Event) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	at := &berthv1.StreamEventsRequest{Index: req.GetIndex(), Topics: req.GetTopics(), Job: req.GetJob(), Namespace: req.GetNamespace()}
	lastHeard := time.Now()
	for heard := false; ; {
		err := c.eventsOnce(ctx, at, func(e *berthv1.Event) error {
			heard, lastHeard = true, time.Now()
			if e.GetIndex() != 0 {
				at.Index = e.GetIndex()
			}
			if e.GetItem() == nil && e.GetType() == "" {
				return nil
			}
			return each(e)
		})
		if err == nil {
			err = problem.New(problem.Unavailable, "", "the server ended the stream of events")
		}
		// Without an index to go on from, trying again would lose what happened meanwhile.
		again := heard && at.Index != 0 && problem.Is(err, problem.Unavailable) && time.Since(lastHeard) < c.retryFor
		if !again || !sleep(ctx, 200*time.Millisecond) {
			return err
		}
	}
}

func (c *Client) eventsOnce(ctx context.Context, req *berthv1.StreamEventsRequest, each func(*berthv1.Event) error) error {
	stream, err := c.Status.StreamEvents(ctx, req)
	if err != nil {
		return err
	}
	return receive(stream.Recv, each)
}

// receive hands each message of a stream to each; nil when the stream ended well.
func receive[T any](next func() (T, error), each func(T) error) error {
	for {
		m, err := next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := each(m); err != nil {
			return err
		}
	}
}
