package command

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/types/known/timestamppb"
	"pgregory.net/rapid"
)

func noPaint(_ style, text string) string { return text }

func draw(t *table, width int) string {
	var b strings.Builder
	_ = t.render(&b, width, noPaint)
	return b.String()
}

func TestTable(t *testing.T) {
	tab := newTable(column{title: "ID"}, column{title: "NAME", shrink: 5}, column{title: "N", right: true, drop: 1}, column{title: "EMPTY", drop: 3}, column{title: "NOTE", drop: 2, shrink: 4})
	tab.add("aaaa", "a-long-name", 1, "", "some words\nmore")
	tab.add("bb", "b", 200, "", "")
	for _, c := range []struct {
		width int
		want  string
	}{
		{0, `
ID    NAME           N  NOTE
aaaa  a-long-name    1  some words more
bb    b            200
`}, {30, `
ID    NAME        N  NOTE
aaaa  a-long-…    1  some wor…
bb    b         200
`}, {20, `
ID    NAME         N
aaaa  a-long-n…    1
bb    b          200
`}, {12, `
ID    NAME
aaaa  a-lon…
bb    b
`}, {3, `
ID    NAME
aaaa  a-lo…
bb    b
`},
	} {
		if got := "\n" + draw(tab, c.width); got != c.want {
			t.Errorf("width %d:%swant:%s", c.width, got, c.want)
		}
	}
}

// TestTableFits: a table with room for its undroppable columns never exceeds the width,
// and no row is lost.
func TestTableFits(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 6).Draw(t, "columns")
		tab := newTable()
		for i := range n {
			c := column{title: rapid.StringMatching(`[A-Z]{1,6}`).Draw(t, "title"), drop: rapid.IntRange(0, 4).Draw(t, "drop"), shrink: rapid.IntRange(0, 5).Draw(t, "shrink"), right: rapid.Bool().Draw(t, "right")}
			if i == 0 {
				c.drop, c.shrink = 0, 1
			} else {
				c.drop++
			}
			tab.columns = append(tab.columns, c)
		}
		rows := rapid.IntRange(0, 5).Draw(t, "rows")
		for range rows {
			values := make([]any, n)
			for i := range values {
				values[i] = rapid.String().Draw(t, "cell")
			}
			tab.add(values...)
		}
		width := rapid.IntRange(6, 60).Draw(t, "width")
		lines := strings.Split(strings.TrimSuffix(draw(tab, width), "\n"), "\n")
		if len(lines) != rows+1 {
			t.Fatalf("%d lines for %d rows", len(lines), rows)
		}
		for _, l := range lines {
			if utf8.RuneCountInString(l) > width {
				t.Fatalf("%q is longer than %d", l, width)
			}
		}
	})
}

func TestWords(t *testing.T) {
	now := time.Unix(1e9, 0)
	for d, want := range map[time.Duration]string{
		0: "just now", 5 * time.Second: "5s ago", 3*time.Minute + 59*time.Second: "3m ago", 47 * time.Hour: "47h ago", 72 * time.Hour: "3d ago", -90 * time.Second: "in 1m",
	} {
		if got := ago(timestamppb.New(now.Add(-d)), now); got != want {
			t.Errorf("%v: %q, want %q", d, got, want)
		}
	}
	if got := ago(nil, now); got != "-" {
		t.Error(got)
	}
	for n, want := range map[uint64]string{0: "0 B", 1023: "1023 B", 1 << 20: "1 MiB", 1536 << 20: "1.5 GiB", 1 << 50: "1 PiB"} {
		if got := bytesIn(n); got != want {
			t.Errorf("%d: %q, want %q", n, got, want)
		}
	}
	for want, got := range map[string]string{"1 node": count(1, "node"), "0 nodes": count(0, "node"), "2 entries": count(2, "entry"), "3 keys": count(3, "key")} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	if got := wrap("one two three four", 9, "  "); got != "one two\n  three\n  four" {
		t.Errorf("%q", got)
	}
}
