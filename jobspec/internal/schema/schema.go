// Package schema reads the job spec's schema off the proto descriptors and their
// (berth.v1.spec) options. The walker, the printers, the checks and the reference page
// of package jobspec all go by it, so a new field needs no code of its own.
package schema

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/berthd/berth/jobspec/internal/tree"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// Kind is what a field takes in a spec.
type Kind uint8

// The kinds of fields.
const (
	Scalar   Kind = iota // string, bool, number, enum or duration; List says several
	Block                // a message: a block, or several with List
	Map                  // map<string, string>
	Free                 // google.protobuf.Struct: a driver's own keys
	Internal             // what no spec can say
)

// Message is a block of the spec.
type Message struct {
	Desc protoreflect.MessageDescriptor
	// Fields in the order of the schema.
	Fields []*Field
	// Label is the field that is the block's label; nil: it has none.
	Label *Field

	byName map[string]*Field
}

// Field is an attribute or a block.
type Field struct {
	Desc protoreflect.FieldDescriptor
	Kind Kind
	// List says that there may be several.
	List bool
	// Name is what it is called in HCL.
	Name string
	// Options are never nil.
	Options *berthv1.SpecOptions
	// Aliases maps other spellings of its value to the one that is kept.
	Aliases map[string]string
	// Default is what a spec that leaves it out gets; invalid: nothing.
	Default protoreflect.Value

	message atomic.Pointer[Message] // once it was asked for
}

// aliases are the other spellings that are understood, by field.
var aliases = map[protoreflect.FullName]map[string]string{
	"berth.v1.TopologyPolicy.policy": {
		"single-numa-node": "single", "require": "single", "prefer": "best-effort",
	},
	"berth.v1.Job.arch":        archAliases,
	"berth.v1.ArchWeight.arch": archAliases,
}

var archAliases = map[string]string{"x86_64": "amd64", "x86-64": "amd64", "aarch64": "arm64"}

var cache sync.Map // protoreflect.FullName -> *Message

// Of gives the schema of a message. It panics on a schema that contradicts itself: a
// defect that the tests of this package find.
func Of(md protoreflect.MessageDescriptor) *Message {
	if m, ok := cache.Load(md.FullName()); ok {
		return m.(*Message)
	}
	m, err := compile(md)
	if err != nil {
		panic("jobspec schema: " + err.Error())
	}
	cache.Store(md.FullName(), m)
	return m
}

// Lookup finds a field by its name in HCL or its own name; nil: there is none.
func (m *Message) Lookup(name string) *Field { return m.byName[name] }

// Names are the names that a spec may use, as in HCL.
func (m *Message) Names() []string {
	var names []string
	for _, f := range m.Fields {
		if !f.Options.GetServerSet() && f != m.Label && f.Kind != Internal {
			names = append(names, f.Name)
		}
	}
	return names
}

// Message is the schema of a block's body.
func (f *Field) Message() *Message {
	m := f.message.Load()
	if m == nil {
		m = Of(f.Desc.Message())
		f.message.Store(m)
	}
	return m
}

// Is says whether the field has that full name.
func (f *Field) Is(name protoreflect.FullName) bool { return f.Desc.FullName() == name }

func compile(md protoreflect.MessageDescriptor) (*Message, error) {
	m := &Message{Desc: md, byName: map[string]*Field{}}
	for i := range md.Fields().Len() {
		f, err := compileField(md.Fields().Get(i))
		if err != nil {
			return nil, err
		}
		m.Fields = append(m.Fields, f)
		for _, name := range []string{f.Name, string(f.Desc.Name())} {
			if other := m.byName[name]; other != nil && other != f {
				return nil, fmt.Errorf("%s: two fields are called %q", md.FullName(), name)
			}
			m.byName[name] = f
		}
		if f.Options.GetLabel() {
			if m.Label != nil {
				return nil, fmt.Errorf("%s has two labels", md.FullName())
			}
			m.Label = f
		}
	}
	return m, nil
}

func compileField(fd protoreflect.FieldDescriptor) (*Field, error) {
	f := &Field{Desc: fd, Name: string(fd.Name()), List: fd.IsList(), Aliases: aliases[fd.FullName()]}
	f.Options, _ = proto.GetExtension(fd.Options(), berthv1.E_Spec).(*berthv1.SpecOptions)
	if f.Options == nil {
		f.Options = &berthv1.SpecOptions{}
	}
	if f.Options.GetName() != "" {
		f.Name = f.Options.GetName()
	}
	f.Kind = kindOf(fd, f.Options)
	if f.Options.GetUnit() != berthv1.Unit_UNIT_NONE && f.Name == string(fd.Name()) {
		// A plain number means another thing under each of the two names.
		return nil, fmt.Errorf("%s has a unit and no name of its own for specs", fd.FullName())
	}
	return f, f.compileDefault()
}

func kindOf(fd protoreflect.FieldDescriptor, o *berthv1.SpecOptions) Kind {
	switch {
	case o.GetServerSet():
		return Internal
	case fd.IsMap():
		if fd.MapKey().Kind() == protoreflect.StringKind && fd.MapValue().Kind() == protoreflect.StringKind {
			return Map
		}
		return Internal
	case fd.Message() == nil:
		if fd.Kind() == protoreflect.BytesKind {
			return Internal
		}
		return Scalar
	}
	switch fd.Message().FullName() {
	case "google.protobuf.Duration":
		return Scalar
	case "google.protobuf.Struct":
		if fd.IsList() {
			return Internal
		}
		return Free
	}
	if strings.HasPrefix(string(fd.Message().FullName()), "google.") {
		return Internal
	}
	return Block
}

// compileDefault reads the default option: JSON (which is HCL as well), and after it
// may stand a remark in parentheses.
func (f *Field) compileDefault() error {
	text := f.Options.GetDefault()
	if text == "" {
		return nil
	}
	if f.Kind != Scalar {
		return fmt.Errorf("%s: a default for what is not a value", f.Desc.FullName())
	}
	dec := json.NewDecoder(strings.NewReader(text))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		return fmt.Errorf("%s: default %s: %w", f.Desc.FullName(), text, err)
	}
	var texts []any
	if list, ok := v.([]any); ok && f.List {
		texts = list
	} else {
		texts = []any{v}
	}
	var values []protoreflect.Value
	for _, t := range texts {
		value, err := f.FromNode(nodeOf(t), false)
		if err != nil {
			return fmt.Errorf("%s: default %s: %w", f.Desc.FullName(), text, err)
		}
		values = append(values, value)
	}
	if !f.List {
		f.Default = values[0]
		return nil
	}
	msg := newMessage(f.Desc.ContainingMessage())
	list := msg.Mutable(f.Desc).List()
	for _, v := range values {
		list.Append(v)
	}
	f.Default = protoreflect.ValueOfList(list)
	return nil
}

func nodeOf(v any) *tree.Node {
	switch v := v.(type) {
	case bool:
		return tree.NewBool(v)
	case json.Number:
		return tree.Num(v.String())
	case string:
		return tree.Str(v)
	}
	return &tree.Node{Kind: tree.Object}
}
