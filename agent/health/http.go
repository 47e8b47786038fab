package health

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// maxBody is how much of a response is read.
const maxBody = 64 << 10

// clients are shared by all checks of a node. No connection outlives its check's run.
type clients struct{ strict, lax *http.Client }

func newClients() clients {
	client := func(lax bool) *http.Client {
		return &http.Client{
			Transport: &http.Transport{
				DisableKeepAlives: true,
				// The service speaks for itself: no proxy, no other protocol.
				Proxy:                  nil,
				MaxResponseHeaderBytes: maxBody,
				TLSClientConfig:        &tls.Config{InsecureSkipVerify: lax}, //nolint:gosec // tls_skip_verify of the spec
			},
			CheckRedirect: redirect,
		}
	}
	return clients{client(false), client(true)}
}

// redirect follows a few redirects, but never to another host: a check is of one
// instance. The redirect itself is the answer then.
func redirect(req *http.Request, via []*http.Request) error {
	if req.URL.Host != via[0].URL.Host || len(via) > 5 {
		return http.ErrUseLastResponse
	}
	return nil
}

// httpCheck passes when a request is answered with an expected status.
type httpCheck struct {
	client      *http.Client
	method, url string
	headers     map[string]string
	body        string
	expect      berthv1.Statuses
}

func (p *Pool) newHTTP(c *berthv1.Check, address string) Prober {
	h := &httpCheck{client: p.clients.strict, method: c.GetMethod(), headers: c.GetHeaders(), body: c.GetBody()}
	if c.GetTlsSkipVerify() {
		h.client = p.clients.lax
	}
	if h.method == "" {
		h.method = http.MethodGet
	}
	expect := c.GetExpectStatus()
	if expect == "" {
		expect = "200-399"
	}
	h.expect, _ = berthv1.ParseStatuses(expect) // specs with another list are refused; it would pass nothing
	scheme := "http://"
	if c.GetTls() {
		scheme = "https://"
	}
	h.url = scheme + address + "/" + strings.TrimPrefix(c.GetPath(), "/")
	return h
}

func (h *httpCheck) Probe(ctx context.Context) Outcome {
	req, err := http.NewRequestWithContext(ctx, h.method, h.url, strings.NewReader(h.body))
	if err != nil {
		return Outcome{Output: err.Error()}
	}
	req.Header.Set("User-Agent", "berth-check")
	for k, v := range h.headers {
		req.Header.Set(k, v)
		if strings.EqualFold(k, "host") {
			req.Host = v
		}
	}
	resp, err := h.client.Do(req)
	if err != nil {
		if outer := (*url.Error)(nil); errors.As(err, &outer) && !outer.Timeout() {
			err = outer.Err
		}
		return Outcome{Output: plain(err)}
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxBody))
	words := "status " + resp.Status
	if text := strings.TrimSpace(string(body[:min(len(body), maxOutput)])); text != "" {
		words += ": " + text
	}
	if err != nil {
		return Outcome{Output: fmt.Sprintf("status %s, then: %s", resp.Status, plain(err))}
	}
	return Outcome{OK: h.expect.Has(resp.StatusCode), Output: words}
}
