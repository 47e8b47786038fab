package jobspec

import (
	"fmt"

	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/berthd/berth/jobspec/internal/schema"
	"github.com/berthd/berth/jobspec/internal/tree"
)

// decoder is the walker: it makes a message of a tree by the schema, and says of
// everything that does not fit what it is and where. It looks at shapes and types only;
// the checker, which sees messages from everywhere, looks at values.
type decoder struct {
	found *findings
	// hcl: names are those of HCL alone, blocks are blocks, and what the servers set is
	// an error. Otherwise fields may have their own names, and what the servers set is
	// passed over: what the API writes is a spec.
	hcl    bool
	places places
	// bad holds the paths that were complained about, so that it is done once.
	bad map[string]bool
}

func newDecoder(hcl bool) *decoder {
	return &decoder{found: &findings{}, hcl: hcl, places: places{}, bad: map[string]bool{}}
}

func (d *decoder) fail(pos tree.Pos, path, hint, format string, args ...any) {
	d.bad[path] = true
	d.found.add(pos, path, hint, format, args...)
}

// message fills msg from an object or a block's body. where names it in errors:
// resources, task "server".
func (d *decoder) message(msg protoreflect.Message, node *tree.Node, path, where string) {
	if node.Kind == tree.Invalid {
		d.bad[path] = true
		return
	}
	m := schema.Of(msg.Descriptor())
	seen := map[*schema.Field]bool{}
	var free []func()
	for _, member := range node.Members {
		f := m.Lookup(member.Name)
		if f == nil || d.hcl && f.Name != member.Name || f.Kind == schema.Internal && !f.Options.GetServerSet() {
			d.unknown(m, member, path, where)
			continue
		}
		fieldPath := join(path, string(f.Desc.Name()))
		if f.Options.GetServerSet() {
			if d.hcl {
				d.fail(member.Pos, fieldPath, "leave it out", "%s is set by the servers, not by a spec", f.Name)
			}
			continue
		}
		if node.Body && f == m.Label && msg.Has(f.Desc) {
			d.fail(member.Pos, fieldPath, "", "%s is the label of %s: write it in front of the brace", f.Name, where)
			continue
		}
		if seen[f] && !(f.Kind == schema.Block && f.List) {
			d.fail(member.Pos, fieldPath, "", "%s is given twice in %s", member.Name, where)
			continue
		}
		if _, ok := d.places[fieldPath]; !ok {
			d.places[fieldPath] = member.Pos
		}
		seen[f] = true
		if f.Kind == schema.Free {
			// What it may hold depends on its siblings.
			free = append(free, func() { d.free(msg, f, member, fieldPath) })
			continue
		}
		d.field(msg, f, member, fieldPath, node.Body)
	}
	for _, decode := range free {
		decode()
	}
}

// unknown complains about a name that the schema does not have.
func (d *decoder) unknown(m *schema.Message, member *tree.Member, path, where string) {
	what := "attribute"
	if member.Block {
		what = "block"
	}
	hint := ""
	if f := m.Lookup(member.Name); f != nil && f.Kind != schema.Internal {
		d.bad[join(path, string(f.Desc.Name()))] = true
		hint = fmt.Sprintf("did you mean %q?", f.Name)
	} else if s := suggest(member.Name, m.Names()); s != "" {
		d.bad[join(path, string(m.Lookup(s).Desc.Name()))] = true
		hint = fmt.Sprintf("did you mean %q?", s)
	}
	d.found.add(member.Pos, path, hint, "unknown %s %q in %s", what, member.Name, where)
}

func (d *decoder) field(msg protoreflect.Message, f *schema.Field, member *tree.Member, path string, inBody bool) {
	value := member.Value
	if value.Kind == tree.Invalid {
		d.bad[path] = true
		return
	}
	if value.Kind == tree.Null {
		return // as if it were not there
	}
	if f.Kind != schema.Block && len(member.Labels) > 0 {
		d.fail(member.Labels[0].Pos, path, "", "%s takes no label", f.Name)
		return
	}
	switch f.Kind {
	case schema.Scalar:
		if member.Block {
			d.fail(member.Pos, path, fmt.Sprintf("write %s = ...", f.Name), "%s is an attribute, not a block", f.Name)
			return
		}
		if f.List {
			d.scalars(msg, f, member, path)
			return
		}
		d.scalar(f, value, member, path, func(v protoreflect.Value) { msg.Set(f.Desc, v) })
	case schema.Map:
		d.stringMap(msg, f, value, path)
	case schema.Block:
		if inBody && !member.Block {
			hint := fmt.Sprintf("write %s { ... } without the =", f.Name)
			d.fail(member.Pos, path, hint, "%s is a block, not an attribute", f.Name)
			return
		}
		if f.List {
			d.blocks(msg, f, member, path)
			return
		}
		if len(member.Labels) > 0 {
			d.fail(member.Labels[0].Pos, path, "", "%s takes no label", f.Name)
			return
		}
		if !d.isObject(value, path, f.Name) {
			return
		}
		d.message(msg.Mutable(f.Desc).Message(), value, path, f.Name)
	}
}

func (d *decoder) isObject(n *tree.Node, path, name string) bool {
	if n.Kind != tree.Object {
		d.fail(n.Pos, path, "", "%s wants an object, not %s", name, n.Kind)
		return false
	}
	return true
}

// scalar decodes one value and gives it to set.
func (d *decoder) scalar(f *schema.Field, n *tree.Node, member *tree.Member, path string, set func(protoreflect.Value)) {
	own := member.Name == string(f.Desc.Name()) && member.Name != f.Name
	v, err := f.FromNode(n, own)
	if err != nil {
		hint := ""
		if n.Kind == tree.String {
			hint = didYouMean(n.Text, f.Values())
		}
		d.fail(n.Pos, path, hint, "%s %v", member.Name, err)
		return
	}
	if f.Default.IsValid() && !f.Desc.HasPresence() && isZero(v) && !f.List {
		d.fail(n.Pos, path, "leave it out for the default, "+f.Options.GetDefault(), "%s cannot be %s", member.Name, zeroText(n))
		return
	}
	set(v)
}

func zeroText(n *tree.Node) string {
	if n.Text == "" {
		return `""`
	}
	return n.Text
}

func isZero(v protoreflect.Value) bool {
	switch x := v.Interface().(type) {
	case string:
		return x == ""
	case uint32:
		return x == 0
	case uint64:
		return x == 0
	case int32:
		return x == 0
	case int64:
		return x == 0
	}
	return false
}

func (d *decoder) scalars(msg protoreflect.Message, f *schema.Field, member *tree.Member, path string) {
	if member.Value.Kind != tree.List {
		hint := ""
		if member.Value.Kind == tree.String {
			hint = fmt.Sprintf("write [%q]", member.Value.Text)
		}
		d.fail(member.Value.Pos, path, hint, "%s wants a list, not %s", member.Name, member.Value.Kind)
		return
	}
	list := msg.Mutable(f.Desc).List()
	for _, item := range member.Value.Items {
		if item.Kind == tree.Invalid {
			d.bad[path] = true
			continue
		}
		d.scalar(f, item, member, path, list.Append)
	}
}

func (d *decoder) stringMap(msg protoreflect.Message, f *schema.Field, n *tree.Node, path string) {
	if !d.isObject(n, path, f.Name) {
		return
	}
	out := msg.Mutable(f.Desc).Map()
	for _, m := range n.Members {
		keyPath := path + "[" + m.Name + "]"
		d.places[keyPath] = m.Pos
		key := protoreflect.ValueOfString(m.Name).MapKey()
		switch {
		case out.Has(key):
			d.fail(m.Pos, keyPath, "", "%s is given twice in %s", m.Name, f.Name)
		case m.Value.Kind == tree.Invalid:
			d.bad[keyPath] = true
		case m.Value.Kind == tree.String, m.Value.Kind == tree.Number, m.Value.Kind == tree.Bool:
			out.Set(key, protoreflect.ValueOfString(m.Value.Text))
		default:
			d.fail(m.Value.Pos, keyPath, "", "%s in %s wants a string, not %s", m.Name, f.Name, m.Value.Kind)
		}
	}
}
