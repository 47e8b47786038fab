package cron

import (
	"strings"
	"testing"
	"time"
)

// at reads a time as clocks in a zone show it, with its offset.
func at(t *testing.T, s string) time.Time {
	t.Helper()
	v, err := time.Parse("2006-01-02 15:04:05 -07", s)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// The clocks of Berlin and New York are changed, and each kind of expression does what is
// promised for it.
func TestClocksAreChanged(t *testing.T) {
	for _, test := range []struct {
		name, zone, cron, after string
		want                    []string
	}{
		{"a fixed hour is skipped: at the change", "Europe/Berlin", "30 2 * * *", "2026-03-28 12:00:00 +01",
			[]string{"2026-03-29 03:00:00 +02", "2026-03-30 02:30:00 +02"}},
		{"several fixed times are skipped: once", "Europe/Berlin", "0,15,30 2 * * *", "2026-03-28 12:00:00 +01",
			[]string{"2026-03-29 03:00:00 +02", "2026-03-30 02:00:00 +02"}},
		{"a skipped one falls on one that is there: once", "Europe/Berlin", "0 2,3 * * *", "2026-03-28 12:00:00 +01",
			[]string{"2026-03-29 03:00:00 +02", "2026-03-30 02:00:00 +02"}},
		{"a fixed hour comes twice: the first", "Europe/Berlin", "30 2 * * *", "2026-10-24 12:00:00 +02",
			[]string{"2026-10-25 02:30:00 +02", "2026-10-26 02:30:00 +01"}},
		{"from between the two", "Europe/Berlin", "30 2 * * *", "2026-10-25 02:10:00 +01",
			[]string{"2026-10-26 02:30:00 +01"}},
		{"by the clock, an hour is skipped", "Europe/Berlin", "*/30 * * * *", "2026-03-29 01:20:00 +01",
			[]string{"2026-03-29 01:30:00 +01", "2026-03-29 03:00:00 +02", "2026-03-29 03:30:00 +02"}},
		{"by the clock, an hour comes twice", "Europe/Berlin", "30 * * * *", "2026-10-25 01:00:00 +02",
			[]string{"2026-10-25 01:30:00 +02", "2026-10-25 02:30:00 +02", "2026-10-25 02:30:00 +01", "2026-10-25 03:30:00 +01"}},
		{"every second hour by the clock", "Europe/Berlin", "0 */2 * * *", "2026-10-25 00:30:00 +02",
			[]string{"2026-10-25 02:00:00 +02", "2026-10-25 02:00:00 +01", "2026-10-25 04:00:00 +01"}},
		{"@hourly comes once more", "Europe/Berlin", "@hourly", "2026-10-25 01:30:00 +02",
			[]string{"2026-10-25 02:00:00 +02", "2026-10-25 02:00:00 +01", "2026-10-25 03:00:00 +01"}},
		{"@daily", "Europe/Berlin", "@daily", "2026-10-24 12:00:00 +02",
			[]string{"2026-10-25 00:00:00 +02", "2026-10-26 00:00:00 +01"}},
		{"New York, skipped", "America/New_York", "0 30 2 * * *", "2026-03-07 12:00:00 -05",
			[]string{"2026-03-08 03:00:00 -04", "2026-03-09 02:30:00 -04"}},
		{"New York, twice", "America/New_York", "30 1 * * *", "2026-10-31 12:00:00 -04",
			[]string{"2026-11-01 01:30:00 -04", "2026-11-02 01:30:00 -05"}},
		{"New York, twice by the clock", "America/New_York", "0 30 * * * *", "2026-11-01 00:45:00 -04",
			[]string{"2026-11-01 01:30:00 -04", "2026-11-01 01:30:00 -05", "2026-11-01 02:30:00 -05"}},
		{"a day without a midnight", "America/Santiago", "@daily", "2026-09-05 12:00:00 -04",
			[]string{"2026-09-06 01:00:00 -03", "2026-09-07 00:00:00 -03"}},
		{"a day that is skipped whole", "Pacific/Apia", "0 6 * * *", "2011-12-29 12:00:00 -10",
			[]string{"2011-12-31 00:00:00 +14", "2011-12-31 06:00:00 +14"}},
		{"@every knows no clock", "Europe/Berlin", "@every 1h", "2026-10-25 00:30:00 +00",
			[]string{"2026-10-25 01:00:00 +00", "2026-10-25 02:00:00 +00"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			s, err := Parse([]string{test.cron}, test.zone)
			if err != nil {
				t.Fatal(err)
			}
			now := at(t, test.after)
			for _, want := range test.want {
				now = s.Next(now)
				if w := at(t, want); !now.Equal(w) {
					t.Fatalf("%s, want %s", now.In(s.zone), w.In(s.zone))
				}
			}
		})
	}
}

// Minute by minute, the times of expressions are those at which a clock shows them, and
// each day of the calendar has each fixed time once.
func TestEveryMinuteOfAYear(t *testing.T) {
	for _, zone := range []string{"UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu"} {
		location, err := time.LoadLocation(zone)
		if err != nil {
			t.Fatal(err)
		}
		begin, end := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)
		clock, err := Parse([]string{"13,45 * * * *"}, zone)
		if err != nil {
			t.Fatal(err)
		}
		next := clock.Next(begin.Add(-1))
		for m := begin; m.Before(end); m = m.Add(time.Minute) {
			shown := m.In(location)
			if due := shown.Minute() == 13 || shown.Minute() == 45; due != m.Equal(next) {
				t.Fatalf("%s: the clock shows %s, and next is %s", zone, shown, next)
			} else if due {
				next = clock.Next(m)
			}
		}
		day, err := Parse([]string{"30 1,2 * * *"}, zone)
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for m := day.Next(begin); m.Before(end); m = day.Next(m) {
			n++
		}
		if n < 2*365-1 || n > 2*365+1 {
			t.Errorf("%s: %d runs in a year", zone, n)
		}
	}
}

func TestSeveralExpressions(t *testing.T) {
	s, err := Parse([]string{"0 12 * * MON-FRI", "0 12 1 jan *", "*/20 30 12 * * *"}, "")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for now, i := time.Date(2026, 1, 1, 11, 0, 0, 0, time.UTC), 0; i < 5; i++ {
		now = s.Next(now)
		got = append(got, now.Format("02 15:04:05"))
	}
	if want := "01 12:00:00, 01 12:30:00, 01 12:30:20, 01 12:30:40, 02 12:00:00"; strings.Join(got, ", ") != want {
		t.Errorf("%v, want %s", got, want)
	}
}

func TestNewest(t *testing.T) {
	until := time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)
	for _, test := range []struct {
		cron  string
		since time.Duration
		most  int
		want  []string
	}{
		{"@every 1s", 1000 * time.Hour, 3, []string{"11:59:58", "11:59:59", "12:00:00"}},
		{"@every 1s", 2 * time.Second, 3, []string{"11:59:59", "12:00:00"}},
		{"@every 1s", 0, 3, nil},
		{"0 3 * * *", 40 * time.Hour, 10, []string{"03:00:00", "03:00:00"}},
		{"0 3 1 5 *", 1000000 * time.Hour, 1, []string{"03:00:00"}},
		{"0 3 1 5 *", time.Hour, 1, nil},
	} {
		s, err := Parse([]string{test.cron}, "UTC")
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, at := range s.Newest(until.Add(-test.since), until, test.most) {
			got = append(got, at.Format("15:04:05"))
		}
		if strings.Join(got, " ") != strings.Join(test.want, " ") {
			t.Errorf("%s since %s: %v, want %v", test.cron, test.since, got, test.want)
		}
	}
}

func TestWhatIsRefused(t *testing.T) {
	for _, e := range []string{
		"", " ", "* * * *", "* * * * * * *", "60 * * * *", "* * 0 * *", "* * * * 7", "0 0 30 2 *", ", * * * *", "@often", "@every", "@every 1", "@every 500ms",
		"@every 1500ms", "@every -1s", "TZ=UTC", "TZ=UTC * * * * *", "CRON_TZ=Europe/Berlin 0 3 * * *", "*/0 * * * *", "5-1 * * * *", strings.Repeat("1,", 200) + "1 * * * *",
	} {
		if err := Check(e); err == nil {
			t.Errorf("%q was taken", e)
		}
	}
	for _, zone := range []string{"Local", "Berlin", "../etc/passwd"} {
		if _, err := Parse([]string{"@daily"}, zone); err == nil {
			t.Errorf("the zone %q was taken", zone)
		}
	}
	if _, err := Parse(nil, ""); err == nil {
		t.Error("no expression was taken")
	}
}

func FuzzParse(f *testing.F) {
	for _, e := range []string{"* * * * *", "0 30 2 * * *", "@every 90s", "*/7 1-5 * JAN mon", "@weekly"} {
		f.Add(e, int64(1_790_000_000))
	}
	f.Fuzz(func(t *testing.T, e string, from int64) {
		s, err := Parse([]string{e}, "Europe/Berlin")
		if err != nil {
			return
		}
		now := time.Unix(from%4_000_000_000, 0)
		for range 3 {
			next := s.Next(now)
			if next.IsZero() {
				return
			}
			if !next.After(now) {
				t.Fatalf("%q: %s is not after %s", e, next, now)
			}
			now = next
		}
	})
}
