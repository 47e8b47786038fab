package client

import (
	"context"
	"errors"
	"io"

	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// ImportImage has the cluster keep the image in r. checksum is "sha256:...", "sha512:..."
// or "".
func (c *Client) ImportImage(ctx context.Context, image *berthv1.Image, checksum string, r io.Reader) (*berthv1.Image, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := c.Images.ImportImage(ctx)
	if err != nil {
		return nil, err
	}
	part := &berthv1.ImportImageRequest{Image: image, Checksum: checksum}
	buf := make([]byte, importBytes)
	for {
		n, err := io.ReadFull(r, buf)
		if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			return nil, problem.New(problem.Invalid, "", "reading the image: %w", err)
		}
		part.Data = buf[:n]
		if sendErr := stream.Send(part); errors.Is(sendErr, io.EOF) {
			break // the server has said no already; CloseAndRecv tells why
		} else if sendErr != nil {
			return nil, sendErr
		}
		if err != nil {
			break
		}
		part = &berthv1.ImportImageRequest{}
	}
	return stream.CloseAndRecv()
}

// importBytes is how much of an image a message carries.
const importBytes = 256 << 10
