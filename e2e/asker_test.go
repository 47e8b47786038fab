package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

const (
	askEvery = 5 * time.Millisecond
	// patience is how long one request may take: a machine under load is slow, and that is
	// no failure of what is asked.
	patience = 20 * time.Second
	// most requests at once; the next one waits.
	most = 200
)

// asker asks a web service again and again, and looks it up in DNS each time: in SRV
// records for one of its instances, at one agent after the other. It keeps nothing of
// what it was told.
type asker struct {
	service  string   // as DNS has it
	agents   []string // the addresses of their DNS
	resolver *net.Resolver
	client   *http.Client
	next     atomic.Int64 // the agent to ask

	cancel context.CancelFunc
	ended  chan struct{}

	mu       sync.Mutex
	answers  int            // all so far
	failures []string       // of requests
	seen     map[string]int // answers by version, since they were asked for
	last     string         // version that has answered last
	row      int            // its answers without another's between them
}

// askerOf gives the script's asker, which cmdAsk has put there.
func askerOf(ts *testscript.TestScript) *asker {
	a := clusterOf(ts).asker
	if a == nil {
		ts.Fatalf("nobody asks: ask SERVICE AGENT...")
	}
	return a
}

// cmdAsk begins to ask a service, every 5 ms until the script ends, by the DNS of agents:
// ask web.default.berth. n1 n2
func cmdAsk(ts *testscript.TestScript, _ bool, args []string) {
	a := &asker{service: args[0], ended: make(chan struct{}), seen: map[string]int{}}
	for _, name := range args[1:] {
		a.agents = append(a.agents, ts.Getenv(name+"_dns"))
	}
	a.resolver = &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, network, a.agents[int(a.next.Add(1))%len(a.agents)])
	}}
	a.client = &http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}
	ctx, cancel := context.WithCancel(context.Background())
	a.cancel = cancel
	clusterOf(ts).asker = a
	go a.run(ctx)
	ts.Defer(func() { // before the cluster ends, and with it who is asked
		a.cancel()
		<-a.ended
	})
}

// run asks until ctx ends, and until all that was asked is answered.
func (a *asker) run(ctx context.Context) {
	defer close(a.ended)
	var asking sync.WaitGroup
	defer asking.Wait()
	room := make(chan struct{}, most)
	tick := time.NewTicker(askEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		room <- struct{}{}
		asking.Go(func() {
			defer func() { <-room }()
			// A request that was begun is seen through.
			began := time.Now()
			version, err := a.request(context.WithoutCancel(ctx))
			a.note(began, version, err)
		})
	}
}

// request looks the service up and asks one of its instances. It gives the last word of
// the answer, the version.
func (a *asker) request(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	_, found, err := a.resolver.LookupSRV(ctx, "", "", a.service)
	if err != nil {
		return "", err
	}
	if len(found) == 0 {
		return "", errors.New("no instance is ready")
	}
	at, err := a.resolver.LookupNetIP(ctx, "ip4", found[0].Target)
	if err != nil {
		return "", err
	}
	url := "http://" + net.JoinHostPort(at[0].String(), strconv.Itoa(int(found[0].Port))) + "/"
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	resp, err := a.client.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return "", fmt.Errorf("GET %s: %w", url, err)
	}
	words := strings.Fields(string(body))
	if resp.StatusCode != http.StatusOK || len(words) == 0 {
		return "", fmt.Errorf("GET %s: %s: %q", url, resp.Status, body)
	}
	return words[len(words)-1], nil
}

func (a *asker) note(began time.Time, version string, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err != nil {
		a.failures = append(a.failures, fmt.Sprintf("%s to %s: %v", began.Format("15:04:05.000"), time.Now().Format("15:04:05.000"), err))
		return
	}
	a.answers++
	a.seen[version]++
	if version != a.last {
		a.last, a.row = version, 0
	}
	a.row++
}

// until waits until enough is true of what was answered; a request that failed ends the
// script.
func (a *asker) until(ts *testscript.TestScript, what string, enough func() bool) {
	for deadline := time.Now().Add(endWithin); ; time.Sleep(look) {
		a.mu.Lock()
		failures, is := a.failures, enough()
		answers, seen := a.answers, fmt.Sprint(a.seen)
		a.mu.Unlock()
		if len(failures) > 0 {
			ts.Fatalf("%d requests failed, %d were answered:\n%s", len(failures), answers, strings.Join(failures[:min(len(failures), 20)], "\n"))
		}
		if is {
			ts.Logf("[%d answers so far, none failed; by version since the last look: %s]", answers, seen)
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("waited %v for %s; answers by version: %s", endWithin, what, seen)
		}
	}
}

// cmdAsked waits until so many more requests are answered, and checks that none has
// failed, and who has answered since the last time: all of these versions, and no others:
// asked 100 v1 v3
func cmdAsked(ts *testscript.TestScript, _ bool, args []string) {
	a := askerOf(ts)
	more, err := strconv.Atoi(args[0])
	ts.Check(err)
	a.mu.Lock()
	begun := a.answers
	a.mu.Unlock()
	a.until(ts, strings.Join(args, " "), func() bool { return a.answers >= begun+more })
	a.mu.Lock()
	defer a.mu.Unlock()
	want := slices.Sorted(slices.Values(args[1:]))
	if got := slices.Sorted(maps.Keys(a.seen)); !slices.Equal(got, want) {
		ts.Fatalf("%v have answered, want %v", a.seen, want)
	}
	a.seen = map[string]int{}
}

// cmdSettled waits until so many answers in a row are one version's: settled 100 v3
func cmdSettled(ts *testscript.TestScript, _ bool, args []string) {
	a := askerOf(ts)
	row, err := strconv.Atoi(args[0])
	ts.Check(err)
	a.until(ts, strings.Join(args, " "), func() bool { return a.last == args[1] && a.row >= row })
	a.mu.Lock()
	defer a.mu.Unlock()
	a.seen = map[string]int{}
}
