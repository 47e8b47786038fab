package api

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"github.com/grpc-ecosystem/grpc-gateway/v2/utilities"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/berthd/berth/problem"
)

// checkParameters checks what a request has in its path and its query, and gives the
// query with "?follow" spelled out as "?follow=true".
func checkParameters(m *method, r *http.Request, params map[string]string) (url.Values, error) {
	for name, value := range params {
		if !utf8.ValidString(value) {
			return nil, problem.New(problem.Invalid, name, "the path is not valid UTF-8")
		}
	}
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, problem.New(problem.Invalid, "query", "%w", err)
	}
	scratch := m.in.New().Interface()
	return query, parseQuery(scratch, query, m, params)
}

// parseQuery reads a query into a request, parameter by parameter, so that what is wrong
// has a name.
func parseQuery(into proto.Message, query url.Values, m *method, params map[string]string) error {
	fields := into.ProtoReflect().Descriptor().Fields()
	for _, key := range sortedKeys(query) {
		if m.body == "*" {
			return problem.New(problem.Invalid, key, "this takes its parameters in the body, not in the query")
		}
		field := fields.ByName(protoreflect.Name(key))
		_, inPath := params[key]
		if field == nil || inPath || key == m.body || strings.Contains(key, ".") {
			return problem.New(problem.Invalid, key, "there is no such parameter").WithRemedy("%s", parameterHint(fields, m, params))
		}
		values := query[key]
		for i, v := range values {
			if !utf8.ValidString(v) {
				return problem.New(problem.Invalid, key, "it is not valid UTF-8")
			}
			if v == "" && field.Kind() == protoreflect.BoolKind {
				values[i] = "true"
			}
		}
		one := url.Values{key: values}
		if err := new(runtime.DefaultQueryParser).Parse(into, one, utilities.NewDoubleArray(nil)); err != nil {
			return problem.New(problem.Invalid, key, "%s", strings.TrimPrefix(err.Error(), `parsing field "`+key+`": `)).
				WithRemedy("%s", valueHint(field))
		}
	}
	return nil
}

// parameters is what a method takes in the query.
func parameters(fields protoreflect.FieldDescriptors, m *method, params map[string]string) []string {
	var names []string
	for i := range fields.Len() {
		name := string(fields.Get(i).Name())
		if _, inPath := params[name]; !inPath && m.body != "*" && m.body != name {
			names = append(names, name)
		}
	}
	return names
}

func parameterHint(fields protoreflect.FieldDescriptors, m *method, params map[string]string) string {
	if names := parameters(fields, m, params); len(names) > 0 {
		return "it may be " + orList(names)
	}
	return "this takes none"
}

func valueHint(field protoreflect.FieldDescriptor) string {
	switch {
	case field.Kind() == protoreflect.BoolKind:
		return "give true or false"
	case field.Kind() == protoreflect.EnumKind:
		return "give " + enumNames(field.Enum())
	case field.Kind() == protoreflect.MessageKind && field.Message().FullName() == "google.protobuf.Duration":
		return `give a duration such as "30s" or "5m"`
	case field.Kind() == protoreflect.StringKind:
		return "give it once"
	}
	return "give one number that is not too large"
}

func sortedKeys(query url.Values) []string {
	keys := make([]string, 0, len(query))
	for k := range query {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
