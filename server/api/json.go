package api

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/berthd/berth/problem"
)

// The JSON form of messages: fields by their names in the schema, empty ones included;
// unknown ones are an error.
var (
	schemaJSON = protojson.MarshalOptions{UseProtoNames: true, EmitDefaultValues: true}
	fromJSON   = protojson.UnmarshalOptions{RecursionLimit: 2 * maxNesting}
)

// toJSON writes a message. The same message gives the same bytes, unlike protojson's
// own, which puts spaces here and there.
func toJSON(m proto.Message) ([]byte, error) {
	data, err := schemaJSON.Marshal(m)
	if err != nil {
		return nil, err
	}
	var compact bytes.Buffer
	compact.Grow(len(data))
	err = json.Compact(&compact, data)
	return compact.Bytes(), err
}

// jsonCodec is how the gateway reads and writes bodies. A stream is one message a line.
type jsonCodec struct{}

func (jsonCodec) ContentType(any) string       { return "application/json" }
func (jsonCodec) StreamContentType(any) string { return "application/x-ndjson" }
func (jsonCodec) Delimiter() []byte            { return []byte("\n") }

// Marshal writes an answer. The gateway wraps what it streams; that is taken off again.
func (jsonCodec) Marshal(v any) ([]byte, error) {
	switch v := v.(type) {
	case map[string]any:
		if m, ok := v["result"].(proto.Message); ok {
			return toJSON(m)
		}
	case map[string]proto.Message:
		if s, ok := v["error"].(*spb.Status); ok {
			return problemJSON(problem.From(status.FromProto(s).Err()).Proto()), nil
		}
	case proto.Message:
		return toJSON(v)
	}
	return nil, fmt.Errorf("an answer of type %T has no JSON form", v)
}

func (jsonCodec) Unmarshal(data []byte, v any) error {
	return unmarshalJSON(data, v.(proto.Message))
}

func (jsonCodec) NewEncoder(w io.Writer) runtime.Encoder {
	return runtime.EncoderFunc(func(v any) error {
		data, err := jsonCodec{}.Marshal(v)
		if err == nil {
			_, err = w.Write(data)
		}
		return err
	})
}

func (jsonCodec) NewDecoder(r io.Reader) runtime.Decoder {
	return runtime.DecoderFunc(func(v any) error {
		data, err := io.ReadAll(r)
		if err != nil {
			return err
		}
		if len(bytes.TrimSpace(data)) == 0 {
			return io.EOF // an empty body is an empty message
		}
		m, ok := v.(proto.Message)
		if !ok {
			if m, err = fieldMessage(v); err != nil {
				return err
			}
		}
		err = unmarshalJSON(data, m)
		if b, ok := r.(*body); ok {
			b.problem = err
		}
		return err
	})
}

// place is how protojson says where in a text something is wrong.
var place = regexp.MustCompile(`^(?:proto:)?[\s\x{00a0}]*(syntax error )?\(line (\d+):(\d+)\): (.*)$`)

// unmarshalJSON reads a message. What is wrong with the text is a problem that names the
// field's path and the place.
func unmarshalJSON(data []byte, into proto.Message) error {
	if !utf8.Valid(data) {
		return problem.New(problem.Invalid, "body", "it is not valid UTF-8")
	}
	if nesting(data) > maxNesting {
		return problem.New(problem.Invalid, "body", "it is nested too deeply").WithRemedy("nest at most %d levels", maxNesting)
	}
	err := fromJSON.Unmarshal(data, into)
	if err == nil {
		return nil
	}
	words := err.Error()
	parts := place.FindStringSubmatch(words)
	if parts == nil {
		return problem.New(problem.Invalid, "body", "%s", strings.TrimLeft(strings.TrimPrefix(words, "proto:"), " \u00a0"))
	}
	line, _ := strconv.Atoi(parts[2])
	column, _ := strconv.Atoi(parts[3])
	path := pathAt(data, offsetOf(data, line, column))
	if path == "" {
		path = "body"
	}
	return problem.New(problem.Invalid, path, "line %d, column %d: %s%s", line, column, parts[1], parts[4])
}

// nesting is how deep a JSON text nests.
func nesting(data []byte) int {
	deepest, depth, inString := 0, 0, false
	for i := 0; i < len(data); i++ {
		switch c := data[i]; {
		case inString && c == '\\':
			i++
		case c == '"':
			inString = !inString
		case inString:
		case c == '{' || c == '[':
			depth++
			deepest = max(deepest, depth)
		case c == '}' || c == ']':
			depth--
		}
	}
	return deepest
}

// offsetOf is the byte offset of a line and column (in runes), both from 1.
func offsetOf(data []byte, line, column int) int {
	offset := 0
	for ; line > 1; line-- {
		i := bytes.IndexByte(data[offset:], '\n')
		if i < 0 {
			break
		}
		offset += i + 1
	}
	for ; column > 1 && offset < len(data); column-- {
		_, size := utf8.DecodeRune(data[offset:])
		offset += size
	}
	return offset
}

// level is an object or array that pathAt is inside of.
type level struct {
	array bool
	index int    // of the current item, from 0
	key   string // of the current value
	value bool   // in an object: a value comes next, not a key
}

// pathAt is the path of what is at an offset of a JSON text: groups[0].tasks[1].driver.
// In a text that is no JSON it is that of the last thing before which is.
func pathAt(data []byte, offset int) string {
	tokens := json.NewDecoder(bytes.NewReader(data))
	var levels []*level
	for {
		start := int(tokens.InputOffset())
		start += len(data[start:]) - len(bytes.TrimLeft(data[start:], " \t\r\n,:"))
		token, err := tokens.Token()
		if err != nil {
			return pathOf(levels)
		}
		delim, isDelim := token.(json.Delim)
		if isDelim && (delim == '}' || delim == ']') {
			levels = levels[:len(levels)-1]
			continue
		}
		var at *level
		if len(levels) > 0 {
			at = levels[len(levels)-1]
		}
		isKey := at.step(token)
		if start >= offset {
			return pathOf(levels)
		}
		if isDelim && !isKey {
			levels = append(levels, &level{array: delim == '[', index: -1})
		}
	}
}

// step takes the next token of a level and says whether it is a key.
func (l *level) step(token json.Token) bool {
	switch {
	case l == nil:
		return false
	case l.array:
		l.index++
		return false
	case l.value:
		l.value = false
		return false
	}
	l.key, _ = token.(string)
	l.value = true
	return true
}

func pathOf(levels []*level) string {
	var b strings.Builder
	for _, l := range levels {
		switch {
		case l.array && l.index >= 0:
			fmt.Fprintf(&b, "[%d]", l.index)
		case l.array || l.key == "":
		case b.Len() == 0:
			b.WriteString(l.key)
		default:
			b.WriteString("." + l.key)
		}
	}
	return b.String()
}

// fieldMessage is the message behind a pointer to a request's field, made if need be.
func fieldMessage(pointer any) (proto.Message, error) {
	field := reflect.ValueOf(pointer)
	if field.Kind() == reflect.Pointer && field.Elem().Kind() == reflect.Pointer {
		if field.Elem().IsNil() {
			field.Elem().Set(reflect.New(field.Type().Elem().Elem()))
		}
		if m, ok := field.Elem().Interface().(proto.Message); ok {
			return m, nil
		}
	}
	return nil, fmt.Errorf("a body for a %T has no JSON form", pointer)
}
