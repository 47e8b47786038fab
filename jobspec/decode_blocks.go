package jobspec

import (
	"fmt"

	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/berthd/berth/jobspec/internal/schema"
	"github.com/berthd/berth/jobspec/internal/tree"
)

// blocks decodes what may be there several times: an HCL block is one of them; JSON and
// YAML have a list of objects, an object whose keys are the labels, or one object.
func (d *decoder) blocks(msg protoreflect.Message, f *schema.Field, member *tree.Member, path string) {
	m := f.Message()
	value := member.Value
	switch {
	case member.Block:
		d.hclBlock(msg, f, member, path)
	case value.Kind == tree.List:
		for _, item := range value.Items {
			d.element(msg, f, nil, item, item.Pos, path)
		}
	case value.Kind != tree.Object:
		d.fail(value.Pos, path, "", "%s wants a list of objects, not %s", member.Name, value.Kind)
	case m.Label == nil:
		d.element(msg, f, nil, value, value.Pos, path)
	default:
		for _, labelled := range value.Members {
			label := &tree.Label{Text: labelled.Name, Pos: labelled.Pos}
			items := []*tree.Node{labelled.Value}
			if labelled.Value.Kind == tree.List {
				items = labelled.Value.Items
			}
			for _, item := range items {
				d.element(msg, f, label, item, labelled.Pos, path)
			}
		}
	}
}

func (d *decoder) hclBlock(msg protoreflect.Message, f *schema.Field, member *tree.Member, path string) {
	m := f.Message()
	switch {
	case m.Label == nil && len(member.Labels) > 0:
		d.fail(member.Labels[0].Pos, path, "", "%s takes no label", f.Name)
	case m.Label == nil:
		d.element(msg, f, nil, member.Value, member.Pos, path)
	case len(member.Labels) == 0:
		d.fail(member.Pos, path, fmt.Sprintf(`write %s "..." { ... }`, f.Name), "%s needs a label: its %s", f.Name, m.Label.Name)
	case len(member.Labels) > 1:
		d.fail(member.Labels[1].Pos, path, "", "%s takes one label", f.Name)
	default:
		d.element(msg, f, &member.Labels[0], member.Value, member.Pos, path)
	}
}

// element decodes one of a list of messages and appends it.
func (d *decoder) element(msg protoreflect.Message, f *schema.Field, label *tree.Label, n *tree.Node, pos tree.Pos, path string) {
	if n.Kind == tree.Invalid {
		d.bad[path] = true
		return
	}
	if n.Kind == tree.Null && label != nil {
		n = &tree.Node{Kind: tree.Object, Pos: n.Pos}
	}
	if n.Kind != tree.Object {
		hint := ""
		if f.Message().Label != nil {
			hint = fmt.Sprintf("the keys of %s are labels, their values objects", f.Name)
		}
		d.fail(n.Pos, path, hint, "%s wants an object, not %s", f.Name, n.Kind)
		return
	}
	m := f.Message()
	list := msg.Mutable(f.Desc).List()
	if list.Len() >= MaxElements {
		d.fail(pos, path, "", "more than %d of %s", MaxElements, f.Name)
		return
	}
	element := list.AppendMutable().Message()
	where := f.Name
	if label == nil && m.Label != nil && !n.Body {
		label = d.labelMember(m, n)
	}
	labelPath := fmt.Sprintf("%s[%d]", path, list.Len()-1)
	if label != nil {
		if inside := d.labelMember(m, n); inside != nil && inside.Text != label.Text {
			d.fail(inside.Pos, labelPath, "leave one of them out", "%s is %q by its key and %q inside", f.Name, label.Text, inside.Text)
		}
		own := n.Get(m.Label.Name) == nil && n.Get(string(m.Label.Desc.Name())) != nil
		v, err := m.Label.FromNode(tree.Str(label.Text), own)
		if err != nil {
			d.fail(label.Pos, labelPath, "", "%s of %s %v", m.Label.Name, f.Name, err)
		} else {
			element.Set(m.Label.Desc, v)
			where = fmt.Sprintf("%s %q", f.Name, m.Label.Human(v).Text)
		}
	}
	elementPath := labelPath
	if text := labelOf(m, element); isKey(text) {
		// As elementKeys: the first of a label is named by it.
		if named := path + "[" + text + "]"; !d.has(named) {
			elementPath = named
		}
	}
	d.places[elementPath] = pos
	if label != nil {
		d.places[join(elementPath, string(m.Label.Desc.Name()))] = label.Pos
	}
	d.message(element, n, elementPath, where)
}

func (d *decoder) has(path string) bool {
	_, ok := d.places[path]
	return ok
}

// labelMember finds the label among an object's members.
func (d *decoder) labelMember(m *schema.Message, n *tree.Node) *tree.Label {
	for _, name := range []string{m.Label.Name, string(m.Label.Desc.Name())} {
		if member := n.Get(name); member != nil && (member.Value.Kind == tree.String || member.Value.Kind == tree.Number) {
			return &tree.Label{Text: member.Value.Text, Pos: member.Value.Pos}
		}
	}
	return nil
}
