// Package cron knows when a job with a schedule is run: the times of cron expressions in a
// time zone, across the changes of its clocks. It is pure: it reads no clock.
//
// Fields are those of other crons: minute, hour, day of the month, month, day of the week,
// and before them, where there are six, the second. github.com/robfig/cron reads them and
// finds the next time on a clock that never changes; what this package adds is the way
// from there to a real clock:
//
//   - An expression with a fixed hour runs once a day, whatever the clocks do. A time that
//     is skipped (02:30 when 02:00 becomes 03:00) runs at the moment of the change; of a
//     time that comes twice, the first counts.
//   - An expression whose hour begins with "*" goes by what the clock shows: nothing runs
//     for the hour that is skipped, and everything twice in the hour that comes twice.
//   - "@every 90s" counts from the beginning of 1970, UTC, so that the times do not depend
//     on who asks, or since when.
package cron

import (
	"fmt"
	"slices"
	"strings"
	"time"
	_ "time/tzdata" // a host may have no time zones

	"github.com/robfig/cron/v3"
)

// Schedule is the times of several expressions in one time zone.
type Schedule struct {
	zone  *time.Location
	lines []line
}

// line gives the times of one expression.
type line interface {
	// next is the first time after t; zero: there is none.
	next(t time.Time, zone *time.Location) time.Time
}

// Parse reads expressions. An empty zone is UTC.
func Parse(expressions []string, zone string) (*Schedule, error) {
	if len(expressions) == 0 {
		return nil, fmt.Errorf("a schedule without a cron expression")
	}
	location, err := time.LoadLocation(zone)
	if err != nil || zone == "Local" {
		return nil, fmt.Errorf("the time zone %q is not known", zone)
	}
	s := &Schedule{zone: location}
	for _, e := range expressions {
		l, err := parse(e)
		if err != nil {
			return nil, fmt.Errorf("cron expression %q: %w", e, err)
		}
		s.lines = append(s.lines, l)
	}
	return s, nil
}

// Check says what is wrong with one expression.
func Check(expression string) error {
	_, err := parse(expression)
	return err
}

// maxExpression bounds an expression, in bytes.
const maxExpression = 256

var fields = cron.NewParser(cron.SecondOptional | cron.Minute | cron.Hour | cron.Dom | cron.Month | cron.Dow | cron.Descriptor)

// reference is where the search for a first time begins: every day of the calendar comes
// in the five years after it.
var reference = time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)

func parse(expression string) (line, error) {
	e := strings.TrimSpace(expression)
	switch {
	case e == "":
		return nil, fmt.Errorf("it is empty")
	case len(e) > maxExpression:
		return nil, fmt.Errorf("it is longer than %d bytes", maxExpression)
	case strings.HasPrefix(e, "TZ=") || strings.HasPrefix(e, "CRON_TZ="):
		return nil, fmt.Errorf("the time zone is a field of the schedule: time_zone")
	}
	if word, ok := strings.CutPrefix(e, "@every"); ok {
		return parseEvery(strings.TrimSpace(word))
	}
	parsed, err := fields.Parse(e)
	if err != nil {
		return nil, err
	}
	spec, ok := parsed.(*cron.SpecSchedule)
	if !ok {
		return nil, fmt.Errorf("it is not understood")
	}
	spec.Location = time.UTC
	if spec.Next(reference).IsZero() {
		return nil, fmt.Errorf("it never comes")
	}
	if everyHour(e) {
		return byClock{spec}, nil
	}
	return byDay{spec}, nil
}

// everyHour says that the field of hours, the fourth from the end, begins with a star.
func everyHour(e string) bool {
	words := strings.Fields(e)
	return e == "@hourly" || len(words) >= 5 && strings.ContainsAny(words[len(words)-4][:1], "*?")
}

func parseEvery(word string) (line, error) {
	d, err := time.ParseDuration(word)
	switch {
	case err != nil:
		return nil, fmt.Errorf(`write "@every" and a duration, such as "@every 90s"`)
	case d < time.Second || d%time.Second != 0:
		return nil, fmt.Errorf("it takes whole seconds, at least one")
	}
	return every(d / time.Second), nil
}

// Next is the first time after t, in UTC; zero: there is none.
func (s *Schedule) Next(t time.Time) time.Time {
	var first time.Time
	for _, l := range s.lines {
		if next := l.next(t, s.zone); !next.IsZero() && (first.IsZero() || next.Before(first)) {
			first = next
		}
	}
	return first.UTC()
}

// Newest gives the newest times after one moment, up to and with another, oldest first,
// at most so many. It looks back in steps that grow, so that it takes little time however
// long ago after is.
func (s *Schedule) Newest(after, until time.Time, most int) []time.Time {
	for window := time.Minute; ; window *= 4 {
		start := until.Add(-window)
		whole := !start.After(after) || window > 1<<57 // some four years
		if whole {
			start = after
		}
		var times []time.Time
		for t := s.Next(start); !t.IsZero() && !t.After(until); t = s.Next(t) {
			if times = append(times, t); len(times) > 2*most {
				times = slices.Delete(times, 0, most)
			}
		}
		if whole || len(times) >= most {
			return times[max(0, len(times)-most):]
		}
	}
}
