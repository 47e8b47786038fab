package vm

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/berthd/berth/problem"
)

// step is the trace's step of time, in seconds.
const step = 300

// ReadFlavors reads what flavours are: lines of "vCPU,GB letter".
func ReadFlavors(r io.Reader) (map[string]Room, error) {
	flavors := map[string]Room{}
	err := lines(r, func(line int, first, rest string) error {
		cpu, gb, two := strings.Cut(first, ",")
		n, err := strconv.ParseInt(cpu, 10, 64)
		memory, err2 := strconv.ParseFloat(gb, 64)
		if !two || err != nil || err2 != nil || rest == "" || n < 1 || n > maxCPU || !(memory > 0 && memory <= maxGB) {
			return wrongLine(line, `%q is not a flavour such as "2,3.5 g"`, clipped(first+" "+rest))
		}
		flavors[rest] = Room{n, int64(memory * 1024)}
		return nil
	})
	return flavors, err
}

// ReadIntervals reads the bins of lifetimes, lines of "seconds bin", and gives the
// lifetime of each: the middle of its bin.
func ReadIntervals(r io.Reader) (map[int]int64, error) {
	type span struct{ from, to int64 }
	bins := map[int]span{}
	err := lines(r, func(line int, first, rest string) error {
		seconds, err := strconv.ParseInt(first, 10, 40)
		bin, err2 := strconv.Atoi(rest)
		if err != nil || err2 != nil || seconds < 0 || bin < 0 {
			return wrongLine(line, `%q is not seconds and a bin, such as "600 2"`, clipped(first+" "+rest))
		}
		b, known := bins[bin]
		if !known {
			b = span{seconds, seconds}
		}
		bins[bin] = span{min(b.from, seconds), max(b.to, seconds)}
		return nil
	})
	out := map[int]int64{}
	for bin, b := range bins {
		out[bin] = (b.from + b.to + step) / 2
	}
	return out, err
}

// ReadArrivals reads machines that come and go: lines of "seconds g,|,g,g,|", where a
// letter is a flavour and | ends what one tenant starts, and beside them their lifetimes,
// "seconds U15,|,U14,C46,|": the number is a bin; one that begins with C has not ended
// with the trace, and stays.
func ReadArrivals(arrivals, durations io.Reader, flavors map[string]Room, lifetimes map[int]int64) ([]Machine, error) {
	var machines []Machine
	next := newLines(durations)
	err := lines(arrivals, func(line int, first, rest string) error {
		at, err := strconv.ParseInt(first, 10, 40)
		if err != nil || at < 0 {
			return wrongLine(line, "%q is not a time in seconds", clipped(first))
		}
		beside, ok := next()
		bins := strings.Split(beside.rest, ",")
		tokens := strings.Split(rest, ",")
		if !ok || beside.first != first || len(bins) != len(tokens) {
			return wrongLine(line, "the lifetimes do not match: there are %d entries for %s s, beside %d for %s s", len(bins), clipped(beside.first), len(tokens), first)
		}
		for k, token := range tokens {
			if token == "|" || token == "" {
				if bins[k] != token {
					return wrongLine(line, "entry %d of the lifetimes is %q beside %q", k+1, clipped(bins[k]), token)
				}
				continue
			}
			room, known := flavors[token]
			if !known {
				return wrongLine(line, "there is no flavour %q", clipped(token))
			}
			m := Machine{Room: room, Cells: 1, From: at}
			if m.Until, err = until(at, bins[k], lifetimes); err != nil {
				return wrongLine(line, "%w", err)
			}
			machines = append(machines, m)
		}
		return nil
	})
	if err == nil {
		if rest, more := next(); more {
			return nil, problem.New(problem.Invalid, "durations", "there are lifetimes for %s s, and no arrivals", clipped(rest.first))
		}
	}
	if err == nil && len(machines) == 0 {
		return nil, problem.New(problem.Invalid, "line 1", "there are no machines")
	}
	slices.SortStableFunc(machines, func(a, b Machine) int { return int(a.From - b.From) })
	return machines, err
}

func until(at int64, token string, lifetimes map[int]int64) (int64, error) {
	if len(token) < 2 || token[0] != 'U' && token[0] != 'C' {
		return 0, fmt.Errorf(`%q is not a lifetime such as "U15" or "C46"`, clipped(token))
	}
	bin, err := strconv.Atoi(token[1:])
	if err != nil {
		return 0, fmt.Errorf("%q has no number of a bin", clipped(token))
	}
	if token[0] == 'C' {
		return 0, nil
	}
	life, known := lifetimes[bin]
	if !known {
		return 0, fmt.Errorf("there is no bin %d", bin)
	}
	return at + life, nil
}

// textLine is a line in two parts.
type textLine struct{ first, rest string }

// maxLine bounds a line of a trace.
const maxLine = 16 << 20

// newLines gives the lines that are not empty, split at the first blank.
func newLines(r io.Reader) func() (textLine, bool) {
	in := bufio.NewScanner(r)
	in.Buffer(nil, maxLine)
	return func() (textLine, bool) {
		for in.Scan() {
			if text := strings.TrimSpace(in.Text()); text != "" {
				first, rest, _ := strings.Cut(text, " ")
				return textLine{first, strings.TrimSpace(rest)}, true
			}
		}
		return textLine{}, false
	}
}

func lines(r io.Reader, fn func(line int, first, rest string) error) error {
	in := bufio.NewScanner(r)
	in.Buffer(nil, maxLine)
	n := 0
	for in.Scan() {
		n++
		text := strings.TrimSpace(in.Text())
		if text == "" {
			continue
		}
		first, rest, _ := strings.Cut(text, " ")
		if err := fn(n, first, strings.TrimSpace(rest)); err != nil {
			return err
		}
	}
	if errors.Is(in.Err(), bufio.ErrTooLong) {
		return wrongLine(n+1, "the line is longer than %d bytes", maxLine)
	}
	if in.Err() == nil && n == 0 {
		return problem.New(problem.Invalid, "line 1", "the file is empty")
	}
	return in.Err()
}

func wrongLine(line int, format string, args ...any) error {
	return problem.New(problem.Invalid, "line "+strconv.Itoa(line), format, args...)
}

// clipped keeps a message readable when a file is something else altogether.
func clipped(s string) string { return s[:min(len(s), 40)] }
