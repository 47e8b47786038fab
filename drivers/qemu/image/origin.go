package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/berthd/berth/problem"
)

// origin is where the bytes of an image come from.
type origin interface {
	// version says what it holds now: "sha256:..." of the bytes, another word that changes
	// with them, or "" where it cannot tell.
	version(ctx context.Context) (string, error)
	// fetch writes all of it to d.
	fetch(ctx context.Context, d *download) error
	// String is for people, without passwords.
	String() string
}

var clusterName = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,126}(@sha256:[0-9a-f]{64})?$`)

// origin finds out of what kind a source is.
func (s *Store) origin(src Source) (origin, error) {
	ref := src.Ref
	switch scheme, _, _ := strings.Cut(ref, "://"); {
	case scheme == "http" || scheme == "https":
		u, err := url.Parse(ref)
		if err != nil || u.Host == "" {
			return nil, problem.New(problem.Invalid, "image", "%q is no address", ref)
		}
		return newHTTP(u), nil
	case scheme == "oci":
		return newOCI(strings.TrimPrefix(ref, "oci://"))
	case scheme != ref:
		return nil, problem.New(problem.Invalid, "image", "%q cannot be fetched", ref).
			WithRemedy("sources are http, https, oci, a path, or a name in the cluster's store")
	case filepath.IsAbs(ref):
		return s.hostFile(ref)
	case strings.Contains(ref, "/"):
		if !filepath.IsLocal(ref) || src.Dir == "" {
			return nil, problem.New(problem.Invalid, "image", "%q is not in the task's directory", ref)
		}
		return &fileOrigin{root: src.Dir, path: ref}, nil
	case !clusterName.MatchString(ref):
		return nil, problem.New(problem.Invalid, "image", "%q is no name of an image", ref).
			WithRemedy(`a file in the task's directory is written with a "/", as in "./disk.img" or "local/disk.img"`)
	case s.cfg.Cluster == nil:
		return nil, problem.New(problem.Unsupported, "image", "%q is a name, and this agent reaches no store of images", ref)
	}
	return &clusterOrigin{cluster: s.cfg.Cluster, name: ref}, nil
}

// clusterOrigin is an image in the cluster's store.
type clusterOrigin struct {
	cluster Cluster
	name    string
}

func (o *clusterOrigin) String() string { return o.name }

func (o *clusterOrigin) version(ctx context.Context) (string, error) {
	if _, digest, ok := strings.Cut(o.name, "@"); ok {
		return digest, nil
	}
	return o.cluster.Resolve(ctx, o.name)
}

func (o *clusterOrigin) fetch(ctx context.Context, d *download) error {
	digest, err := o.version(ctx)
	if err != nil {
		return err
	}
	return retry(ctx, d, func() error { return o.cluster.Fetch(ctx, digest, d.size, d) })
}

// fileOrigin is a file below a directory that it does not lead out of.
type fileOrigin struct{ root, path string }

// hostFile takes absolute paths below the directories that the configuration allows.
func (s *Store) hostFile(path string) (origin, error) {
	for _, dir := range s.cfg.HostDirs {
		if rel, err := filepath.Rel(dir, filepath.Clean(path)); err == nil && filepath.IsLocal(rel) {
			return &fileOrigin{root: dir, path: rel}, nil
		}
	}
	return nil, problem.New(problem.Denied, "image", "%s is in no directory that this host takes images from", path).
		WithRemedy("add its directory to agent.qemu.image_dirs in the host's configuration, or import it: berth image import")
}

func (o *fileOrigin) String() string { return filepath.Join(o.root, o.path) }

// open refuses links out of the directory and what is no plain file, without waiting for
// the writer of a pipe.
func (o *fileOrigin) open() (*os.File, fs.FileInfo, error) {
	root, err := os.OpenRoot(o.root)
	if err != nil {
		return nil, nil, problem.New(problem.NotFound, "image", "%w", err)
	}
	defer root.Close()
	f, err := root.OpenFile(o.path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, nil, problem.New(problem.Invalid, "image", "%w", err)
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = problem.New(problem.Invalid, "image", "%s is no plain file", o)
	}
	if err != nil {
		return nil, nil, errors.Join(err, f.Close())
	}
	return f, info, nil
}

func (o *fileOrigin) version(context.Context) (string, error) {
	f, info, err := o.open()
	if err != nil {
		return "", err
	}
	defer f.Close()
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return "", nil
	}
	return fmt.Sprintf("%d:%d:%d:%d", st.Dev, st.Ino, info.Size(), info.ModTime().UnixNano()), nil
}

func (o *fileOrigin) fetch(ctx context.Context, d *download) error {
	f, info, err := o.open()
	if err != nil {
		return err
	}
	defer f.Close()
	if err := d.expect(info.Size()); err != nil {
		return err
	}
	_, err = io.Copy(d, &reader{ctx: ctx, Reader: f})
	return err
}

// reader ends with its context.
type reader struct {
	ctx context.Context
	io.Reader
}

func (r *reader) Read(p []byte) (int, error) {
	if r.ctx.Err() != nil {
		return 0, context.Cause(r.ctx)
	}
	return r.Reader.Read(p)
}
