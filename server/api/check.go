package api

import (
	"fmt"
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
	return checkReflect(m.ProtoReflect(), "", maxNesting)
}

func checkReflect(m protoreflect.Message, path string, depth int) (err error) {
	if depth == 0 {
		return problem.New(problem.Invalid, path, "it is nested too deeply").WithRemedy("nest at most %d levels", maxNesting)
	}
	switch v := m.Interface().(type) {
	case *durationpb.Duration:
		return checkDuration(v, path)
	case *timestamppb.Timestamp:
		if v.CheckValid() != nil {
			return problem.New(problem.Invalid, path, "it is not a time between the years 1 and 9999")
		}
	case *structpb.Value:
		if v.GetKind() == nil {
			return problem.New(problem.Invalid, path, "a value without a kind")
		}
		if n, ok := v.GetKind().(*structpb.Value_NumberValue); ok && (math.IsNaN(n.NumberValue) || math.IsInf(n.NumberValue, 0)) {
			return problem.New(problem.Invalid, path, "%v is not a number that JSON knows", n.NumberValue)
		}
	}
	m.Range(func(field protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		err = checkField(field, v, join(path, string(field.Name())), depth-1)
		return err == nil
	})
	return err
}

func checkDuration(d *durationpb.Duration, path string) error {
	switch {
	case d.CheckValid() != nil:
		return problem.New(problem.Invalid, path, "the duration is out of range")
	case d.GetSeconds() < 0 || d.GetNanos() < 0:
		return problem.New(problem.Invalid, path, "the duration is negative: %s", d.AsDuration())
	}
	return nil
}

func checkField(field protoreflect.FieldDescriptor, v protoreflect.Value, path string, depth int) (err error) {
	switch {
	case field.IsList():
		for i := range v.List().Len() {
			if err := checkScalar(field, v.List().Get(i), fmt.Sprintf("%s[%d]", path, i), depth); err != nil {
				return err
			}
		}
		return nil
	case field.IsMap():
		v.Map().Range(func(k protoreflect.MapKey, v protoreflect.Value) bool {
			at := path + "[" + strconv.Quote(k.String()) + "]"
			if err = checkScalar(field.MapKey(), k.Value(), at, depth); err == nil {
				err = checkScalar(field.MapValue(), v, at, depth)
			}
			return err == nil
		})
		return err
	}
	return checkScalar(field, v, path, depth)
}

func checkScalar(field protoreflect.FieldDescriptor, v protoreflect.Value, path string, depth int) error {
	switch field.Kind() {
	case protoreflect.MessageKind, protoreflect.GroupKind:
		return checkReflect(v.Message(), path, depth)
	case protoreflect.EnumKind:
		if field.Enum().Values().ByNumber(v.Enum()) == nil {
			return problem.New(problem.Invalid, path, "%d is not one of its values", v.Enum()).
				WithRemedy("it may be %s", enumNames(field.Enum()))
		}
	case protoreflect.StringKind:
		if !utf8.ValidString(v.String()) {
			return problem.New(problem.Invalid, path, "it is not valid UTF-8")
		}
	}
	return nil
}

func enumNames(enum protoreflect.EnumDescriptor) string {
	names := make([]string, 0, enum.Values().Len())
	for i := range enum.Values().Len() {
		names = append(names, string(enum.Values().Get(i).Name()))
	}
	return orList(names)
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}
