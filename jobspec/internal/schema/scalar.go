package schema

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/dynamicpb"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/berthd/berth/jobspec/internal/tree"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// newMessage makes an empty message: the generated type where there is one.
func newMessage(md protoreflect.MessageDescriptor) protoreflect.Message {
	if t, err := protoregistry.GlobalTypes.FindMessageByName(md.FullName()); err == nil {
		return t.New()
	}
	return dynamicpb.NewMessage(md)
}

// Wants says in words what the field takes.
func (f *Field) Wants() string {
	switch f.Options.GetUnit() {
	case berthv1.Unit_UNIT_MIB, berthv1.Unit_UNIT_KIB:
		return `a size such as "256MiB"`
	case berthv1.Unit_UNIT_MILLI:
		return `cores such as "500m" or 2`
	}
	switch f.Desc.Kind() {
	case protoreflect.BoolKind:
		return "true or false"
	case protoreflect.EnumKind:
		return OneOf(f.Values())
	case protoreflect.StringKind:
		if len(f.Values()) > 0 && len(f.Values()) < 8 {
			return OneOf(f.Values())
		}
		return "a string"
	case protoreflect.MessageKind:
		return `a duration such as "30s" or "5m"`
	case protoreflect.DoubleKind, protoreflect.FloatKind:
		return "a number"
	}
	return "a whole number"
}

// Values are the words that the field takes; none: any.
func (f *Field) Values() []string {
	if f.Desc.Kind() != protoreflect.EnumKind {
		return f.Options.GetValues()
	}
	var names []string
	for i := range f.Desc.Enum().Values().Len() {
		names = append(names, string(f.Desc.Enum().Values().Get(i).Name()))
	}
	return names
}

// OneOf lists words: `"a", "b" or "c"`.
func OneOf(words []string) string {
	quoted := make([]string, len(words))
	for i, w := range words {
		quoted[i] = strconv.Quote(w)
	}
	if n := len(quoted); n > 1 {
		return strings.Join(quoted[:n-1], ", ") + " or " + quoted[n-1]
	}
	return strings.Join(quoted, "")
}

var errType = errors.New("wrong type")

// FromNode makes the field's value of what was written. With own, it was written under
// the field's own name, as the API writes it: a plain number is in the field's unit.
// For a list field it makes one element. Errors are said without the field's name:
// "wants a size such as "256MiB", not a list".
func (f *Field) FromNode(n *tree.Node, own bool) (protoreflect.Value, error) {
	v, err := f.fromNode(n, own)
	if errors.Is(err, errType) {
		what := n.Kind.String()
		if text := n.Text; text != "" && len(text) <= 40 {
			what = text
			if n.Kind == tree.String {
				what = strconv.Quote(text)
			}
		}
		return v, fmt.Errorf("wants %s, not %s", f.Wants(), what)
	}
	return v, err
}

func (f *Field) fromNode(n *tree.Node, own bool) (protoreflect.Value, error) {
	var none protoreflect.Value
	if n.Kind != tree.Bool && n.Kind != tree.Number && n.Kind != tree.String {
		return none, errType
	}
	if f.Options.GetUnit() != berthv1.Unit_UNIT_NONE {
		return f.fromQuantity(n, own)
	}
	switch f.Desc.Kind() {
	case protoreflect.BoolKind:
		if n.Text != "true" && n.Text != "false" {
			return none, errType
		}
		return protoreflect.ValueOfBool(n.Text == "true"), nil
	case protoreflect.StringKind:
		return protoreflect.ValueOfString(n.Text), nil
	case protoreflect.EnumKind:
		if ev := f.Desc.Enum().Values().ByName(protoreflect.Name(n.Text)); ev != nil {
			return protoreflect.ValueOfEnum(ev.Number()), nil
		}
		return none, errType
	case protoreflect.MessageKind:
		if n.Kind != tree.String {
			return none, errType
		}
		d, err := ParseDuration(n.Text)
		if err != nil {
			return none, err
		}
		return protoreflect.ValueOfMessage(durationpb.New(d).ProtoReflect()), nil
	case protoreflect.DoubleKind, protoreflect.FloatKind:
		x, err := strconv.ParseFloat(n.Text, 64)
		if err != nil || n.Kind == tree.Bool || math.IsInf(x, 0) || math.IsNaN(x) {
			return none, errType
		}
		return floatOf(f.Desc, x), nil
	}
	i, err := ParseInt(n.Text)
	if err != nil {
		return none, err
	}
	return f.intOf(i)
}

func (f *Field) fromQuantity(n *tree.Node, own bool) (protoreflect.Value, error) {
	var none protoreflect.Value
	if n.Kind == tree.Bool {
		return none, errType
	}
	if own {
		if i, err := ParseInt(n.Text); err == nil {
			return f.intOf(i)
		}
	}
	i, err := ParseQuantity(n.Text, f.Options.GetUnit())
	if err != nil {
		return none, err
	}
	return f.intOf(i)
}

// intOf makes a value of the field's width, and says so when it does not fit.
func (f *Field) intOf(i Int) (protoreflect.Value, error) {
	tooBig := func(limit string) (protoreflect.Value, error) {
		return protoreflect.Value{}, fmt.Errorf("is out of range: %s", limit)
	}
	switch f.Desc.Kind() {
	case protoreflect.Int32Kind, protoreflect.Sint32Kind, protoreflect.Sfixed32Kind:
		if i.Abs > math.MaxInt32 {
			return tooBig("at most 2147483647")
		}
		return protoreflect.ValueOfInt32(int32(i.Signed())), nil
	case protoreflect.Int64Kind, protoreflect.Sint64Kind, protoreflect.Sfixed64Kind:
		if i.Abs > math.MaxInt64 {
			return tooBig("at most 9223372036854775807")
		}
		return protoreflect.ValueOfInt64(i.Signed()), nil
	}
	if i.Negative && i.Abs > 0 {
		return tooBig("it cannot be negative")
	}
	switch f.Desc.Kind() {
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind:
		if i.Abs > math.MaxUint32 {
			return tooBig("at most " + f.Human(protoreflect.ValueOfUint32(math.MaxUint32)).Text)
		}
		return protoreflect.ValueOfUint32(uint32(i.Abs)), nil
	default:
		return protoreflect.ValueOfUint64(i.Abs), nil
	}
}

func floatOf(fd protoreflect.FieldDescriptor, x float64) protoreflect.Value {
	if fd.Kind() == protoreflect.FloatKind {
		return protoreflect.ValueOfFloat32(float32(x))
	}
	return protoreflect.ValueOfFloat64(x)
}

// Human is the value as people write it in a spec; the other way of FromNode. For a list
// field it takes one element.
func (f *Field) Human(v protoreflect.Value) *tree.Node {
	switch f.Desc.Kind() {
	case protoreflect.BoolKind:
		return tree.NewBool(v.Bool())
	case protoreflect.StringKind:
		return tree.Str(v.String())
	case protoreflect.EnumKind:
		if ev := f.Desc.Enum().Values().ByNumber(v.Enum()); ev != nil {
			return tree.Str(string(ev.Name()))
		}
		return tree.Num(strconv.Itoa(int(v.Enum())))
	case protoreflect.MessageKind:
		return tree.Str(FormatDuration(v.Message().Interface()))
	case protoreflect.DoubleKind, protoreflect.FloatKind:
		return tree.Num(strconv.FormatFloat(v.Float(), 'g', -1, 64))
	case protoreflect.Uint32Kind, protoreflect.Uint64Kind, protoreflect.Fixed32Kind, protoreflect.Fixed64Kind:
		if f.Options.GetUnit() != berthv1.Unit_UNIT_NONE {
			return FormatQuantity(v.Uint(), f.Options.GetUnit())
		}
		return tree.Num(strconv.FormatUint(v.Uint(), 10))
	}
	return tree.Num(strconv.FormatInt(v.Int(), 10))
}

// Check says what is wrong with a value that has the right type; "" nothing is.
func (f *Field) Check(v protoreflect.Value) string {
	o := f.Options
	switch f.Desc.Kind() {
	case protoreflect.EnumKind:
		if f.Desc.Enum().Values().ByNumber(v.Enum()) == nil {
			return fmt.Sprintf("wants %s, not %d", OneOf(f.Values()), v.Enum())
		}
	case protoreflect.StringKind:
		s := v.String()
		if _, ok := f.Aliases[s]; len(o.GetValues()) > 0 && !ok && !slices.Contains(o.GetValues(), s) {
			return fmt.Sprintf("wants %s, not %q", OneOf(o.GetValues()), s)
		}
	case protoreflect.MessageKind:
		if d, ok := v.Message().Interface().(*durationpb.Duration); ok {
			return checkDuration(d)
		}
	case protoreflect.BoolKind, protoreflect.BytesKind, protoreflect.GroupKind:
	default:
		return f.checkRange(v)
	}
	return ""
}

func (f *Field) checkRange(v protoreflect.Value) string {
	var x float64 // bounds are far below 2^53
	switch n := v.Interface().(type) {
	case uint32:
		x = float64(n)
	case uint64:
		x = float64(n)
	case int32:
		x = float64(n)
	case int64:
		x = float64(n)
	case float32:
		x = float64(n)
	case float64:
		x = n
	}
	low, high := f.Options.GetMin(), f.Options.GetMax()
	got := f.Human(v).Text
	switch {
	case low != 0 && high != 0 && (x < float64(low) || x > float64(high)):
		return fmt.Sprintf("must be from %s to %s, not %s", f.Bound(low), f.Bound(high), got)
	case low != 0 && x < float64(low):
		return fmt.Sprintf("must be at least %s, not %s", f.Bound(low), got)
	case high != 0 && x > float64(high):
		return fmt.Sprintf("must be at most %s, not %s", f.Bound(high), got)
	}
	return ""
}

// Bound is a bound as people would write it.
func (f *Field) Bound(b int64) string {
	if u := f.Options.GetUnit(); u != berthv1.Unit_UNIT_NONE && b >= 0 {
		return FormatQuantity(uint64(b), u).Text
	}
	return strconv.FormatInt(b, 10)
}
