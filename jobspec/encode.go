package jobspec

import (
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/berthd/berth/jobspec/internal/schema"
	"github.com/berthd/berth/jobspec/internal/tree"
)

// encode makes a tree of a message, as a spec would say it: names of HCL, human units,
// without what the servers set. With hcl, messages are blocks with labels; without, a
// list of messages is a list of objects that hold their label.
func encode(msg protoreflect.Message, hcl bool) *tree.Node {
	m := schema.Of(msg.Descriptor())
	n := &tree.Node{Kind: tree.Object, Body: hcl}
	for _, f := range m.Fields {
		if f.Kind == schema.Internal || hcl && f == m.Label || !msg.Has(f.Desc) {
			continue
		}
		value := msg.Get(f.Desc)
		switch {
		case f.Kind == schema.Scalar && f.List:
			n.Add(f.Name, scalarList(f, value.List()))
		case f.Kind == schema.Scalar:
			n.Add(f.Name, f.Human(value))
		case f.Kind == schema.Map:
			n.Members = append(n.Members, &tree.Member{Name: f.Name, Block: hcl, Value: mapNode(value.Map())})
		case f.Kind == schema.Free:
			n.Members = append(n.Members, &tree.Member{Name: f.Name, Block: hcl, Value: freeNode(msg, f, hcl)})
		case f.List:
			n.Members = append(n.Members, encodeList(f, value.List(), hcl)...)
		default:
			n.Members = append(n.Members, &tree.Member{Name: f.Name, Block: hcl, Value: encode(value.Message(), hcl)})
		}
	}
	return n
}

func scalarList(f *schema.Field, list protoreflect.List) *tree.Node {
	n := &tree.Node{Kind: tree.List}
	for i := range list.Len() {
		n.Items = append(n.Items, f.Human(list.Get(i)))
	}
	return n
}

func mapNode(entries protoreflect.Map) *tree.Node {
	texts := map[string]string{}
	for k, v := range entries.Range {
		texts[k.String()] = v.String()
	}
	n := &tree.Node{Kind: tree.Object}
	for _, k := range sortedKeys(texts) {
		n.Add(k, tree.Str(texts[k]))
	}
	return n
}

// freeNode is a driver's config: by its schema where that is known and the config goes
// by it.
func freeNode(msg protoreflect.Message, f *schema.Field, hcl bool) *tree.Node {
	s, _ := msg.Get(f.Desc).Message().Interface().(*structpb.Struct)
	if config := configFor(msg, f); config != nil {
		text, err := protojson.Marshal(s)
		if err == nil && protojson.Unmarshal(text, config.Interface()) == nil && proto.Equal(structOf(config), s) {
			return encode(config, hcl)
		}
	}
	return objectOf(s)
}

func encodeList(f *schema.Field, list protoreflect.List, hcl bool) []*tree.Member {
	m := f.Message()
	if !hcl {
		n := &tree.Node{Kind: tree.List}
		for i := range list.Len() {
			n.Items = append(n.Items, encode(list.Get(i).Message(), false))
		}
		return []*tree.Member{{Name: f.Name, Value: n}}
	}
	var members []*tree.Member
	for i := range list.Len() {
		element := list.Get(i).Message()
		member := &tree.Member{Name: f.Name, Block: true, Value: encode(element, true)}
		if m.Label != nil {
			member.Labels = []tree.Label{{Text: labelOf(m, element)}}
		}
		members = append(members, member)
	}
	return members
}
