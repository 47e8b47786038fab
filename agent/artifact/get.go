package artifact

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	getter "github.com/hashicorp/go-getter/v2"

	"github.com/berthd/berth/problem"
)

const (
	// lookPeriod is how often the size of what is fetched is looked at.
	lookPeriod = 500 * time.Millisecond
	// sayPeriod is how often progress is told.
	sayPeriod = 15 * time.Second
)

// get fetches and unpacks into the temporary directory, and gives a directory whose
// content is what belongs at the destination.
func (j *job) get(ctx context.Context) (string, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var watch sync.WaitGroup
	watch.Go(func() { j.watch(ctx, cancel) })
	tree, err := j.bring(ctx)
	cause := context.Cause(ctx)
	cancel(nil)
	watch.Wait()
	if err != nil {
		if cause != nil && errors.Is(cause, errTooLarge(j.maxBytes)) {
			err = cause
		}
		return "", err
	}
	if j.from.sub != "" {
		if tree, err = subdirectory(tree, j.from.sub); err != nil {
			return "", err
		}
	}
	return tree, inspect(tree, j.maxBytes, j.User)
}

// bring has go-getter do its work.
func (j *job) bring(ctx context.Context) (string, error) {
	if j.from.url.Scheme == "file" {
		real, err := openToAll(j.from.url.Path)
		if err != nil {
			return "", err
		}
		j.from.url.Path, j.from.url.RawPath = real, ""
	}
	tree := filepath.Join(j.temp, "tree")
	if j.from.git {
		return tree, j.clone(ctx, tree)
	}
	if err := os.Mkdir(tree, 0o755); err != nil {
		return "", err
	}
	download := filepath.Join(j.temp, "download")
	name := j.from.name
	if j.Artifact.GetMode() == "file" {
		name = filepath.Base(j.destination)
	}
	if j.from.archive == "" {
		download = filepath.Join(tree, name)
	}
	u := *j.from.url
	if sum := j.Artifact.GetChecksum(); sum != "" {
		if list, ok := strings.CutPrefix(sum, "file:"); ok && !strings.HasPrefix(list, "http://") && !strings.HasPrefix(list, "https://") {
			return "", problem.New(problem.Invalid, "checksum", "a list of checksums is fetched by http or https")
		}
		q := u.Query()
		q.Set("checksum", sum)
		u.RawQuery = q.Encode()
	}
	if err := j.request(ctx, u.String(), download, getter.ModeFile); err != nil {
		return "", plain(err)
	}
	if j.from.archive == "" {
		return tree, nil
	}
	unpack := getter.LimitedDecompressors(maxFiles, j.maxBytes)[j.from.archive]
	target, many := tree, !j.from.alone
	if !many {
		target = filepath.Join(tree, strings.TrimSuffix(name, "."+j.from.archive))
	}
	if err := unpack.Decompress(target, download, many, 0); err != nil {
		return "", fmt.Errorf("unpacking it: %w", err)
	}
	if many {
		if err := relink(ctx, tree, download, j.from.archive); err != nil {
			return "", fmt.Errorf("unpacking it: %w", err)
		}
	}
	return tree, ctx.Err()
}

func (j *job) clone(ctx context.Context, tree string) error {
	if _, err := exec.LookPath("git"); err != nil {
		return problem.New(problem.Unsupported, "source", "this node has no git").
			WithRemedy("install git, or fetch an archive of the repository by https")
	}
	if err := j.request(ctx, "git::"+j.from.url.String(), tree, getter.ModeDir); err != nil {
		return plain(err)
	}
	return nil
}

// request asks go-getter, with nothing but what is wanted of it.
func (j *job) request(ctx context.Context, from, to string, mode getter.Mode) error {
	header := http.Header{}
	for k, v := range j.Artifact.GetHeaders() {
		header.Set(k, v)
	}
	web := &getter.HttpGetter{
		Client: webClient(j.maxBytes, j.Artifact.GetHeaders()), Header: header,
		DoNotCheckHeadFirst: true, XTerraformGetDisabled: true,
	}
	client := &getter.Client{
		DisableSymlinks: true,
		Getters:         []getter.Getter{&getter.GitGetter{}, web, &getter.FileGetter{}},
		Decompressors:   map[string]getter.Decompressor{},
	}
	_, err := client.Get(ctx, &getter.Request{Src: from, Dst: to, GetMode: mode, Copy: true, DisableSymlinks: true})
	return err
}

// webClient reads no more than maxBytes of an answer. It does not tell the headers to
// another host than the one they are meant for, nor follow from https to http.
func webClient(maxBytes int64, headers map[string]string) *http.Client {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.DisableKeepAlives = true
	return &http.Client{
		Transport: limited{transport, maxBytes},
		CheckRedirect: func(req *http.Request, via []*http.Request) error {
			first := via[0].URL
			switch {
			case len(via) > 10:
				return errors.New("more than 10 redirects")
			case first.Scheme == "https" && req.URL.Scheme != "https":
				return errors.New("it is redirected from https to " + req.URL.Scheme)
			case req.URL.Host != first.Host:
				for k := range headers {
					req.Header.Del(k)
				}
			}
			return nil
		},
	}
}

// limited bounds the bodies of answers.
type limited struct {
	http.RoundTripper
	maxBytes int64
}

func (l limited) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := l.RoundTripper.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	if resp.ContentLength > l.maxBytes {
		return nil, errors.Join(errTooLarge(l.maxBytes), resp.Body.Close())
	}
	resp.Body = &body{resp.Body, l.maxBytes, l.maxBytes}
	return resp, nil
}

type body struct {
	io.ReadCloser
	left, maxBytes int64
}

func (b *body) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if b.left -= int64(n); b.left < 0 {
		return 0, errTooLarge(b.maxBytes)
	}
	return n, err
}

// tooLarge says that an artifact is larger than this many bytes.
type tooLarge int64

func errTooLarge(maxBytes int64) error { return tooLarge(maxBytes) }

func (t tooLarge) Error() string {
	return fmt.Sprintf("it is larger than its max_size of %d MiB", int64(t)>>20)
}

// plain makes one line of an error: go-getter says what git said over many.
func plain(err error) error {
	if large := tooLarge(0); errors.As(err, &large) {
		return large
	}
	words := strings.Join(strings.Fields(err.Error()), " ")
	if words == err.Error() && len(words) < 500 {
		return err
	}
	return errors.New(words[:min(len(words), 500)])
}

// watch ends what takes more room than it may (git knows no limit), and tells progress.
func (j *job) watch(ctx context.Context, end context.CancelCauseFunc) {
	look := time.NewTicker(lookPeriod)
	defer look.Stop()
	last, said := time.Now(), int64(0)
	for {
		select {
		case <-ctx.Done():
			return
		case <-look.C:
		}
		size := sizeOf(j.temp)
		// A download and what is unpacked of it may lie there at once.
		if size > 2*j.maxBytes || j.from.git && size > j.maxBytes {
			end(errTooLarge(j.maxBytes))
			return
		}
		if time.Since(last) >= sayPeriod && j.Progress != nil && said != size {
			last, said = time.Now(), size
			j.Progress(fmt.Sprintf("%s: %d MiB", j.from, size>>20))
		}
	}
}

func sizeOf(dir string) (size int64) {
	_ = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return nil // it may be gone by now
		}
		if info, err := d.Info(); err == nil {
			size += info.Size()
		}
		return nil
	})
	return size
}
