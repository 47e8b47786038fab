package jobspec

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/berthd/berth/jobspec/internal/schema"
	"github.com/berthd/berth/jobspec/internal/tree"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// drivers names the message that is a driver's config. The config of other drivers is
// theirs to check: it may hold anything.
var drivers = map[string]protoreflect.FullName{
	"exec": "berth.v1.ExecConfig",
	"mock": "berth.v1.MockConfig",
	"qemu": "berth.v1.QemuConfig",
}

// newConfig makes an empty config of a driver; nil: its keys are not known here.
func newConfig(driver string) protoreflect.Message {
	t, err := protoregistry.GlobalTypes.FindMessageByName(drivers[driver])
	if err != nil {
		return nil
	}
	return t.New()
}

// configOf is a task's config as its driver's message; nil where that is not known or the
// config does not fit it.
func configOf(t *berthv1.Task) protoreflect.ProtoMessage {
	config := newConfig(t.GetDriver())
	if config == nil {
		return nil
	}
	d := newDecoder(false)
	d.message(config, objectOf(t.GetConfig()), "", "config")
	if len(d.found.list) > 0 {
		return nil
	}
	return config.Interface()
}

// taskConfig is the field that holds a driver's config.
const taskConfig protoreflect.FullName = "berth.v1.Task.config"

// configFor makes an empty message for a Free field of msg; nil: free-form.
func configFor(msg protoreflect.Message, f *schema.Field) protoreflect.Message {
	if task, ok := msg.Interface().(*berthv1.Task); ok && f.Is(taskConfig) {
		return newConfig(task.GetDriver())
	}
	return nil
}

// configName names a task's config in errors.
func configName(msg protoreflect.Message) string {
	if task, ok := msg.Interface().(*berthv1.Task); ok {
		return fmt.Sprintf("config of driver %q", task.GetDriver())
	}
	return "config"
}

// free decodes a Free field: by the driver's schema when it is known, otherwise as it
// stands, blocks becoming objects.
func (d *decoder) free(msg protoreflect.Message, f *schema.Field, member *tree.Member, path string) {
	switch member.Value.Kind {
	case tree.Invalid:
		d.bad[path] = true
		return
	case tree.Null:
		return
	}
	if len(member.Labels) > 0 {
		d.fail(member.Labels[0].Pos, path, "", "%s takes no label", f.Name)
		return
	}
	if !d.isObject(member.Value, path, f.Name) {
		return
	}
	config := configFor(msg, f)
	if config == nil {
		s := d.object(member.Value, path)
		msg.Set(f.Desc, protoreflect.ValueOfMessage(s.ProtoReflect()))
		return
	}
	// Keys of a known driver's config were written as HCL writes them or as the API
	// does; in HCL the values of an attribute are an object all the same.
	d.message(config, member.Value, path, configName(msg))
	msg.Set(f.Desc, protoreflect.ValueOfMessage(structOf(config).ProtoReflect()))
}

// structOf is a driver's config as the Struct that tasks carry: what protojson makes of
// it under the fields' own names.
func structOf(m protoreflect.Message) *structpb.Struct {
	s := &structpb.Struct{Fields: map[string]*structpb.Value{}}
	for fd, v := range m.Range {
		name := string(fd.Name())
		switch {
		case fd.IsMap():
			inner := &structpb.Struct{Fields: map[string]*structpb.Value{}}
			for k, e := range v.Map().Range {
				inner.Fields[k.String()] = valueOf(fd.MapValue(), e)
			}
			s.Fields[name] = structpb.NewStructValue(inner)
		case fd.IsList():
			list := &structpb.ListValue{}
			for i := range v.List().Len() {
				list.Values = append(list.Values, valueOf(fd, v.List().Get(i)))
			}
			s.Fields[name] = structpb.NewListValue(list)
		default:
			s.Fields[name] = valueOf(fd, v)
		}
	}
	return s
}

func valueOf(fd protoreflect.FieldDescriptor, v protoreflect.Value) *structpb.Value {
	switch x := v.Interface().(type) {
	case bool:
		return structpb.NewBoolValue(x)
	case string:
		return structpb.NewStringValue(x)
	case int32:
		return structpb.NewNumberValue(float64(x))
	case uint32:
		return structpb.NewNumberValue(float64(x))
	case float64:
		return structpb.NewNumberValue(x)
	case int64, uint64: // beyond what a JSON number holds
		return structpb.NewStringValue(fmt.Sprint(x))
	case protoreflect.EnumNumber:
		if ev := fd.Enum().Values().ByNumber(x); ev != nil {
			return structpb.NewStringValue(string(ev.Name()))
		}
	case protoreflect.Message:
		if d, ok := x.Interface().(*durationpb.Duration); ok {
			return structpb.NewStringValue(durationJSON(d))
		}
		return structpb.NewStructValue(structOf(x))
	}
	return structpb.NewNullValue()
}

// durationJSON is a duration as protojson writes it: seconds, with 0, 3, 6 or 9 decimals.
func durationJSON(d *durationpb.Duration) string {
	text := fmt.Sprintf("%d.%09d", d.GetSeconds(), d.GetNanos())
	for range 3 {
		text = strings.TrimSuffix(text, "000")
	}
	return strings.TrimSuffix(text, ".") + "s"
}

// object makes a free-form Struct. A block is an object under its name, and under its
// labels inside that; blocks of one name that take no label are a list.
func (d *decoder) object(n *tree.Node, path string) *structpb.Struct {
	s := &structpb.Struct{Fields: map[string]*structpb.Value{}}
	blocks := map[string]int{}
	for _, m := range n.Members {
		at := join(path, m.Name)
		d.places[at] = m.Pos
		if m.Block {
			d.nested(s, m, at, blocks)
			continue
		}
		if _, ok := s.Fields[m.Name]; ok {
			d.fail(m.Pos, at, "", "%s is given twice", m.Name)
			continue
		}
		s.Fields[m.Name] = d.value(m.Value, at)
	}
	return s
}

// nested adds a block to a free-form object; blocks counts those without a label.
func (d *decoder) nested(s *structpb.Struct, m *tree.Member, path string, blocks map[string]int) {
	body := structpb.NewStructValue(d.object(m.Value, path))
	name := m.Name
	for _, label := range m.Labels {
		if s.Fields[name] == nil {
			s.Fields[name] = structpb.NewStructValue(&structpb.Struct{Fields: map[string]*structpb.Value{}})
		}
		inner := s.Fields[name].GetStructValue()
		if inner == nil || blocks[name] > 0 {
			d.fail(label.Pos, path, "", "%s is given with and without a label", m.Name)
			return
		}
		s, name, blocks = inner, label.Text, map[string]int{}
	}
	before := s.Fields[name]
	switch {
	case before == nil:
		s.Fields[name] = body
	case len(m.Labels) > 0:
		d.fail(m.Pos, path, "", "%s %q is given twice", m.Name, name)
		return
	case blocks[name] == 1:
		s.Fields[name] = structpb.NewListValue(&structpb.ListValue{Values: []*structpb.Value{before, body}})
	case blocks[name] > 1:
		before.GetListValue().Values = append(before.GetListValue().Values, body)
	default:
		d.fail(m.Pos, path, "", "%s is given twice", m.Name)
		return
	}
	blocks[name]++
}

func (d *decoder) value(n *tree.Node, path string) *structpb.Value {
	switch n.Kind {
	case tree.Invalid:
		d.bad[path] = true
	case tree.Bool:
		return structpb.NewBoolValue(n.Text == "true")
	case tree.String:
		return structpb.NewStringValue(n.Text)
	case tree.Number:
		x, err := strconv.ParseFloat(n.Text, 64)
		if err != nil || math.IsInf(x, 0) || math.IsNaN(x) {
			d.fail(n.Pos, path, "", "the number is out of range")
			break
		}
		return structpb.NewNumberValue(x)
	case tree.Object:
		return structpb.NewStructValue(d.object(n, path))
	case tree.List:
		list := &structpb.ListValue{}
		for i, item := range n.Items {
			list.Values = append(list.Values, d.value(item, fmt.Sprintf("%s[%d]", path, i)))
		}
		return structpb.NewListValue(list)
	}
	return structpb.NewNullValue()
}

// nodeOf is a Struct's value as a tree.
func nodeOf(v *structpb.Value) *tree.Node {
	switch k := v.GetKind().(type) {
	case *structpb.Value_BoolValue:
		return tree.NewBool(k.BoolValue)
	case *structpb.Value_NumberValue:
		return tree.Num(strconv.FormatFloat(k.NumberValue, 'g', -1, 64))
	case *structpb.Value_StringValue:
		return tree.Str(k.StringValue)
	case *structpb.Value_ListValue:
		n := &tree.Node{Kind: tree.List}
		for _, item := range k.ListValue.GetValues() {
			n.Items = append(n.Items, nodeOf(item))
		}
		return n
	case *structpb.Value_StructValue:
		return objectOf(k.StructValue)
	}
	return &tree.Node{Kind: tree.Null}
}

// objectOf is a Struct as a tree, its keys in order.
func objectOf(s *structpb.Struct) *tree.Node {
	n := &tree.Node{Kind: tree.Object}
	for _, key := range sortedKeys(s.GetFields()) {
		n.Add(key, nodeOf(s.GetFields()[key]))
	}
	return n
}
