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
		r.counts.Failed++
		r.print(key)
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
				delete(r.output, k)
			}
		}
		r.print(key)
		fmt.Fprintf(r.out, "FAIL  %7.1fs  %s\n", e.Elapsed, e.Package)
	}
}

func (r *reader) print(key [2]string) {
	for _, line := range r.output[key] {
		fmt.Fprint(r.out, line)
	}
}

var position = regexp.MustCompile(`^\s*[\w.-]+\.go:\d+: `)

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
