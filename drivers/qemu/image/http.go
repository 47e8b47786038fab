package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/berthd/berth/problem"
)

const (
	// tries is how often a fetch is taken up again where it broke off, without a byte more.
	tries = 5
	// stall is how long a source may send nothing.
	stall = time.Minute
)

// web has the timeouts of everything but the body, which has its own.
var web = &http.Client{
	Transport: &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: 30 * time.Second}).DialContext,
		TLSHandshakeTimeout:   30 * time.Second,
		ResponseHeaderTimeout: stall,
		IdleConnTimeout:       time.Minute,
		DisableCompression:    true, // what is fetched is what has the checksum
		ForceAttemptHTTP2:     true,
	},
	CheckRedirect: func(r *http.Request, via []*http.Request) error {
		if len(via) >= 10 {
			return errors.New("more than 10 redirections")
		}
		if via[0].URL.Scheme == "https" && r.URL.Scheme != "https" {
			return fmt.Errorf("it redirects from https to %s", r.URL.Redacted())
		}
		return nil
	},
}

// httpOrigin is an address.
type httpOrigin struct {
	url *url.URL
	// mark is the validator of what was begun to be fetched.
	mark string
}

func newHTTP(u *url.URL) *httpOrigin { return &httpOrigin{url: u} }

func (o *httpOrigin) String() string { return o.url.Redacted() }

func (o *httpOrigin) do(ctx context.Context, method string, header http.Header) (*http.Response, error) {
	r, err := http.NewRequestWithContext(ctx, method, o.url.String(), nil)
	if err != nil {
		return nil, problem.New(problem.Invalid, "image", "%w", err)
	}
	r.Header = header
	answer, err := web.Do(r)
	if err != nil {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		var u *url.Error // without the address: it may have a password
		if errors.As(err, &u) {
			err = u.Err
		}
		return nil, problem.New(problem.Unavailable, "image", "%w", err)
	}
	if answer.StatusCode/100 == 2 {
		return answer, nil
	}
	_ = answer.Body.Close()
	kind := problem.Invalid
	switch {
	case answer.StatusCode == http.StatusNotFound:
		kind = problem.NotFound
	case answer.StatusCode/100 == 5, answer.StatusCode == http.StatusTooManyRequests, answer.StatusCode == http.StatusRequestTimeout:
		kind = problem.Unavailable
	}
	return nil, problem.New(kind, "image", "the server says %s", answer.Status)
}

// validator is what a server says of a content to tell it from others.
func validator(h http.Header) string {
	if tag := h.Get("ETag"); tag != "" {
		return tag
	}
	return h.Get("Last-Modified")
}

func (o *httpOrigin) version(ctx context.Context) (string, error) {
	answer, err := o.do(ctx, http.MethodHead, http.Header{})
	if err != nil {
		if k := problem.KindOf(err); k == problem.Invalid || k == problem.NotFound {
			return "", nil // it may know GET only; that will tell
		}
		return "", err
	}
	_ = answer.Body.Close()
	if mark := validator(answer.Header); mark != "" {
		return mark + " " + answer.Header.Get("Content-Length"), nil
	}
	return "", nil
}

func (o *httpOrigin) fetch(ctx context.Context, d *download) error {
	return retry(ctx, d, func() error { return o.attempt(ctx, d) })
}

// attempt fetches what comes after what d has.
func (o *httpOrigin) attempt(ctx context.Context, d *download) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	header := http.Header{}
	if d.size > 0 {
		header.Set("Range", fmt.Sprintf("bytes=%d-", d.size))
		header.Set("If-Range", o.mark)
	}
	answer, err := o.do(ctx, http.MethodGet, header)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	resumed := answer.StatusCode == http.StatusPartialContent
	if d.size > 0 && !resumed {
		return problem.New(problem.Conflict, "image", "it broke off, and the server cannot go on where it did")
	}
	o.mark = validator(answer.Header)
	if answer.ContentLength > 0 {
		if err := d.expect(d.size + answer.ContentLength); err != nil {
			return err
		}
	}
	silence := time.AfterFunc(stall, func() {
		cancel(problem.New(problem.Unavailable, "image", "nothing came for %s", stall))
	})
	defer silence.Stop()
	_, err = io.Copy(d, &watched{Reader: answer.Body, timer: silence})
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.Is(err, io.ErrUnexpectedEOF), errors.As(err, new(net.Error)):
		return problem.New(problem.Unavailable, "image", "it broke off after %s: %w", size(d.size), err)
	}
	return err
}

// watched puts a timer off whenever something comes.
type watched struct {
	io.Reader
	timer *time.Timer
}

func (w *watched) Read(p []byte) (int, error) {
	n, err := w.Reader.Read(p)
	if n > 0 {
		w.timer.Reset(stall)
	}
	return n, err
}

// retry tries again, later and later, as long as that may help; each byte that came counts
// the tries anew.
func retry(ctx context.Context, d *download, attempt func() error) error {
	wait := time.Second
	for left, had := tries, d.size; ; {
		err := attempt()
		if err == nil || !problem.Is(err, problem.Unavailable) {
			return err
		}
		if d.size > had {
			left, had, wait = tries, d.size, time.Second
		}
		if left--; left == 0 {
			return err
		}
		d.tell("trying again: " + problem.From(err).Reason)
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(wait):
		}
		wait *= 2
	}
}
