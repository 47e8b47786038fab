package api

import (
	"encoding/base64"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// formOf is a field's value as plain Go values, by the rules of its JSON form: enums by
// name, times and durations as text. Unlike there, numbers stay numbers whatever their
// size, and messages that are absent are there with empty fields, so that an expression
// need not ask for them first.
func formOf(field protoreflect.FieldDescriptor, v protoreflect.Value) any {
	switch {
	case field.IsList():
		list := make([]any, v.List().Len())
		for i := range list {
			list[i] = formOfOne(field, v.List().Get(i))
		}
		return list
	case field.IsMap():
		m := make(map[string]any, v.Map().Len())
		v.Map().Range(func(k protoreflect.MapKey, v protoreflect.Value) bool {
			m[k.String()] = formOfOne(field.MapValue(), v)
			return true
		})
		return m
	}
	return formOfOne(field, v)
}

func formOfOne(field protoreflect.FieldDescriptor, v protoreflect.Value) any {
	switch field.Kind() {
	case protoreflect.MessageKind, protoreflect.GroupKind:
		return formOfMessage(v.Message())
	case protoreflect.EnumKind:
		if name := field.Enum().Values().ByNumber(v.Enum()); name != nil {
			return string(name.Name())
		}
		return int32(v.Enum())
	case protoreflect.BytesKind:
		return base64.StdEncoding.EncodeToString(v.Bytes())
	}
	return v.Interface()
}

func formOfMessage(m protoreflect.Message) any {
	switch v := m.Interface().(type) {
	case *timestamppb.Timestamp:
		if v == nil {
			return ""
		}
		return v.AsTime().Format(time.RFC3339Nano)
	case *durationpb.Duration:
		return strconv.FormatFloat(v.AsDuration().Seconds(), 'f', -1, 64) + "s"
	case *structpb.Struct:
		return v.AsMap()
	case *structpb.Value:
		return v.AsInterface()
	}
	form := make(map[string]any, m.Descriptor().Fields().Len())
	for i := range m.Descriptor().Fields().Len() {
		field := m.Descriptor().Fields().Get(i)
		form[string(field.Name())] = formOf(field, m.Get(field))
	}
	return form
}

// isValue says whether a message's form is not a map of its fields.
func isValue(m protoreflect.MessageDescriptor) bool {
	return strings.HasPrefix(string(m.FullName()), "google.protobuf.")
}
