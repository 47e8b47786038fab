package client

import (
	"context"
	"errors"
	"io"

	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// Attach joins a task's console or display to in and out until the task's side ends it
// (nil), out fails, or ctx ends. The end of in does not end it; in may be nil.
//
// One goroutine copies in. It may be left behind in a Read that never returns; it touches
// nothing but in then.
func (c *Client) Attach(ctx context.Context, start *berthv1.AttachStart, in io.Reader, out io.Writer) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := c.Allocs.Attach(ctx)
	if err != nil {
		return err
	}
	first := &berthv1.AttachFrame{Body: &berthv1.AttachFrame_Start{Start: start}}
	if err := stream.Send(first); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if in != nil {
		go func() {
			buf := make([]byte, chunkBytes)
			for {
				n, err := in.Read(buf)
				if n > 0 && ctx.Err() == nil {
					frame := &berthv1.AttachFrame{Body: &berthv1.AttachFrame_Data{Data: buf[:n]}}
					if stream.Send(frame) != nil {
						return // the receiving side says why
					}
				}
				if err != nil || ctx.Err() != nil {
					return
				}
			}
		}()
	}
	for {
		frame, err := stream.Recv()
		switch {
		case errors.Is(err, io.EOF):
			return problem.New(problem.Unavailable, "", "the session ended without a word")
		case err != nil:
			return err
		case frame.GetDone():
			return nil
		}
		if _, err := out.Write(frame.GetData()); err != nil {
			return err
		}
	}
}
