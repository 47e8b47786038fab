// Package config reads a task's config block into a driver's config message, strictly:
// the message's fields and their (spec) options are the schema, and everything that
// does not fit is an Invalid problem that names the key. Every driver calls it first.
package config

import (
	"fmt"
	"math"
	"sort"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// Decode fills into from block. Keys are the fields' names, or their names in a spec.
// Defaults of strings that may only have some values are filled in as well. Field of a
// problem is the path from "config": "config.mount[1].path".
func Decode(block *structpb.Struct, into proto.Message) error {
	return decodeMessage("config", block.GetFields(), into.ProtoReflect())
}

func decodeMessage(path string, values map[string]*structpb.Value, m protoreflect.Message) error {
	fields := m.Descriptor().Fields()
	byName := make(map[string]protoreflect.FieldDescriptor, 2*fields.Len())
	for i := range fields.Len() {
		f := fields.Get(i)
		byName[string(f.Name())] = f
		if name := options(f).GetName(); name != "" {
			byName[name] = f
		}
	}
	keys := make([]string, 0, len(values))
	for k := range values {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	seen := make(map[protoreflect.FieldDescriptor]string, len(keys))
	for _, k := range keys {
		f := byName[k]
		if f == nil || options(f).GetServerSet() {
			return unknownKey(path, k, byName)
		}
		if other, ok := seen[f]; ok {
			return problem.New(problem.Invalid, path+"."+k, "%s is the same key as %s", k, other)
		}
		seen[f] = k
		if _, null := values[k].GetKind().(*structpb.Value_NullValue); null {
			continue
		}
		if err := decodeField(path+"."+k, values[k], f, m); err != nil {
			return err
		}
	}
	return complete(path, m)
}

// complete checks what is required and fills in the defaults of enumerated strings.
func complete(path string, m protoreflect.Message) error {
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		if m.Has(f) {
			continue
		}
		opts := options(f)
		if opts.GetRequired() {
			return problem.New(problem.Invalid, path+"."+specName(f), "is missing")
		}
		if len(opts.GetValues()) > 0 && opts.GetDefault() != "" {
			if s, err := strconv.Unquote(opts.GetDefault()); err == nil {
				m.Set(f, protoreflect.ValueOfString(s))
			}
		}
	}
	return nil
}

func decodeField(path string, v *structpb.Value, f protoreflect.FieldDescriptor, m protoreflect.Message) error {
	switch {
	case f.IsMap():
		return decodeMap(path, v, f, m)
	case f.IsList():
		return decodeList(path, v, f, m)
	case f.Message() != nil && f.Message().FullName() != durationName:
		// A block that was given once may come as a list of one.
		if l := v.GetListValue().GetValues(); len(l) == 1 {
			v = l[0]
		}
		s := v.GetStructValue()
		if s == nil {
			return wrongType(path, v, "a block")
		}
		return decodeMessage(path, s.GetFields(), m.Mutable(f).Message())
	}
	val, err := decodeScalar(path, v, f)
	if err != nil {
		return err
	}
	m.Set(f, val)
	return nil
}

func decodeList(path string, v *structpb.Value, f protoreflect.FieldDescriptor, m protoreflect.Message) error {
	items := v.GetListValue().GetValues()
	if v.GetListValue() == nil {
		if v.GetStructValue() == nil || f.Message() == nil {
			return wrongType(path, v, "a list")
		}
		items = []*structpb.Value{v}
	}
	list := m.Mutable(f).List()
	for i, item := range items {
		at := fmt.Sprintf("%s[%d]", path, i)
		if f.Message() == nil {
			val, err := decodeScalar(at, item, f)
			if err != nil {
				return err
			}
			list.Append(val)
			continue
		}
		s := item.GetStructValue()
		if s == nil {
			return wrongType(at, item, "a block")
		}
		if err := decodeMessage(at, s.GetFields(), list.AppendMutable().Message()); err != nil {
			return err
		}
	}
	return nil
}

func decodeMap(path string, v *structpb.Value, f protoreflect.FieldDescriptor, m protoreflect.Message) error {
	s := v.GetStructValue()
	if s == nil || f.MapValue().Message() != nil || f.MapKey().Kind() != protoreflect.StringKind {
		return wrongType(path, v, "a map of words")
	}
	mp := m.Mutable(f).Map()
	for k, item := range s.GetFields() {
		val, err := decodeScalar(path+"."+k, item, f.MapValue())
		if err != nil {
			return err
		}
		mp.Set(protoreflect.ValueOfString(k).MapKey(), val)
	}
	return nil
}

const durationName = "google.protobuf.Duration"

func decodeScalar(path string, v *structpb.Value, f protoreflect.FieldDescriptor) (protoreflect.Value, error) {
	var none protoreflect.Value
	switch f.Kind() {
	case protoreflect.MessageKind:
		d, err := time.ParseDuration(v.GetStringValue())
		if err != nil || d < 0 {
			return none, wrongType(path, v, `a duration such as "5s"`)
		}
		return protoreflect.ValueOfMessage(durationpb.New(d).ProtoReflect()), nil
	case protoreflect.StringKind:
		return decodeString(path, v, f)
	case protoreflect.BoolKind:
		switch k := v.GetKind().(type) {
		case *structpb.Value_BoolValue:
			return protoreflect.ValueOfBool(k.BoolValue), nil
		case *structpb.Value_StringValue:
			if k.StringValue == "true" || k.StringValue == "false" {
				return protoreflect.ValueOfBool(k.StringValue == "true"), nil
			}
		}
		return none, wrongType(path, v, "true or false")
	}
	n, ok := number(v)
	if !ok || n != math.Trunc(n) {
		return none, wrongType(path, v, "a whole number")
	}
	return decodeNumber(path, n, f)
}

func decodeString(path string, v *structpb.Value, f protoreflect.FieldDescriptor) (protoreflect.Value, error) {
	s, ok := v.GetKind().(*structpb.Value_StringValue)
	if !ok {
		// A number or a truth value where words are wanted (args = [8080]) is taken as it reads.
		switch k := v.GetKind().(type) {
		case *structpb.Value_NumberValue:
			return protoreflect.ValueOfString(strconv.FormatFloat(k.NumberValue, 'f', -1, 64)), nil
		case *structpb.Value_BoolValue:
			return protoreflect.ValueOfString(strconv.FormatBool(k.BoolValue)), nil
		}
		return protoreflect.Value{}, wrongType(path, v, "words")
	}
	if strings.ContainsRune(s.StringValue, 0) {
		return protoreflect.Value{}, problem.New(problem.Invalid, path, "has a zero byte in it")
	}
	if allowed := options(f).GetValues(); len(allowed) > 0 {
		for _, a := range allowed {
			if a == s.StringValue {
				return protoreflect.ValueOfString(a), nil
			}
		}
		return protoreflect.Value{}, problem.New(problem.Invalid, path, "%q is not one of %s",
			s.StringValue, strings.Join(allowed, ", "))
	}
	return protoreflect.ValueOfString(s.StringValue), nil
}

func decodeNumber(path string, n float64, f protoreflect.FieldDescriptor) (protoreflect.Value, error) {
	low, high := float64(math.MinInt32), float64(math.MaxInt32)
	var make func() protoreflect.Value
	switch f.Kind() {
	case protoreflect.Int32Kind:
		make = func() protoreflect.Value { return protoreflect.ValueOfInt32(int32(n)) }
	case protoreflect.Uint32Kind:
		low, high = 0, math.MaxUint32
		make = func() protoreflect.Value { return protoreflect.ValueOfUint32(uint32(n)) }
	case protoreflect.Int64Kind:
		// Numbers in a config are floating-point: beyond 2^53 they are not exact.
		low, high = -(1 << 53), 1<<53
		make = func() protoreflect.Value { return protoreflect.ValueOfInt64(int64(n)) }
	case protoreflect.Uint64Kind:
		low, high = 0, 1<<53
		make = func() protoreflect.Value { return protoreflect.ValueOfUint64(uint64(n)) }
	default:
		return protoreflect.Value{}, problem.New(problem.Internal, path, "the driver's schema has a field of kind %s", f.Kind())
	}
	opts := options(f)
	if opts.GetMin() != 0 {
		low = float64(opts.GetMin())
	}
	if opts.GetMax() != 0 {
		high = float64(opts.GetMax())
	}
	if n < low || n > high {
		return protoreflect.Value{}, problem.New(problem.Invalid, path, "%.0f is not between %.0f and %.0f", n, low, high)
	}
	return make(), nil
}

// number accepts "12" beside 12: HCL interpolation makes words of numbers.
func number(v *structpb.Value) (float64, bool) {
	switch k := v.GetKind().(type) {
	case *structpb.Value_NumberValue:
		return k.NumberValue, !math.IsNaN(k.NumberValue) && !math.IsInf(k.NumberValue, 0)
	case *structpb.Value_StringValue:
		n, err := strconv.ParseInt(k.StringValue, 10, 64)
		return float64(n), err == nil
	}
	return 0, false
}

func wrongType(path string, v *structpb.Value, want string) error {
	got := "nothing"
	if v.GetKind() != nil {
		got = fmt.Sprint(v.AsInterface())
	}
	if len(got) > 40 {
		got = got[:40] + "..."
	}
	return problem.New(problem.Invalid, path, "must be %s, not %s", want, got)
}

func unknownKey(path, key string, known map[string]protoreflect.FieldDescriptor) error {
	names := make([]string, 0, len(known))
	for _, f := range known {
		names = append(names, specName(f))
	}
	sort.Strings(names)
	names = uniq(names)
	p := problem.New(problem.Invalid, path+"."+key, "unknown key")
	if best := nearest(key, names); best != "" {
		return p.WithRemedy("did you mean %q?", best)
	}
	return p.WithRemedy("the keys are %s", strings.Join(names, ", "))
}

func options(f protoreflect.FieldDescriptor) *berthv1.SpecOptions {
	o, _ := proto.GetExtension(f.Options(), berthv1.E_Spec).(*berthv1.SpecOptions)
	return o
}

func specName(f protoreflect.FieldDescriptor) string {
	if n := options(f).GetName(); n != "" {
		return n
	}
	return string(f.Name())
}

func uniq(sorted []string) []string {
	out := sorted[:0]
	for i, s := range sorted {
		if i == 0 || s != sorted[i-1] {
			out = append(out, s)
		}
	}
	return out
}

// nearest is the known name at an edit distance of at most 2 from key; "" for none.
func nearest(key string, names []string) string {
	best, bestDistance := "", 3
	for _, n := range names {
		if d := distance(key, n); d < bestDistance {
			best, bestDistance = n, d
		}
	}
	return best
}

func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		diagonal := row[0]
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			diagonal, row[j] = row[j], min(row[j]+1, row[j-1]+1, diagonal+cost)
		}
	}
	return row[len(b)]
}
