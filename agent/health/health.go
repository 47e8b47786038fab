// Package health asks the tasks of this node how they are: it runs checks (http, tcp,
// grpc, script) and says when their status changes. What follows from that, it leaves to
// its caller, the runner.
//
// How a status comes of outcomes is a pure function (State.After); how one outcome is got
// is a Prober; when, is a Check, which has no goroutine of its own but a timer. A Pool
// bounds how many run at the same time on a node and is what waits for them.
package health

import (
	"context"
	"strings"
	"time"
	"unicode/utf8"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// maxOutput bounds Outcome.Output, in bytes.
const maxOutput = 1 << 10

// Outcome is what came of one run of a check.
type Outcome struct {
	OK bool
	// Output is for people, at most 1 KiB.
	Output string
}

// Prober runs a check once. ctx bounds it in time.
type Prober interface {
	Probe(ctx context.Context) Outcome
}

// Rules say when a check is run, and what becomes of its outcomes.
type Rules struct {
	Interval, Timeout time.Duration
	// StartPeriod is how long failures do not count at first.
	StartPeriod time.Duration
	// Successes and Failures in a row change the status.
	Successes, Failures int
}

// RulesOf reads the rules of a check, with every default filled in.
func RulesOf(c *berthv1.Check) Rules {
	or := func(d, missing time.Duration) time.Duration {
		if d <= 0 {
			return missing
		}
		return d
	}
	count := func(n uint32, missing int) int {
		if n == 0 {
			return missing
		}
		return int(n)
	}
	return Rules{
		Interval:    or(c.GetInterval().AsDuration(), 10*time.Second),
		Timeout:     or(c.GetTimeout().AsDuration(), 3*time.Second),
		StartPeriod: max(0, c.GetStartPeriod().AsDuration()),
		Successes:   count(c.GetSuccessThreshold(), 1),
		Failures:    count(c.GetFailureThreshold(), 3),
	}
}

// Type is how a check asks: what it says, else what its name says.
func Type(c *berthv1.Check) string {
	if c.GetType() != "" {
		return c.GetType()
	}
	return c.GetName()
}

// State is how a check stands.
type State struct {
	Status berthv1.CheckState_Status
	// Output of the last run.
	Output string
	// Since is when the status became so; zero while it is pending.
	Since time.Time
	// row is how many outcomes in a row were against the status: successes while it does
	// not pass, failures while it does. While it is pending, failures have their own.
	row, failures int
}

// After is the state after one more outcome: pure. A failure that does not count (it came
// too early) changes nothing but the output, and ends a row of successes.
func (s State) After(o Outcome, r Rules, counts bool, now time.Time) State {
	s.Output = o.Output
	turn := func(status berthv1.CheckState_Status) {
		s.Status, s.Since, s.row, s.failures = status, now, 0, 0
	}
	switch s.Status {
	case berthv1.CheckState_passing:
		if o.OK {
			s.row = 0
		} else if s.row++; s.row >= r.Failures {
			turn(berthv1.CheckState_failing)
		}
	case berthv1.CheckState_failing:
		if !o.OK {
			s.row = 0
		} else if s.row++; s.row >= r.Successes {
			turn(berthv1.CheckState_passing)
		}
	default:
		switch {
		case o.OK:
			s.failures = 0
			if s.row++; s.row >= r.Successes {
				turn(berthv1.CheckState_passing)
			}
		case !counts:
			s.row = 0
		default:
			s.row = 0
			if s.failures++; s.failures >= r.Failures {
				turn(berthv1.CheckState_failing)
			}
		}
	}
	return s
}

// clip makes words fit for Output: valid, at most maxOutput bytes, without space around.
func clip(words string) string {
	words = strings.ToValidUTF8(strings.ReplaceAll(words, "\x00", ""), "\uFFFD")
	words = strings.TrimSpace(words)
	if len(words) <= maxOutput {
		return words
	}
	cut := maxOutput
	for !utf8.RuneStart(words[cut]) {
		cut--
	}
	return words[:cut]
}
