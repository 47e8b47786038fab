package jobspec

import (
	"bytes"
	"fmt"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/berthd/berth/jobspec/internal/schema"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// Diff tells what is different between two jobs, in the order of the schema; nil stands
// for no job. What the servers set is passed over, and of what was added or removed as a
// whole, what it has by default. Compare canonical jobs, or defaults will show.
func Diff(before, after *berthv1.Job) []*berthv1.FieldDiff {
	if before == nil {
		before = &berthv1.Job{}
	}
	if after == nil {
		after = &berthv1.Job{}
	}
	d := &differ{whole: before.GetName() == "" || after.GetName() == ""}
	d.message(before.ProtoReflect(), after.ProtoReflect(), "")
	return d.diffs
}

type differ struct {
	diffs []*berthv1.FieldDiff
	// whole: all that is being looked at was added or removed. What is as it would be by
	// default is not told then.
	whole bool
}

func (d *differ) add(path, before, after string, had, has bool) {
	kind := berthv1.FieldDiff_edited
	switch {
	case !had:
		kind = berthv1.FieldDiff_added
	case !has:
		kind = berthv1.FieldDiff_removed
	case before == after:
		return
	}
	d.diffs = append(d.diffs, &berthv1.FieldDiff{Kind: kind, Path: path, Old: before, New: after})
}

func (d *differ) message(a, b protoreflect.Message, path string) {
	m := schema.Of(a.Descriptor())
	for _, f := range m.Fields {
		had, has := a.Has(f.Desc), b.Has(f.Desc)
		if f.Kind == schema.Internal || f == m.Label && path != "" || !had && !has {
			continue
		}
		va, vb, at := a.Get(f.Desc), b.Get(f.Desc), join(path, string(f.Desc.Name()))
		switch {
		case f.Kind == schema.Scalar:
			if d.whole && f.Default.IsValid() && (f.Default.Equal(va) || f.Default.Equal(vb)) {
				continue
			}
			d.add(at, scalarText(f, va, had), scalarText(f, vb, has), had, has)
		case f.Kind == schema.Map:
			d.entries(va.Map(), vb.Map(), at)
		case f.Kind == schema.Free:
			sa, _ := va.Message().Interface().(*structpb.Struct)
			sb, _ := vb.Message().Interface().(*structpb.Struct)
			d.free(sa, sb, at)
		case f.List && f.Message().Label != nil:
			d.labelled(f.Message(), va.List(), vb.List(), at)
		case f.List:
			d.unlabelled(va.List(), vb.List(), at)
		case had != has && !d.whole:
			d.element(either(va, had), either(vb, has), at)
		default:
			d.message(va.Message(), vb.Message(), at)
		}
	}
}

// either is a message, or nil when it is not there.
func either(v protoreflect.Value, set bool) protoreflect.Message {
	if !set {
		return nil
	}
	return v.Message()
}

// scalarText is a value, or a list of them, as people write it; "" when it is not there.
func scalarText(f *schema.Field, v protoreflect.Value, set bool) string {
	if !set {
		return ""
	}
	if !f.List {
		return f.Human(v).Text
	}
	var texts []string
	for i := range v.List().Len() {
		texts = append(texts, f.Human(v.List().Get(i)).Text)
	}
	return strings.Join(texts, ", ")
}

func (d *differ) entries(a, b protoreflect.Map, path string) {
	keys := map[string]bool{}
	for _, m := range []protoreflect.Map{a, b} {
		for k := range m.Range {
			keys[k.String()] = true
		}
	}
	for _, key := range sortedKeys(keys) {
		k := protoreflect.ValueOfString(key).MapKey()
		var ta, tb string
		if a.Has(k) {
			ta = a.Get(k).String()
		}
		if b.Has(k) {
			tb = b.Get(k).String()
		}
		d.add(path+"["+key+"]", ta, tb, a.Has(k), b.Has(k))
	}
}

// labelled compares lists of named things: what has the same name is the same thing.
func (d *differ) labelled(m *schema.Message, a, b protoreflect.List, path string) {
	old := map[string]protoreflect.Message{}
	for i, key := range elementKeys(m, a) {
		old[key] = a.Get(i).Message()
	}
	kept := map[string]bool{}
	keys := elementKeys(m, b)
	for _, key := range keys {
		kept[key] = true
	}
	for i, key := range elementKeys(m, a) {
		if !kept[key] {
			d.element(a.Get(i).Message(), nil, path+"["+key+"]")
		}
	}
	for i, key := range keys {
		d.element(old[key], b.Get(i).Message(), path+"["+key+"]")
	}
}

// unlabelled compares lists of things without a name: those that are equal are the same,
// the others are matched in their order.
func (d *differ) unlabelled(a, b protoreflect.List, path string) {
	used := make([]bool, b.Len())
	var rest []int
	for i := range a.Len() {
		if j := findEqual(a.Get(i).Message(), b, used); j >= 0 {
			used[j] = true
		} else {
			rest = append(rest, i)
		}
	}
	for j := range b.Len() {
		at := fmt.Sprintf("%s[%d]", path, j)
		switch {
		case used[j]:
		case len(rest) > 0:
			d.element(a.Get(rest[0]).Message(), b.Get(j).Message(), at)
			rest = rest[1:]
		default:
			d.element(nil, b.Get(j).Message(), at)
		}
	}
	for _, i := range rest {
		d.element(a.Get(i).Message(), nil, fmt.Sprintf("%s[%d]", path, i))
	}
}

func findEqual(m protoreflect.Message, list protoreflect.List, used []bool) int {
	for j := range list.Len() {
		if !used[j] && proto.Equal(m.Interface(), list.Get(j).Message().Interface()) {
			return j
		}
	}
	return -1
}

// element compares two of a list; nil: there is none on that side. The thing itself is
// told, and then what is in it.
func (d *differ) element(a, b protoreflect.Message, path string) {
	defer func(before bool) { d.whole = before }(d.whole)
	switch {
	case a == nil:
		d.add(path, "", "", false, true)
		a, d.whole = b.Type().Zero(), true
	case b == nil:
		d.add(path, "", "", true, false)
		b, d.whole = a.Type().Zero(), true
	}
	d.message(a, b, path)
}

func (d *differ) free(a, b *structpb.Struct, path string) {
	keys := map[string]bool{}
	for _, s := range []*structpb.Struct{a, b} {
		for k := range s.GetFields() {
			keys[k] = true
		}
	}
	for _, key := range sortedKeys(keys) {
		va, had := a.GetFields()[key]
		vb, has := b.GetFields()[key]
		at := join(path, key)
		sa, sb := va.GetStructValue(), vb.GetStructValue()
		if (sa != nil || !had) && (sb != nil || !has) {
			if had != has {
				d.add(at, "", "", had, has)
			}
			d.free(sa, sb, at)
			continue
		}
		d.add(at, valueText(va), valueText(vb), had, has)
	}
}

// valueText is a free value on one line, as JSON; "" where there is none.
func valueText(v *structpb.Value) string {
	if v == nil {
		return ""
	}
	var b bytes.Buffer
	writeJSON(&b, nodeOf(v))
	return b.String()
}
