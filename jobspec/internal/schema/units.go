package schema

import (
	"errors"
	"fmt"
	"math"
	"math/big"
	"regexp"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/berthd/berth/jobspec/internal/tree"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// MaxDuration bounds every duration of a spec: ten years.
const MaxDuration = 10 * 365 * 24 * time.Hour

// Int is a whole number of either sign, wide enough for every field.
type Int struct {
	Negative bool
	Abs      uint64
}

// Signed is the number as int64; Abs must fit.
func (i Int) Signed() int64 {
	if i.Negative {
		return -int64(i.Abs)
	}
	return int64(i.Abs)
}

// ParseInt reads a whole number, also one written as 1e3 or 2.0.
func ParseInt(text string) (Int, error) {
	s, negative := strings.CutPrefix(text, "-")
	if u, err := strconv.ParseUint(s, 10, 64); err == nil {
		return Int{negative, u}, nil
	}
	x, err := strconv.ParseFloat(s, 64)
	switch {
	case err != nil && !errors.Is(err, strconv.ErrRange), strings.ContainsAny(s, "xX_+-pPiInN"):
		return Int{}, errType
	case math.IsInf(x, 0) || x >= 1<<64:
		return Int{}, fmt.Errorf("is out of range")
	case x != math.Trunc(x):
		return Int{}, fmt.Errorf("wants a whole number, not %s", text)
	}
	return Int{negative, uint64(x)}, nil
}

// quantity is a number, up to 18 digits and 9 decimals, and a unit.
var quantity = regexp.MustCompile(`^(\d{1,18}(?:\.\d{1,9})?) ?([A-Za-z]*)$`)

// bytes of the units of size.
var sizes = map[string]int64{
	"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40, "PiB": 1 << 50,
	"kB": 1e3, "KB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12, "PB": 1e15,
}

// ParseQuantity reads a quantity with its unit. Sizes are rounded up to whole MiB or
// KiB; a plain number is MiB or cores.
func ParseQuantity(text string, unit berthv1.Unit) (Int, error) {
	parts := quantity.FindStringSubmatch(text)
	if parts == nil {
		if strings.HasPrefix(text, "-") {
			return Int{}, fmt.Errorf("is out of range: it cannot be negative")
		}
		return Int{}, errType
	}
	n, _ := new(big.Rat).SetString(parts[1])
	if unit == berthv1.Unit_UNIT_MILLI {
		return parseMilli(n, parts[2])
	}
	base := int64(1 << 20)
	if unit == berthv1.Unit_UNIT_KIB {
		base = 1 << 10
	}
	scale, ok := sizes[parts[2]]
	switch {
	case ok:
	case parts[2] == "" && unit == berthv1.Unit_UNIT_MIB:
		scale = 1 << 20
	case parts[2] == "":
		return Int{}, fmt.Errorf("needs a unit: write %q or %q", text+"KiB", text+"MiB")
	default:
		return Int{}, fmt.Errorf("has the unit %q; known are B, KiB, MiB, GiB, TiB, PiB, kB, MB, GB, TB, PB", parts[2])
	}
	n.Mul(n, big.NewRat(scale, base))
	up := new(big.Int).Div(new(big.Int).Add(n.Num(), new(big.Int).Sub(n.Denom(), big.NewInt(1))), n.Denom())
	if !up.IsInt64() {
		return Int{}, fmt.Errorf("is out of range")
	}
	return Int{Abs: up.Uint64()}, nil
}

func parseMilli(n *big.Rat, unit string) (Int, error) {
	switch unit {
	case "":
		n.Mul(n, big.NewRat(1000, 1))
	case "m":
	default:
		return Int{}, fmt.Errorf(`has the unit %q; write "500m" for half a core`, unit)
	}
	if !n.IsInt() {
		return Int{}, fmt.Errorf("is finer than a thousandth of a core")
	}
	if !n.Num().IsInt64() {
		return Int{}, fmt.Errorf("is out of range")
	}
	return Int{Abs: n.Num().Uint64()}, nil
}

// FormatQuantity is a quantity as people write it.
func FormatQuantity(v uint64, unit berthv1.Unit) *tree.Node {
	if unit == berthv1.Unit_UNIT_MILLI {
		if v%1000 == 0 && v > 0 {
			return tree.Num(strconv.FormatUint(v/1000, 10))
		}
		return tree.Str(strconv.FormatUint(v, 10) + "m")
	}
	names := []string{"MiB", "GiB", "TiB", "PiB"}
	if unit == berthv1.Unit_UNIT_KIB {
		names = append([]string{"KiB"}, names...)
	}
	i := 0
	for v > 0 && v%1024 == 0 && i < len(names)-1 {
		v /= 1024
		i++
	}
	return tree.Str(strconv.FormatUint(v, 10) + names[i])
}

var days = regexp.MustCompile(`^(\d{1,6})d(.*)$`)

// ParseDuration reads "30s", "5m", "1h30m", "2d".
func ParseDuration(text string) (time.Duration, error) {
	rest, total := text, time.Duration(0)
	if m := days.FindStringSubmatch(text); m != nil {
		n, _ := strconv.Atoi(m[1])
		if n > int(MaxDuration/(24*time.Hour)) {
			return 0, fmt.Errorf("is out of range: at most ten years")
		}
		total, rest = time.Duration(n)*24*time.Hour, m[2]
		if rest == "" {
			return total, nil
		}
	}
	if _, err := strconv.ParseFloat(rest, 64); err == nil {
		return 0, fmt.Errorf("needs a unit: write %q for seconds", rest+"s")
	}
	d, err := time.ParseDuration(rest)
	if err != nil || strings.HasPrefix(rest, "+") || (total > 0 && d < 0) {
		return 0, errType
	}
	total += d
	if text := checkDuration(durationpb.New(total)); text != "" {
		return 0, fmt.Errorf("%s", text)
	}
	return total, nil
}

func checkDuration(d *durationpb.Duration) string {
	switch {
	case d.CheckValid() != nil || d.AsDuration() > MaxDuration:
		return "is out of range: at most ten years"
	case d.AsDuration() < 0:
		return "is out of range: it cannot be negative"
	}
	return ""
}

// FormatDuration is a duration as people write it; it takes any message so that callers
// need not look what they have.
func FormatDuration(m proto.Message) string {
	d, ok := m.(*durationpb.Duration)
	if !ok {
		return ""
	}
	s := d.AsDuration().String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
