package dispatch

import (
	"context"
	"errors"
	"io"

	"google.golang.org/grpc"

	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// imageChunk is how much of an image a message carries, in bytes.
const imageChunk = 256 << 10

// Images has the bytes of images.
type Images interface {
	// Open gives those from offset on, from wherever they are.
	Open(ctx context.Context, digest string, offset int64) (io.ReadCloser, error)
}

// LocalImages has those that are on this server.
type LocalImages interface {
	Open(digest string, offset int64) (io.ReadCloser, error)
}

// ResolveImage implements berthv1.AgentServiceServer.
func (d *Dispatcher) ResolveImage(_ context.Context, req *berthv1.ResolveImageRequest) (*berthv1.Image, error) {
	if i := d.cfg.Store.View().Image(req.GetName()); i != nil {
		return i, nil
	}
	return nil, problem.Wire(problem.New(problem.NotFound, "image", "the cluster keeps no image %q", req.GetName()))
}

// FetchImage implements berthv1.AgentServiceServer.
func (d *Dispatcher) FetchImage(req *berthv1.FetchImageRequest, to grpc.ServerStreamingServer[berthv1.ImageChunk]) error {
	if d.cfg.Images == nil {
		return problem.Wire(noImages())
	}
	from, err := d.cfg.Images.Open(to.Context(), req.GetDigest(), req.GetOffset())
	return sendImage(from, err, req.GetOffset(), to)
}

// SendImage implements berthv1.InternalServiceServer.
func (d *Dispatcher) SendImage(req *berthv1.FetchImageRequest, to grpc.ServerStreamingServer[berthv1.ImageChunk]) error {
	if d.cfg.LocalImages == nil {
		return problem.Wire(noImages())
	}
	from, err := d.cfg.LocalImages.Open(req.GetDigest(), req.GetOffset())
	return sendImage(from, err, req.GetOffset(), to)
}

func noImages() error {
	return problem.New(problem.Unsupported, "", "this server keeps no images")
}

func sendImage(from io.ReadCloser, err error, offset int64, to grpc.ServerStreamingServer[berthv1.ImageChunk]) error {
	if err != nil {
		return problem.Wire(err)
	}
	defer from.Close()
	for {
		// A message of its own each: what was sent may still be on its way out.
		data := make([]byte, imageChunk)
		n, err := io.ReadFull(from, data)
		if n > 0 {
			if err := to.Send(&berthv1.ImageChunk{Data: data[:n], Offset: offset}); err != nil {
				return err
			}
			offset += int64(n)
		}
		switch {
		case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
			return nil
		case err != nil:
			return problem.Wire(problem.New(problem.Internal, "", "reading an image: %w", err))
		}
	}
}
