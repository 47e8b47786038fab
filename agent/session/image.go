package session

import (
	"context"
	"errors"
	"io"

	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// Images are the images that the cluster keeps, as an agent sees them: through the server
// of its session. The qemu driver's store of images fetches by it.
type Images struct{ client *Client }

// Images gives the cluster's images.
func (c *Client) Images() *Images { return &Images{client: c} }

func (i *Images) rpc() (berthv1.AgentServiceClient, error) {
	i.client.mu.Lock()
	defer i.client.mu.Unlock()
	if i.client.rpc == nil {
		return nil, problem.New(problem.Unavailable, "", "the agent has no session with a server")
	}
	return i.client.rpc, nil
}

// Resolve gives the digest that a name has now.
func (i *Images) Resolve(ctx context.Context, name string) (string, error) {
	rpc, err := i.rpc()
	if err != nil {
		return "", err
	}
	image, err := rpc.ResolveImage(ctx, &berthv1.ResolveImageRequest{Name: name})
	if err != nil {
		return "", problem.From(err)
	}
	return image.GetDigest(), nil
}

// Fetch writes an image's bytes from offset on. Unavailable: it may go on from where it broke off.
func (i *Images) Fetch(ctx context.Context, digest string, offset int64, to io.Writer) error {
	rpc, err := i.rpc()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := rpc.FetchImage(ctx, &berthv1.FetchImageRequest{Digest: digest, Offset: offset})
	if err != nil {
		return problem.From(err)
	}
	for {
		chunk, err := stream.Recv()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return problem.From(err)
		case chunk.GetOffset() != offset:
			return problem.New(problem.Internal, "", "a part of the image was left out on the way, at byte %d", offset)
		}
		n, err := to.Write(chunk.GetData())
		if offset += int64(n); err != nil {
			return err
		}
	}
}
