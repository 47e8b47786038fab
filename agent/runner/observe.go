package runner

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"

	"google.golang.org/protobuf/proto"

	"github.com/berthd/berth/drivers"
	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

const (
	// firstLook is how long a driver's first word on a task's condition is waited for.
	firstLook = 2 * time.Second
	// A driver may tell oftenAtOnce conditions in a row, then one each tellSpacing: each
	// is stored and reported, and guests have a say in them.
	oftenAtOnce = 20
	tellSpacing = time.Second
	// maxGuestWords bounds what a guest says of itself, in bytes; maxAddresses how many
	// addresses it has.
	maxGuestWords = 255
	maxAddresses  = 16
	// notReady is TaskState.condition of a task that runs and is not what its config calls
	// ready.
	notReady = "not ready"
)

// sight follows the condition of a running task, where its driver can tell.
type sight struct {
	cancel context.CancelFunc
	done   chan struct{} // closed when its goroutine has ended
}

// lookAt begins to follow the task's condition until lookAway, or ctx ends. It returns
// when the driver has told it for the first time, so that nobody takes the task for ready
// before that is known.
func (t *task) lookAt(ctx context.Context, d drivers.Driver) {
	t.lookAway()
	o, ok := d.(drivers.Observer)
	if !ok || !slices.Contains(d.Info().Capabilities, drivers.CapObserve) {
		return
	}
	ctx, cancel := context.WithCancel(ctx)
	t.sight = &sight{cancel: cancel, done: make(chan struct{})}
	first := make(chan struct{})
	go t.observe(ctx, o, t.sight.done, sync.OnceFunc(func() { close(first) }))
	timer := time.NewTimer(firstLook)
	defer timer.Stop()
	select {
	case <-first:
	case <-t.sight.done:
	case <-ctx.Done():
	case <-timer.C:
		t.rec.State.Condition = notReady // until it is told otherwise
	}
	t.takeConditions()
}

// lookAway ends what lookAt has begun.
func (t *task) lookAway() {
	if t.sight == nil {
		return
	}
	t.sight.cancel()
	<-t.sight.done
	t.sight = nil
	t.mu.Lock()
	defer t.mu.Unlock()
	t.conditions = nil
}

func (t *task) observe(ctx context.Context, o drivers.Observer, done chan struct{}, heard func()) {
	defer close(done)
	var spent time.Time // up to when its conditions are spread over time
	for wait := retryMin; ; wait = min(2*wait, retryMax) {
		err := o.Observe(ctx, taskID(t.key.Alloc, t.key.Task), func(c drivers.Condition) {
			now := time.Now()
			spent = later(spent, now).Add(tellSpacing)
			pause(ctx, spent.Sub(now)-oftenAtOnce*tellSpacing)
			t.order(func() { t.conditions = append(t.conditions, c) })
			heard()
		})
		if err == nil || ctx.Err() != nil || problem.Is(err, problem.NotFound) {
			return // the task has ended: Wait tells how
		}
		pause(ctx, wait)
	}
}

func pause(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// takeConditions moves what the driver has told into the record.
func (t *task) takeConditions() {
	t.mu.Lock()
	told := t.conditions
	t.conditions = nil
	t.mu.Unlock()
	for _, c := range told {
		event, changed := noteCondition(t.rec.State, c)
		if event != nil {
			t.event(event.GetType(), event.GetMessage())
		}
		t.unsaved = t.unsaved || changed
	}
}

// noteCondition puts a condition into a task's state. It gives the event that it makes,
// and whether anything has changed: pure.
func noteCondition(st *berthv1.TaskState, c drivers.Condition) (event *berthv1.TaskEvent, changed bool) {
	before, now := st.GetCondition(), plainWords(c.State)
	switch {
	case now == "running" && c.Ready, now == "":
		now = ""
	case now == "running":
		now = notReady
	}
	st.Condition = now
	guest := guestOf(c)
	if guest == nil {
		guest = st.GetGuest() // what it does not say again
	}
	changed = before != now || !proto.Equal(guest, st.GetGuest())
	st.Guest = guest
	words := plainWords(c.Event)
	switch {
	case before == now && words == "", now == notReady && words == "":
		return nil, changed
	case before == now || now == notReady:
		return &berthv1.TaskEvent{Type: "machine", Message: words}, true
	case now != "":
		return &berthv1.TaskEvent{Type: now, Message: words}, true
	case before == notReady:
		return &berthv1.TaskEvent{Type: "ready", Message: words}, true
	}
	return &berthv1.TaskEvent{Type: "resumed", Message: words}, true
}

// guestOf is what a guest says of itself; nil: nothing.
func guestOf(c drivers.Condition) *berthv1.Guest {
	g := &berthv1.Guest{Hostname: plainWords(c.Hostname), Os: plainWords(c.OS)}
	for _, a := range c.Addresses[:min(len(c.Addresses), maxAddresses)] {
		g.Addresses = append(g.Addresses, plainWords(a))
	}
	if g.Hostname == "" && g.Os == "" && len(g.Addresses) == 0 {
		return nil
	}
	return g
}

// plainWords makes what a guest may have chosen fit to be stored and shown: short, valid,
// and without codes that terminals obey.
func plainWords(s string) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == unicode.ReplacementChar {
			return '?'
		}
		return r
	}, s)
	if len(s) > maxGuestWords {
		s = strings.ToValidUTF8(s[:maxGuestWords], "")
	}
	return s
}

// stands says that a task's machine stands still because somebody wants it to: nothing is
// asked of it meanwhile.
func stands(st *berthv1.TaskState) bool {
	return st.GetCondition() == "paused" || st.GetCondition() == "suspended"
}

// conditionWords say how a running task is that is not as it should be; "" when it is.
func conditionWords(st *berthv1.TaskState) string {
	if st.GetPhase() != berthv1.TaskState_started || st.GetCondition() == "" {
		return ""
	}
	return "task \"" + st.GetTask() + "\" is " + st.GetCondition()
}
