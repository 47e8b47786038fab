package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"regexp"
	"strings"
)

// counts is what came of one or more runs of go test. Subtests count as tests.
type counts struct {
	Passed         int
	Failed         int
	FailedPackages int
	Skipped        []skip
	Failures       []failure
}

// failure is a test that failed, and the lines by which it said why: those that name a
// place in a test, and panics. Whoever reads only the end of a long log finds them there.
type failure struct {
	Package, Test string
	Words         []string
}

func (f failure) lines() string {
	return fmt.Sprintf("failed: %s %s\n%s", f.Package, f.Test, strings.Join(f.Words, ""))
}

// skip is a test that did not run, and why.
type skip struct{ Package, Test, Reason string }

func (s skip) line() string {
	reason := s.Reason
	if reason == "" {
		reason = "NO REASON GIVEN: say why it cannot run"
	}
	return fmt.Sprintf("skipped: %s %s: %s", s.Package, s.Test, reason)
}

func (c *counts) add(o counts) {
	c.Passed += o.Passed
	c.Failed += o.Failed
	c.FailedPackages += o.FailedPackages
	c.Skipped = append(c.Skipped, o.Skipped...)
	c.Failures = append(c.Failures, o.Failures...)
}

func (c *counts) ok() bool {
	for _, s := range c.Skipped {
		if s.Reason == "" {
			return false
		}
	}
	return c.Failed == 0 && c.FailedPackages == 0
}

func (c *counts) line() string {
	line := fmt.Sprintf("%d passed, %d failed, %d skipped", c.Passed, c.Failed, len(c.Skipped))
	if c.FailedPackages > 0 {
		line += fmt.Sprintf("; %d packages failed", c.FailedPackages)
	}
	return line
}

// event is a line of go test -json (see go doc test2json).
type event struct {
	Action, Package, ImportPath, Test, Output string
	Elapsed                                   float64
}

// reader turns the events of one run into counts and lines for people.
type reader struct {
	counts counts
	out    io.Writer
	// output holds what each test has printed, by package and test, until it ends.
	output map[[2]string][]string
}

func newReader(out io.Writer) *reader {
	return &reader{out: out, output: map[[2]string][]string{}}
}

func (r *reader) read(in io.Reader) error {
	lines := bufio.NewReader(in)
	for {
		line, err := lines.ReadBytes('\n')
		if len(line) > 0 {
			var e event
			if json.Unmarshal(line, &e) == nil {
				r.take(e)
			} else {
				fmt.Fprintf(r.out, "%s", line)
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (r *reader) take(e event) {
	key := [2]string{e.Package, e.Test}
	switch e.Action {
	case "output":
		r.output[key] = append(r.output[key], e.Output)
		return
	case "build-output":
		fmt.Fprint(r.out, e.Output)
		return
	case "pass", "fail", "skip":
	default:
		return
	}
	switch {
	case e.Test == "":
		r.endPackage(e)
	case e.Action == "pass":
		r.counts.Passed++
	case e.Action == "fail":
		r.fail(key)
	default:
		r.counts.Skipped = append(r.counts.Skipped, skip{e.Package, e.Test, reasonOf(r.output[key])})
	}
	delete(r.output, key)
}

func (r *reader) endPackage(e event) {
	key := [2]string{e.Package, ""}
	switch e.Action {
	case "pass":
		fmt.Fprintf(r.out, "ok    %7.1fs  %s\n", e.Elapsed, e.Package)
	case "fail":
		r.counts.FailedPackages++
		// What is left of the package's tests never ended: a panic, a time-out.
		for k := range r.output {
			if k[0] == e.Package && k[1] != "" {
				r.print(k)
				r.note(k)
				delete(r.output, k)
			}
		}
		r.print(key)
		fmt.Fprintf(r.out, "FAIL  %7.1fs  %s\n", e.Elapsed, e.Package)
	}
}

func (r *reader) fail(key [2]string) {
	r.counts.Failed++
	r.print(key)
	r.note(key)
}

// note keeps a failed test's own words for the end. One that failed only because a subtest
// did has none.
func (r *reader) note(key [2]string) {
	const most = 40 // lines of one test
	var words []string
	for _, line := range r.output[key] {
		if (position.MatchString(line) || telling.MatchString(line)) && len(words) < most {
			words = append(words, line)
		}
	}
	if len(words) > 0 {
		r.counts.Failures = append(r.counts.Failures, failure{key[0], key[1], words})
	}
}

func (r *reader) print(key [2]string) {
	for _, line := range r.output[key] {
		fmt.Fprint(r.out, line)
	}
}

var (
	position = regexp.MustCompile(`^\s*[\w.-]+\.go:\d+: `)
	telling  = regexp.MustCompile(`^(panic|fatal error): |^WARNING: DATA RACE`)
)

// reasonOf finds in a skipped test's output what it gave to Skip: its last log line.
func reasonOf(output []string) string {
	var reason string
	for _, line := range output {
		if at := position.FindString(line); at != "" {
			reason = strings.TrimSpace(line[len(at):])
		}
	}
	return reason
}
