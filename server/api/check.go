package api

import (
	"math"
	"strconv"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/berthd/berth/problem"
)

// maxNesting bounds how deep messages, and the values inside a Struct, may nest.
const maxNesting = 64

// checkMessage refuses what the wire format can carry and JSON cannot give back, or that
// nobody means: enum values and durations out of range, text that is not UTF-8, numbers
// that are none, values without a kind. After it, whatever is stored can be read again.
func checkMessage(m proto.Message) error {
	if p := checkReflect(m.ProtoReflect(), maxNesting); p != nil {
		return p
	}
	return nil
}

// checkReflect checks a message and all in it; the field of what it finds is relative to
// the message, so that no path is made where nothing is wrong.
func checkReflect(m protoreflect.Message, depth int) (p *problem.Error) {
	if depth == 0 {
		return problem.New(problem.Invalid, "", "it is nested too deeply").WithRemedy("nest at most %d levels", maxNesting)
	}
	switch v := m.Interface().(type) {
	case *durationpb.Duration:
		return checkDuration(v)
	case *timestamppb.Timestamp:
		if v.CheckValid() != nil {
			return problem.New(problem.Invalid, "", "it is not a time between the years 1 and 9999")
		}
		return nil
	case *structpb.Value:
		if v.GetKind() == nil {
			return problem.New(problem.Invalid, "", "a value without a kind")
		}
		if n, ok := v.GetKind().(*structpb.Value_NumberValue); ok && (math.IsNaN(n.NumberValue) || math.IsInf(n.NumberValue, 0)) {
			return problem.New(problem.Invalid, "", "%v is not a number that JSON knows", n.NumberValue)
		}
	}
	m.Range(func(field protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		if p = checkField(field, v, depth-1); p != nil {
			p.Field = under(string(field.Name()), p.Field)
		}
		return p == nil
	})
	return p
}

func checkDuration(d *durationpb.Duration) *problem.Error {
	switch {
	case d.CheckValid() != nil:
		return problem.New(problem.Invalid, "", "the duration is out of range")
	case d.GetSeconds() < 0 || d.GetNanos() < 0:
		return problem.New(problem.Invalid, "", "the duration is negative: %s", d.AsDuration())
	}
	return nil
}

func checkField(field protoreflect.FieldDescriptor, v protoreflect.Value, depth int) (p *problem.Error) {
	switch {
	case field.IsList():
		for i := range v.List().Len() {
			if p := checkOne(field, v.List().Get(i), depth); p != nil {
				p.Field = under("["+strconv.Itoa(i)+"]", p.Field)
				return p
			}
		}
		return nil
	case field.IsMap():
		v.Map().Range(func(k protoreflect.MapKey, v protoreflect.Value) bool {
			if p = checkOne(field.MapKey(), k.Value(), depth); p == nil {
				p = checkOne(field.MapValue(), v, depth)
			}
			if p != nil {
				p.Field = under("["+strconv.Quote(k.String())+"]", p.Field)
			}
			return p == nil
		})
		return p
	}
	return checkOne(field, v, depth)
}

func checkOne(field protoreflect.FieldDescriptor, v protoreflect.Value, depth int) *problem.Error {
	switch field.Kind() {
	case protoreflect.MessageKind, protoreflect.GroupKind:
		return checkReflect(v.Message(), depth)
	case protoreflect.EnumKind:
		if field.Enum().Values().ByNumber(v.Enum()) == nil {
			return problem.New(problem.Invalid, "", "%d is not one of its values", v.Enum()).
				WithRemedy("it may be %s", enumNames(field.Enum()))
		}
	case protoreflect.StringKind:
		if !utf8.ValidString(v.String()) {
			return problem.New(problem.Invalid, "", "it is not valid UTF-8")
		}
	}
	return nil
}

// under is the path of what is at rest inside of name.
func under(name, rest string) string {
	if rest == "" || rest[0] == '[' {
		return name + rest
	}
	return name + "." + rest
}

func enumNames(enum protoreflect.EnumDescriptor) string {
	names := make([]string, 0, enum.Values().Len())
	for i := range enum.Values().Len() {
		names = append(names, string(enum.Values().Get(i).Name()))
	}
	return orList(names)
}
