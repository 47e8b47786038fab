package cron

import (
	"cmp"
	"slices"
	"time"

	"github.com/robfig/cron/v3"
)

// every is a time each so many seconds since the beginning of 1970, UTC.
type every int64

func (e every) next(t time.Time, _ *time.Location) time.Time {
	n := t.Unix() / int64(e)
	if t.Unix() < 0 && t.Unix()%int64(e) != 0 {
		n-- // round down
	}
	return time.Unix((n+1)*int64(e), 0)
}

// byClock goes by what the clock shows, whenever it shows it.
type byClock struct{ spec *cron.SpecSchedule }

func (c byClock) next(t time.Time, zone *time.Location) time.Time {
	shown := face(t, zone)
	for {
		found := c.spec.Next(shown)
		if found.IsZero() {
			return time.Time{}
		}
		_, change := t.In(zone).ZoneBounds()
		at := found.Add(-offset(t, zone)) // unless the clock is changed before
		if change.IsZero() || at.Before(change) {
			return at
		}
		t = change
		shown = face(t, zone).Add(-time.Nanosecond) // the moment of the change counts
	}
}

// byDay goes by the calendar: each of its times comes once, whatever the clocks do.
type byDay struct{ spec *cron.SpecSchedule }

func (d byDay) next(t time.Time, zone *time.Location) time.Time {
	// What is skipped lies behind what a clock shows before the change, so nothing that is
	// still to come is at or before what it shows now.
	for shown := face(t, zone); ; {
		shown = d.spec.Next(shown)
		if shown.IsZero() {
			return time.Time{}
		}
		if at := moment(shown, zone); at.After(t) {
			return at // otherwise it came before the clock was set back
		}
	}
}

// face is what a clock in a zone shows, as if it were UTC.
func face(t time.Time, zone *time.Location) time.Time {
	return t.UTC().Add(offset(t, zone))
}

// offset is by how much a clock in a zone is ahead of UTC.
func offset(t time.Time, zone *time.Location) time.Duration {
	_, seconds := t.In(zone).Zone()
	return time.Duration(seconds) * time.Second
}

// moment is when a clock in a zone first shows something, or, where that is skipped, when
// it is.
func moment(shown time.Time, zone *time.Location) time.Time {
	// What Date gives is right, or next to the change that makes it wrong or ambiguous.
	near := time.Date(shown.Year(), shown.Month(), shown.Day(), shown.Hour(), shown.Minute(), shown.Second(), shown.Nanosecond(), zone)
	begin, end := near.ZoneBounds()
	offsets := []time.Duration{offset(near, zone)}
	for _, change := range []time.Time{begin, end} {
		if change.IsZero() {
			continue // the zone has no change on that side
		}
		before, after := offset(change.Add(-1), zone), offset(change, zone)
		offsets = append(offsets, before, after)
		if skipped := shown.Add(-before); !skipped.Before(change) && shown.Add(-after).Before(change) {
			return change
		}
	}
	slices.SortFunc(offsets, func(a, b time.Duration) int { return cmp.Compare(b, a) })
	for _, o := range offsets { // the farthest ahead shows it first
		if at := shown.Add(-o); face(at, zone).Equal(shown) {
			return at
		}
	}
	return near
}
