package images

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"golang.org/x/sync/singleflight"
	"google.golang.org/grpc"

	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/server/state"
)

const (
	// retryEvery is how often it is looked again for what no other server could give.
	retryEvery = 10 * time.Second
	// tidyEvery is how often it is looked for files without an image.
	tidyEvery = 10 * time.Minute
)

// Config is what a Keeper is made of.
type Config struct {
	Files *Store
	State *state.Store
	// Others gives connections to the other servers; this one may be among them.
	Others func() []grpc.ClientConnInterface
	Log    *slog.Logger
}

// Keeper has all the images that the state names, or gets them from the other servers: in
// the background, and at once what somebody asks for.
type Keeper struct {
	cfg     Config
	flights singleflight.Group
}

// NewKeeper makes a Keeper; nothing runs yet.
func NewKeeper(cfg Config) *Keeper { return &Keeper{cfg: cfg} }

// Files are those that are here.
func (k *Keeper) Files() *Store { return k.cfg.Files }

// Run copies what is missing, and tidies, until ctx ends.
func (k *Keeper) Run(ctx context.Context) error {
	tidied := time.Now()
	for {
		watch := k.cfg.State.Watch(state.Topic{Table: state.TableImages})
		missing := k.copyMissing(ctx)
		if time.Since(tidied) >= tidyEvery {
			tidied = time.Now()
			if err := k.cfg.Files.Keep(tidied, k.named()); err != nil {
				k.cfg.Log.Warn("images that nobody names stay on the disk", "error", err)
			}
		}
		wait := tidyEvery
		if missing {
			wait = retryEvery
		}
		select {
		case <-ctx.Done():
		case <-watch.C:
		case <-time.After(wait):
		}
		watch.Close()
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

// named says which digests have an image.
func (k *Keeper) named() func(string) bool {
	all := map[string]bool{}
	for i := range k.cfg.State.View().Images("") {
		all[i.GetDigest()] = true
	}
	return func(digest string) bool { return all[digest] }
}

// copyMissing says whether something is missing still.
func (k *Keeper) copyMissing(ctx context.Context) (missing bool) {
	for i := range k.cfg.State.View().Images("") {
		if ctx.Err() != nil || k.cfg.Files.Has(i.GetDigest()) {
			continue
		}
		if err := k.fetch(ctx, i.GetDigest()); err != nil {
			missing = true
			k.cfg.Log.Info("an image is not here yet", "image", i.GetName(), "digest", i.GetDigest(), "error", err)
		}
	}
	return missing
}

// Open gives the bytes of an image from offset on. What is not here is fetched first.
func (k *Keeper) Open(ctx context.Context, digest string, offset int64) (io.ReadCloser, error) {
	if !k.cfg.Files.Has(digest) {
		if !k.named()(digest) {
			return nil, problem.New(problem.NotFound, "digest", "the cluster keeps no image %s", digest)
		}
		if err := k.fetch(ctx, digest); err != nil {
			return nil, err
		}
	}
	return k.cfg.Files.Open(digest, offset)
}

// fetch brings an image here, once however many ask.
func (k *Keeper) fetch(ctx context.Context, digest string) error {
	done := k.flights.DoChan(digest, func() (any, error) {
		// Whoever asked first may go away; the others still wait, and Run wants it too. It ends
		// at the latest with the connections to the other servers.
		return nil, k.fetchFromAny(context.WithoutCancel(ctx), digest)
	})
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case r := <-done:
		return r.Err
	}
}

func (k *Keeper) fetchFromAny(ctx context.Context, digest string) error {
	if k.cfg.Files.Has(digest) {
		return nil
	}
	var last error
	for _, conn := range k.cfg.Others() {
		if last = k.fetchFrom(ctx, conn, digest); last == nil {
			return nil
		}
	}
	p := problem.New(problem.Unavailable, "digest", "no server has the bytes of image %s", digest)
	if last != nil {
		p = problem.New(problem.Unavailable, "digest", "no server has the bytes of image %s: %w", digest, last)
	}
	return p.WithRemedy("import it again: berth image import NAME FILE")
}

func (k *Keeper) fetchFrom(ctx context.Context, conn grpc.ClientConnInterface, digest string) error {
	in, err := k.cfg.Files.Begin()
	if err != nil {
		return err
	}
	defer in.Abort()
	// A server that went away in the middle is noticed by the connection's keepalive.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := berthv1.NewInternalServiceClient(conn).SendImage(ctx, &berthv1.FetchImageRequest{Digest: digest})
	if err != nil {
		return problem.From(err)
	}
	for {
		chunk, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return problem.From(err)
		}
		if _, err := in.Write(chunk.GetData()); err != nil {
			return err
		}
	}
	if got := in.Digest(); got != digest {
		return fmt.Errorf("another server gave %s for %s", got, digest)
	}
	return in.Commit()
}
