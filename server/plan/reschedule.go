package plan

import (
	"slices"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// verdict is what follows from an allocation that has ended by itself.
type verdict uint8

const (
	isDone  verdict = iota // complete, and meant to
	givenUp                // failed as often as the policy allows
	waits                  // replaced later
	isDue                  // replaced now
)

// Defaults of a reschedule policy; the intervals are those of the schema.
const (
	defaultInterval      = 24 * time.Hour
	defaultDelay         = 5 * time.Second
	defaultMaxDelay      = time.Hour
	defaultBatchAttempts = 3
	// maxRecorded bounds Alloc.reschedules.
	maxRecorded = 50
)

// reschedule decides on an allocation that has ended and is of the job's version. For
// what waits it gives the time, and has it stored where it is new.
func (r *reconciler) reschedule(g *group, a *berthv1.Alloc) (verdict, time.Time) {
	if a.GetStatus() == berthv1.Alloc_complete && r.toCompletion() {
		return isDone, time.Time{}
	}
	p := policyOf(g.spec.GetReschedule(), r.toCompletion())
	before := p.within(a.GetReschedules(), r.Now)
	if !p.unlimited && before >= p.attempts {
		if at := p.again(a.GetReschedules(), r.Now); !r.toCompletion() && !at.IsZero() {
			r.wake(at)
		}
		return givenUp, time.Time{}
	}
	at := a.GetRescheduleAfter().AsTime()
	if a.GetRescheduleAfter() == nil {
		if at = r.Now.Add(p.wait(before)); at.After(r.Now) {
			r.change(a, &berthv1.AllocChange{RescheduleAfter: timestamppb.New(at)})
		}
	}
	if r.Now.Before(at) {
		return waits, at
	}
	return isDue, at
}

// recorded is the record of a replacement that is made now.
func (r *reconciler) recorded(a *berthv1.Alloc) []*timestamppb.Timestamp {
	old := a.GetReschedules()
	if len(old) >= maxRecorded {
		old = old[len(old)-maxRecorded+1:]
	}
	return append(old[:len(old):len(old)], timestamppb.New(r.Now))
}

// policy is a reschedule policy with its defaults filled in.
type policy struct {
	attempts        int
	unlimited       bool
	interval        time.Duration
	delay, maxDelay time.Duration
	backoff         string
}

func policyOf(p *berthv1.ReschedulePolicy, toCompletion bool) policy {
	out := policy{
		attempts: int(p.GetAttempts()), interval: defaultInterval, delay: defaultDelay, maxDelay: defaultMaxDelay,
		backoff: p.GetBackoff(), unlimited: p.GetUnlimited(),
	}
	if p.GetInterval() != nil {
		out.interval = p.GetInterval().AsDuration()
	}
	if p.GetDelay() != nil {
		out.delay = p.GetDelay().AsDuration()
	}
	if p.GetMaxDelay() != nil {
		out.maxDelay = p.GetMaxDelay().AsDuration()
	}
	if p == nil || p.Unlimited == nil {
		out.unlimited = !toCompletion && (p == nil || p.Attempts == nil)
	}
	if toCompletion && (p == nil || p.Attempts == nil) {
		out.attempts = defaultBatchAttempts
	}
	return out
}

// within counts the replacements of the last interval.
func (p *policy) within(times []*timestamppb.Timestamp, now time.Time) (n int) {
	for _, t := range times {
		if now.Sub(t.AsTime()) < p.interval {
			n++
		}
	}
	return n
}

// again is when the attempts allow for another one; zero: never.
func (p *policy) again(times []*timestamppb.Timestamp, now time.Time) time.Time {
	var counted []time.Time
	for _, t := range times {
		if at := t.AsTime(); now.Sub(at) < p.interval {
			counted = append(counted, at)
		}
	}
	if p.attempts == 0 || len(counted) < p.attempts {
		return time.Time{}
	}
	slices.SortFunc(counted, time.Time.Compare)
	return counted[len(counted)-p.attempts].Add(p.interval)
}

// wait is how long the n-th replacement (from 0) waits.
func (p *policy) wait(n int) time.Duration {
	d, next := p.delay, p.delay
	for range n {
		if d >= p.maxDelay {
			break
		}
		switch p.backoff {
		case "constant":
		case "fibonacci":
			d, next = next, d+next
		default:
			d *= 2
		}
	}
	return max(0, min(d, p.maxDelay))
}
