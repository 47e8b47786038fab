package main

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestReader(t *testing.T) {
	events := []event{
		{Action: "start", Package: "p"},
		{Action: "run", Package: "p", Test: "TestGood"},
		{Action: "output", Package: "p", Test: "TestGood", Output: "chatter\n"},
		{Action: "pass", Package: "p", Test: "TestGood"},
		{Action: "output", Package: "p", Test: "TestBad", Output: "    x_test.go:3: want 1\n"},
		{Action: "fail", Package: "p", Test: "TestBad"},
		{Action: "output", Package: "p", Test: "TestKVM", Output: "=== RUN TestKVM\n"},
		{Action: "output", Package: "p", Test: "TestKVM", Output: "    x_test.go:9: no usable /dev/kvm here\n"},
		{Action: "skip", Package: "p", Test: "TestKVM"},
		{Action: "output", Package: "p", Test: "TestHangs", Output: "panic: test timed out\n"},
		{Action: "fail", Package: "p", Elapsed: 2},
		{Action: "pass", Package: "q", Elapsed: 1},
		{Action: "skip", Package: "empty"},
		{Action: "build-output", ImportPath: "broken", Output: "broken.go:1: syntax error\n"},
		{Action: "fail", Package: "broken"},
	}
	var in strings.Builder
	for _, e := range events {
		line, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		in.Write(append(line, '\n'))
	}
	in.WriteString("not JSON, no newline")

	var out strings.Builder
	r := newReader(&out)
	if err := r.read(strings.NewReader(in.String())); err != nil {
		t.Fatal(err)
	}
	if got, want := r.counts.line(), "1 passed, 1 failed, 1 skipped; 2 packages failed"; got != want {
		t.Errorf("counts: %s, want %s", got, want)
	}
	if got, want := r.counts.Skipped[0].line(), "skipped: p TestKVM: no usable /dev/kvm here"; got != want {
		t.Errorf("skip: %s, want %s", got, want)
	}
	if got, want := r.counts.Failures[0].lines(), "failed: p TestBad\n    x_test.go:3: want 1\n"; got != want {
		t.Errorf("failure: %q, want %q", got, want)
	}
	if got, want := r.counts.Failures[1].lines(), "failed: p TestHangs\npanic: test timed out\n"; got != want {
		t.Errorf("failure: %q, want %q", got, want)
	}
	want := "    x_test.go:3: want 1\n" +
		"panic: test timed out\n" +
		"FAIL      2.0s  p\n" +
		"ok        1.0s  q\n" +
		"broken.go:1: syntax error\n" +
		"FAIL      0.0s  broken\n" +
		"not JSON, no newline"
	if out.String() != want {
		t.Errorf("printed:\n%s\nwant:\n%s", out.String(), want)
	}
}

func TestOK(t *testing.T) {
	for name, tc := range map[string]struct {
		counts counts
		ok     bool
	}{
		"all passed":          {counts{Passed: 3}, true},
		"a failed test":       {counts{Failed: 1}, false},
		"a failed package":    {counts{FailedPackages: 1}, false},
		"a skip with reason":  {counts{Skipped: []skip{{Reason: "no KVM"}}}, true},
		"a skip without one":  {counts{Skipped: []skip{{Test: "T"}}}, false},
		"nothing was counted": {counts{}, true},
	} {
		if got := tc.counts.ok(); got != tc.ok {
			t.Errorf("%s: ok is %v, want %v", name, got, tc.ok)
		}
	}
}
