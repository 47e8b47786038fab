package bench

import (
	"context"
	"os"
	"testing"

	"github.com/berthd/berth/problem"
)

func TestParseRollup(t *testing.T) {
	const text = "00400000-7ffd ---p 00000000 00:00 0   [rollup]\nRss:  28500 kB\nPss:  16836 kB\nPss_Dirty:  6012 kB\nPrivate_Clean:  488 kB\nPrivate_Dirty:  6012 kB\n"
	if got, want := parseRollup(text), (memory{rss: 28500 << 10, private: 6500 << 10, share: 16836 << 10}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}

// The figures are those of a process that has worked, by both ways to count.
func TestCPUTimes(t *testing.T) {
	for n := 0; cpuTimeOf([]int{os.Getpid()}) < 5*tick; n++ {
		_ = parseRollup("Rss: 1 kB")
	}
	if got, err := familyTime(os.Getpid()); err != nil || got < 2*tick {
		t.Errorf("%v, %v", got, err)
	}
	if _, err := familyTime(-1); err == nil {
		t.Error("a process that is not there has CPU time")
	}
}

func TestAgentRefusesNonsense(t *testing.T) {
	if _, err := (Agent{Tasks: 1, Sleeping: 0, Single: 1}).Run(context.Background()); !problem.Is(err, problem.Invalid) {
		t.Errorf("no sleeping tasks: %v", err)
	}
	if os.Geteuid() != 0 {
		if _, err := (Agent{Tasks: 1, Sleeping: 1, Single: 1}).Run(context.Background()); !problem.Is(err, problem.Denied) {
			t.Errorf("without root: %v", err)
		}
	}
}
