package access

import (
	"bufio"
	"context"

	"github.com/berthd/berth/agent/disk"
	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// sendDisk sends the sticky disk of an alloc that has ended. NotFound, before anything else
// is sent: it has none.
func (s *Server) sendDisk(ctx context.Context, o *berthv1.SendDiskOrder, out *sender) error {
	info, err := s.allocs.Find(o.GetAllocId())
	switch {
	case err != nil:
		return err
	case info.ID != o.GetAllocId():
		return problem.New(problem.Invalid, "alloc_id", "a disk is asked for by the whole id")
	case !info.Ended:
		return problem.New(problem.Conflict, "", "alloc %s has not ended yet: its disk may still change", info.ID)
	case info.Data == "":
		return problem.New(problem.NotFound, "", "alloc %s has no sticky disk", info.ID)
	}
	offset := int64(0)
	frames := bufio.NewWriterSize(writerFunc(func(b []byte) (int, error) {
		written := 0
		for part := b; len(part) > 0; part = part[min(len(part), chunk):] {
			c := &berthv1.FileChunk{Data: part[:min(len(part), chunk)], Offset: offset}
			if err := out.send(&berthv1.StreamFrame{Body: &berthv1.StreamFrame_Chunk{Chunk: c}}); err != nil {
				return written, err
			}
			written += len(c.GetData())
			offset += int64(len(c.GetData()))
		}
		return written, nil
	}), chunk)
	s.log.Info("a sticky disk is sent to the node of its successor", "alloc", info.ID)
	if err := disk.Pack(ctx, frames, info.Data); err != nil {
		return problem.New(problem.Unavailable, "", "%w", err)
	}
	return frames.Flush()
}
