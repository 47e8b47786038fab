package command

import (
	"context"
	"io"
)

// clusterImages gives a driver, which is made before the agent is and may not know it, the
// images that the cluster keeps.
type clusterImages struct{ d *daemon }

// Resolve implements image.Cluster.
func (c clusterImages) Resolve(ctx context.Context, name string) (string, error) {
	images, err := c.d.images()
	if err != nil {
		return "", err
	}
	return images.Resolve(ctx, name)
}

// Fetch implements image.Cluster.
func (c clusterImages) Fetch(ctx context.Context, digest string, offset int64, to io.Writer) error {
	images, err := c.d.images()
	if err != nil {
		return err
	}
	return images.Fetch(ctx, digest, offset, to)
}
