// Package artifact fetches what a task needs into the task's directory: a file, an archive
// that is unpacked, or a git repository.
//
// It promises that nothing outside of the task's directory is written, whatever the source
// holds and whatever links the task has made; that a source cannot fill the disk beyond
// its max_size; and that what is fetched is complete or not there: it is fetched into a
// directory of the agent's own and moved when it is whole. What was fetched once with the
// same definition is not fetched anew.
//
// Sources are http, https, file and git (through the host's git). All else that go-getter
// can do is off.
package artifact

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

const (
	// maxFiles bounds files and directories of one artifact.
	maxFiles = 100_000
	// defaultMaxMiB and defaultTimeout stand for what a definition leaves out.
	defaultMaxMiB  = 1024
	defaultTimeout = 30 * time.Minute
)

// Request is one artifact to fetch.
type Request struct {
	// Artifact is the definition, every ${...} in it replaced.
	Artifact *berthv1.Artifact
	// TaskDir is the task's directory.
	TaskDir string
	// Private is a directory that only the agent can reach, on TaskDir's file system. It
	// keeps what is not complete yet, and marks of what is.
	Private string
	// User is the task's user: what is fetched belongs to it if it is a number ("1000",
	// "1000:1000"); else all may read it.
	User string
	// Progress is told now and then how far it is. It may be nil.
	Progress func(words string)
}

// Fetch fetches an artifact and says whether it had to. A problem of the kinds Invalid and
// Unsupported will be the same at the next try.
func Fetch(ctx context.Context, r Request) (fetched bool, err error) {
	j, err := newJob(r)
	if err != nil {
		return false, err
	}
	if j.done() {
		return false, nil
	}
	defer func() {
		if rerr := os.RemoveAll(j.temp); err == nil && rerr != nil {
			err = fmt.Errorf("tidying after an artifact: %w", rerr)
		}
	}()
	// What an agent left here that was killed is of no use: nobody knows how far it was.
	if err := errors.Join(os.RemoveAll(j.temp), os.MkdirAll(j.temp, 0o700)); err != nil {
		return false, fmt.Errorf("making room for an artifact: %w", err)
	}
	timeout := r.Artifact.GetTimeout().AsDuration()
	if timeout <= 0 {
		timeout = defaultTimeout
	}
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, problem.New(problem.Timeout, "timeout", "it took longer than %s", timeout))
	defer cancel()
	tree, err := j.get(ctx)
	if cause := context.Cause(ctx); err != nil && cause != nil && !errors.Is(cause, context.Canceled) {
		err = cause
	}
	if err != nil {
		return false, fmt.Errorf("fetching %s: %w", j.from, err)
	}
	placed, err := j.place(tree)
	if err != nil {
		return false, fmt.Errorf("putting %s into %q: %w", j.from, j.destination, err)
	}
	return true, j.mark(placed)
}

// job is one artifact on its way.
type job struct {
	Request
	from        *source
	destination string // clean, relative to TaskDir
	maxBytes    int64
	temp        string
	marker      string
}

func newJob(r Request) (*job, error) {
	from, err := parse(r.Artifact)
	if err != nil {
		return nil, err
	}
	j := &job{Request: r, from: from, destination: filepath.Clean(r.Artifact.GetDestination())}
	if r.Artifact.GetDestination() == "" {
		j.destination = "local"
	}
	if !filepath.IsLocal(j.destination) || j.destination == "." && r.Artifact.GetMode() == "file" {
		return nil, problem.New(problem.Invalid, "destination", "%q is not in the task's directory", r.Artifact.GetDestination()).
			WithRemedy(`write a relative path such as "local"`)
	}
	j.maxBytes = defaultMaxMiB << 20
	if n := r.Artifact.GetMaxSizeMib(); n > 0 {
		j.maxBytes = int64(min(n, 1<<40)) << 20
	}
	definition, err := proto.MarshalOptions{Deterministic: true}.Marshal(r.Artifact)
	if err != nil {
		return nil, fmt.Errorf("reading an artifact's definition: %w", err)
	}
	sum := sha256.Sum256(definition)
	name := hex.EncodeToString(sum[:16])
	j.temp, j.marker = filepath.Join(r.Private, name+".part"), filepath.Join(r.Private, name+".done")
	return j, nil
}

// done says that the same was fetched before, and is still there.
func (j *job) done() bool {
	var placed []string
	b, err := os.ReadFile(j.marker)
	if err != nil || json.Unmarshal(b, &placed) != nil {
		return false
	}
	root, err := os.OpenRoot(j.TaskDir)
	if err != nil {
		return false
	}
	defer root.Close()
	for _, p := range placed {
		if _, err := root.Lstat(p); err != nil {
			return false
		}
	}
	return true
}

// mark remembers what is there now.
func (j *job) mark(placed []string) error {
	b, err := json.Marshal(placed)
	if err == nil {
		err = os.WriteFile(j.marker+".new", b, 0o600)
	}
	if err == nil {
		err = os.Rename(j.marker+".new", j.marker)
	}
	if err != nil {
		return fmt.Errorf("remembering that an artifact was fetched: %w", err)
	}
	return nil
}
