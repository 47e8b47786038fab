package health

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/types/known/durationpb"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// TestState plays outcomes: + success, - failure, , failure that does not count. What is
// wanted is the status after each: . pending, P passing, F failing.
func TestState(t *testing.T) {
	for _, tc := range []struct {
		name                string
		successes, failures int
		outcomes, want      string
	}{
		{"passes at once", 1, 3, "+", "P"},
		{"fails after three", 1, 3, "---", "..F"},
		{"a success between", 1, 3, "--+--", "..PPP"},
		{"failures in a row only", 1, 3, "+--+--+---", "PPPPPPPPPF"},
		{"comes back", 1, 2, "+--+", "PPFP"},
		{"comes back after two", 2, 2, "--+-++", ".FFFFP"},
		{"passes after two in a row", 2, 3, "+-++", "...P"},
		{"early failures do not count", 1, 2, ",,,,,--", "......F"},
		{"an early failure ends a row of successes", 2, 2, "+,++", "...P"},
		{"an early failure does not take back one that counts", 1, 2, "-,-", "..F"},
		{"early success, then it counts", 1, 1, ",+-", ".PF"},
		{"one of each", 1, 1, "+-+-", "PFPF"},
	} {
		s, got := State{}, ""
		r := Rules{Successes: tc.successes, Failures: tc.failures}
		for i, o := range tc.outcomes {
			before := s
			now := time.Unix(int64(i), 0)
			s = s.After(Outcome{OK: o == '+', Output: string(o)}, r, o != ',', now)
			got += map[berthv1.CheckState_Status]string{0: ".", 1: "P", 2: "F"}[s.Status]
			if changed := s.Status != before.Status; changed != s.Since.Equal(now) {
				t.Errorf("%s: %d: since %v", tc.name, i, s.Since)
			}
			if s.Output != string(o) {
				t.Errorf("%s: output %q", tc.name, s.Output)
			}
		}
		if got != tc.want {
			t.Errorf("%s: %s gives %s, want %s", tc.name, tc.outcomes, got, tc.want)
		}
	}
}

func TestRulesOf(t *testing.T) {
	if got, want := RulesOf(&berthv1.Check{}), (Rules{Interval: 10 * time.Second, Timeout: 3 * time.Second, Successes: 1, Failures: 3}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	c := &berthv1.Check{Interval: durationpb.New(time.Second), Timeout: durationpb.New(2), StartPeriod: durationpb.New(3), SuccessThreshold: 4, FailureThreshold: 5}
	if got, want := RulesOf(c), (Rules{time.Second, 2, 3, 4, 5}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}

func TestClip(t *testing.T) {
	for in, want := range map[string]string{
		" a\nb \n": "a\nb", "a\x00b": "ab", "\xff": "\uFFFD", strings.Repeat("x", 2000): strings.Repeat("x", 1024),
	} {
		if got := clip(in); got != want {
			t.Errorf("%q: %q", in, got)
		}
	}
	if got := clip(strings.Repeat("é€", 1000)); len(got) > 1024 || !utf8.ValidString(got) {
		t.Errorf("%d bytes", len(got))
	}
}
