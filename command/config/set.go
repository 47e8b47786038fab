package config

import (
	"encoding/base64"
	"fmt"
	"math"
	"net"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/berthd/berth/topology"
)

var (
	durationType = reflect.TypeFor[time.Duration]()
	sizeType     = reflect.TypeFor[Size]()
)

// wrong is why a value was refused and, in hint, what would be right.
type wrong struct{ reason, hint string }

// setText sets an attribute from text, as variables and flags give it: lists separated
// by commas, maps as key=value pairs.
func (f *field) setText(text string) *wrong {
	v := f.value
	switch {
	case v.Type() == durationType, v.Type() == sizeType, v.Kind() == reflect.String:
		return f.setString(text)
	case v.Kind() == reflect.Int:
		n, err := strconv.ParseInt(strings.TrimSpace(text), 10, 64)
		if err != nil {
			return &wrong{fmt.Sprintf("%q is not a whole number", text), ""}
		}
		return f.setInt(n)
	case v.Kind() == reflect.Bool:
		b, err := strconv.ParseBool(strings.TrimSpace(text))
		if err != nil {
			return &wrong{fmt.Sprintf("%q is neither true nor false", text), ""}
		}
		v.SetBool(b)
		return nil
	case v.Kind() == reflect.Map:
		return f.setPairs(splitList(text))
	}
	return f.setList(splitList(text))
}

func splitList(text string) []string {
	var parts []string
	for part := range strings.SplitSeq(text, ",") {
		if part = strings.TrimSpace(part); part != "" {
			parts = append(parts, part)
		}
	}
	return parts
}

func (f *field) setPairs(pairs []string) *wrong {
	m := map[string]string{}
	for _, pair := range pairs {
		key, value, ok := strings.Cut(pair, "=")
		if !ok || key == "" {
			return &wrong{fmt.Sprintf("%q is not key=value", pair), ""}
		}
		m[key] = value
	}
	f.value.Set(reflect.ValueOf(m))
	return nil
}

func (f *field) setList(parts []string) *wrong {
	if f.value.Type().Elem().Kind() == reflect.Int {
		numbers := make([]int, 0, len(parts))
		for _, part := range parts {
			n, err := strconv.ParseInt(part, 10, 64)
			if err != nil {
				return &wrong{fmt.Sprintf("%q is not a whole number", part), ""}
			}
			if w := checkInt(f.check, n); w != nil {
				return w
			}
			numbers = append(numbers, int(n))
		}
		f.value.Set(reflect.ValueOf(numbers))
		return nil
	}
	for _, part := range parts {
		if w := checkString(f.check, part); w != nil {
			return w
		}
	}
	f.value.Set(reflect.ValueOf(parts))
	return nil
}

// setString sets an attribute that is written in quotes.
func (f *field) setString(text string) *wrong {
	switch f.value.Type() {
	case durationType:
		d, err := time.ParseDuration(text)
		if err != nil || d < 0 {
			return &wrong{fmt.Sprintf("%q is not a duration", text), `write it like "30s" or "1h30m"`}
		}
		f.value.SetInt(int64(d))
		return nil
	case sizeType:
		n, ok := parseSize(text)
		if !ok {
			return &wrong{fmt.Sprintf("%q is not an amount of memory or disk", text), `write it like "512MiB" or "2GiB"`}
		}
		f.value.SetUint(n)
		return nil
	}
	if w := checkString(f.check, text); w != nil {
		return w
	}
	f.value.SetString(text)
	return nil
}

func (f *field) setInt(n int64) *wrong {
	if w := checkInt(f.check, n); w != nil {
		return w
	}
	f.value.SetInt(n)
	return nil
}

// parseSize reads an amount as MiB.
func parseSize(text string) (uint64, bool) {
	for _, u := range []struct {
		suffix string
		mib    uint64
	}{{"TiB", 1 << 20}, {"GiB", 1 << 10}, {"MiB", 1}} {
		if number, ok := strings.CutSuffix(text, u.suffix); ok {
			n, err := strconv.ParseUint(strings.TrimSpace(number), 10, 64)
			return n * u.mib, err == nil && n <= math.MaxUint64/u.mib>>20
		}
	}
	return 0, false
}

func checkInt(check string, n int64) *wrong {
	var from, to int64
	if _, err := fmt.Sscanf(check, "between %d and %d", &from, &to); err == nil && (n < from || n > to) {
		return &wrong{fmt.Sprintf("%d is out of range", n), fmt.Sprintf("it must be from %d to %d", from, to)}
	}
	return nil
}

// checkString holds text against what the tag says it must be.
func checkString(check, text string) *wrong {
	if words, ok := strings.CutPrefix(check, "one of "); ok {
		if allowed := strings.Fields(words); !slices.Contains(allowed, text) {
			return &wrong{fmt.Sprintf("%q is not one of its values", text), "use " + alternatives(allowed)}
		}
		return nil
	}
	switch check {
	case "path":
		if !filepath.IsAbs(text) {
			return &wrong{fmt.Sprintf("%q is not an absolute path", text), "begin it with /"}
		}
	case "ip":
		if net.ParseIP(text) == nil {
			return &wrong{fmt.Sprintf("%q is not an IP address", text), ""}
		}
	case "hostport":
		return checkHostPort(text)
	case "word":
		if text == "" || strings.Trim(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.") != "" {
			return &wrong{fmt.Sprintf("%q is not a name", text), "use letters, digits, - and _"}
		}
	case "taint":
		if _, err := ParseTaint(text); err != nil {
			return &wrong{fmt.Sprintf("%q is not a taint", text), "write it like dedicated=web:keep_off or spot:avoid"}
		}
	case "cpus":
		if _, err := topology.ParseCPUSet(text); err != nil {
			return &wrong{fmt.Sprintf("%q is not a list of CPUs", text), `write it like "0,64" or "0-3"`}
		}
	case "base64 key":
		if key, err := base64.StdEncoding.DecodeString(text); err != nil || !slices.Contains([]int{16, 24, 32}, len(key)) {
			// The key itself is not shown: errors end up in logs.
			return &wrong{"this is not a key", "16, 24 or 32 bytes in base64: head -c 32 /dev/urandom | base64"}
		}
	}
	return nil
}

func checkHostPort(text string) *wrong {
	host, port, err := net.SplitHostPort(text)
	if err != nil {
		host, port = trimBrackets(text), "1"
		if strings.Contains(host, ":") && net.ParseIP(host) == nil {
			return &wrong{fmt.Sprintf("%q is not an address", text), `write it like "10.0.0.1" or "10.0.0.1:7461"`}
		}
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return &wrong{fmt.Sprintf("%q is not a port", port), "a port is a number from 1 to 65535"}
	}
	if host == "" || strings.ContainsAny(host, " /?#@[]\t\n") {
		return &wrong{fmt.Sprintf("%q is not an address", text), `write it like "10.0.0.1" or "10.0.0.1:7461"`}
	}
	return nil
}

func alternatives(words []string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	return strings.Join(words[:len(words)-1], ", ") + " or " + words[len(words)-1]
}
