package command

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"

	"google.golang.org/protobuf/types/known/timestamppb"
)

// shortID is enough of an id to name it in most clusters; every command takes unique
// prefixes.
func shortID(id string) string {
	if len(id) > 8 {
		return id[:8]
	}
	return id
}

// ago is how long ago a time was, in one unit: "3m ago".
func ago(t *timestamppb.Timestamp, now time.Time) string {
	if t == nil || t.AsTime().Unix() <= 0 {
		return "-"
	}
	d := now.Sub(t.AsTime())
	switch {
	case d < -time.Second:
		return "in " + span(-d)
	case d < time.Second:
		return "just now"
	}
	return span(d) + " ago"
}

// span is a duration in its largest unit, rounded down.
func span(d time.Duration) string {
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", d/time.Second)
	case d < time.Hour:
		return fmt.Sprintf("%dm", d/time.Minute)
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", d/time.Hour)
	}
	return fmt.Sprintf("%dd", d/(24*time.Hour))
}

// seconds is a duration as progress shows it.
func seconds(d time.Duration) string { return fmt.Sprintf("%.1f s", d.Seconds()) }

// count is a number with its noun: "1 node", "3 nodes".
func count[N ~int | ~uint32 | ~uint64 | ~int64](n N, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	switch {
	case strings.HasSuffix(noun, "y") && !strings.HasSuffix(noun, "ey"):
		noun = noun[:len(noun)-1] + "ie"
	case strings.HasSuffix(noun, "s"), strings.HasSuffix(noun, "ch"):
		noun += "e"
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// mebibytes is an amount of memory or disk given in MiB.
func mebibytes(n uint64) string { return bytesIn(n << 20) }

// bytesIn is an amount in the largest binary unit that keeps it readable.
func bytesIn(n uint64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB", "PiB"}
	v, i := float64(n), 0
	for v >= 1024 && i < len(units)-1 {
		v, i = v/1024, i+1
	}
	if v == float64(uint64(v)) || v >= 100 {
		return fmt.Sprintf("%.0f %s", v, units[i])
	}
	return fmt.Sprintf("%.1f %s", v, units[i])
}

// milli is thousandths of a core as people say them.
func milli(n uint32) string {
	if n%1000 == 0 {
		return count(n/1000, "core")
	}
	return fmt.Sprintf("%dm CPU", n)
}

// oneLine makes text from elsewhere fit to print: no control characters.
func oneLine(text string) string {
	clean := func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}
	if strings.IndexFunc(text, unicode.IsControl) < 0 {
		return text
	}
	return strings.Map(clean, text)
}

// or is text, or another one where it is empty.
func or(text, other string) string {
	if text == "" {
		return other
	}
	return text
}

// sortedKeys are the keys of a map in order.
func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K {
	keys := make([]K, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// wrap breaks text into lines of at most width characters; longer words stay whole.
// The lines after the first are indented. width 0: one line.
func wrap(text string, width int, indent string) string {
	if width <= 0 {
		return text
	}
	var b strings.Builder
	at := 0
	for i, word := range strings.Fields(text) {
		n := len([]rune(word))
		switch {
		case i == 0:
		case at+1+n > width:
			b.WriteString("\n" + indent)
			at = len(indent)
		default:
			b.WriteByte(' ')
			at++
		}
		b.WriteString(word)
		at += n
	}
	return b.String()
}
