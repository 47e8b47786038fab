package session

import (
	"context"
	"errors"
	"io"

	"google.golang.org/grpc"

	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// FetchDisk gives the sticky disk for an allocation of this node from the node that has it,
// as a tar, through the server of the session. NotFound: there is none to be had, now or
// ever. What was read is whole only when it ends with io.EOF.
func (c *Client) FetchDisk(ctx context.Context, allocID string) (io.ReadCloser, error) {
	c.mu.Lock()
	rpc := c.rpc
	c.mu.Unlock()
	if rpc == nil {
		return nil, problem.New(problem.Unavailable, "", "the agent has no session with a server")
	}
	ctx, cancel := context.WithCancel(ctx)
	stream, err := rpc.FetchDisk(ctx, &berthv1.FetchDiskRequest{NodeId: c.cfg.Node().GetId(), AllocId: allocID})
	if err != nil {
		cancel()
		return nil, problem.From(err)
	}
	d := &diskReader{stream: stream, cancel: cancel}
	if d.next(); d.err != nil && !errors.Is(d.err, io.EOF) {
		cancel()
		return nil, d.err
	}
	return d, nil
}

// diskReader reads the chunks of a stream.
type diskReader struct {
	stream grpc.ServerStreamingClient[berthv1.FileChunk]
	cancel context.CancelFunc
	left   []byte
	offset int64
	err    error // of the stream, when nothing is left
}

// next takes the next chunk.
func (d *diskReader) next() {
	c, err := d.stream.Recv()
	switch {
	case errors.Is(err, io.EOF):
		d.err = io.EOF
	case err != nil:
		d.err = problem.From(err)
	case c.GetOffset() != d.offset:
		d.err = problem.New(problem.Internal, "", "a part of the disk was left out on the way, at byte %d", d.offset)
	default:
		d.left = c.GetData()
		d.offset += int64(len(d.left))
	}
}

func (d *diskReader) Read(b []byte) (int, error) {
	for len(d.left) == 0 {
		if d.err != nil {
			return 0, d.err
		}
		d.next()
	}
	n := copy(b, d.left)
	d.left = d.left[n:]
	return n, nil
}

// Close ends the stream.
func (d *diskReader) Close() error {
	d.cancel()
	return nil
}
