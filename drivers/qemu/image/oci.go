package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/berthd/berth/problem"
)

// ociOrigin is an artifact in a registry: a manifest with one layer, which is the image as it
// is (as "oras push" makes them). Of an index the manifest of this host's architecture.
type ociOrigin struct{ ref name.Reference }

func newOCI(text string) (origin, error) {
	ref, err := name.ParseReference(text)
	if err != nil {
		return nil, problem.New(problem.Invalid, "image", "%q is no name in a registry: %w", text, err)
	}
	return &ociOrigin{ref: ref}, nil
}

func (o *ociOrigin) String() string { return "oci://" + o.ref.Name() }

func (o *ociOrigin) layer(ctx context.Context) (v1.Layer, error) {
	image, err := remote.Image(o.ref, remote.WithContext(ctx), remote.WithAuthFromKeychain(authn.DefaultKeychain),
		remote.WithPlatform(v1.Platform{OS: "linux", Architecture: runtime.GOARCH}))
	if err != nil {
		return nil, fromRegistry(ctx, err)
	}
	layers, err := image.Layers()
	if err != nil {
		return nil, fromRegistry(ctx, err)
	}
	if len(layers) != 1 {
		return nil, problem.New(problem.Invalid, "image", "the artifact has %d layers, not one that is the image", len(layers)).
			WithRemedy("push the image's file by itself, as in: oras push REGISTRY/NAME:TAG disk.qcow2")
	}
	return layers[0], nil
}

func (o *ociOrigin) version(ctx context.Context) (string, error) {
	l, err := o.layer(ctx)
	if err != nil {
		return "", err
	}
	digest, err := l.Digest()
	return digest.String(), err
}

func (o *ociOrigin) fetch(ctx context.Context, d *download) error {
	l, err := o.layer(ctx)
	if err != nil {
		return err
	}
	n, err := l.Size()
	if err != nil {
		return fromRegistry(ctx, err)
	}
	if err := d.expect(n); err != nil {
		return err
	}
	body, err := l.Compressed()
	if err != nil {
		return fromRegistry(ctx, err)
	}
	defer body.Close()
	if _, err := io.Copy(d, body); err != nil {
		return fmt.Errorf("fetching a layer: %w", err)
	}
	return nil
}

// fromRegistry gives a registry's errors their kinds.
func fromRegistry(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	kind := problem.Unavailable
	var t *transport.Error
	if errors.As(err, &t) {
		switch t.StatusCode {
		case http.StatusNotFound:
			kind = problem.NotFound
		case http.StatusUnauthorized, http.StatusForbidden:
			kind = problem.Denied
		}
	}
	return problem.New(kind, "image", "the registry: %w", err)
}
