package runner

import (
	"fmt"
	"sort"
	"strings"

	"google.golang.org/protobuf/types/known/structpb"

	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// names are what ${...} may stand for in a task's env and config.
type names struct {
	node *berthv1.Node
	env  map[string]string
}

// lookup gives the value of a name: node.*, meta.* (the node's), attr.* or a bare
// attribute, env.* or a bare variable.
func (n names) lookup(name string) (string, bool) {
	if v, ok := n.env[strings.TrimPrefix(name, "env.")]; ok {
		return v, true
	}
	switch name {
	case "node.id":
		return n.node.GetId(), true
	case "node.name":
		return n.node.GetName(), true
	case "node.pool":
		return n.node.GetPool(), true
	case "node.arch":
		return n.node.GetArch(), true
	case "node.address":
		return n.node.GetAddress(), true
	}
	if key, ok := strings.CutPrefix(name, "meta."); ok {
		v, ok := n.node.GetMeta()[key]
		return v, ok
	}
	v, ok := n.node.GetAttributes()[strings.TrimPrefix(name, "attr.")]
	return v, ok
}

// expand replaces every ${name} of text; $${ stands for ${ itself. field is for errors.
func (n names) expand(field, text string) (string, error) {
	var b strings.Builder
	rest := text
	for {
		before, after, found := strings.Cut(rest, "${")
		if !found {
			b.WriteString(rest)
			return b.String(), nil
		}
		if escaped, ok := strings.CutSuffix(before, "$"); ok {
			b.WriteString(escaped + "${")
			rest = after
			continue
		}
		b.WriteString(before)
		name, tail, closed := strings.Cut(after, "}")
		if !closed {
			return "", problem.New(problem.Invalid, field, "%q has a ${ that is not closed", clip(text)).
				WithRemedy("close it with }, or write $${ for a literal ${")
		}
		v, ok := n.lookup(strings.TrimSpace(name))
		if !ok {
			return "", problem.New(problem.Invalid, field, "${%s} is not known on this node", clip(name)).
				WithRemedy("use node.*, meta.*, a node attribute or a BERTH_ variable, or write $${ for a literal ${")
		}
		b.WriteString(v)
		rest = tail
	}
}

// expandStruct expands every string in a config block; the block itself is not changed.
func (n names) expandStruct(field string, s *structpb.Struct) (*structpb.Struct, error) {
	if s == nil {
		return nil, nil
	}
	out := &structpb.Struct{Fields: make(map[string]*structpb.Value, len(s.GetFields()))}
	for _, key := range sortedKeys(s.GetFields()) {
		v, err := n.expandValue(field+"."+key, s.GetFields()[key])
		if err != nil {
			return nil, err
		}
		out.Fields[key] = v
	}
	return out, nil
}

func (n names) expandValue(field string, v *structpb.Value) (*structpb.Value, error) {
	switch k := v.GetKind().(type) {
	case *structpb.Value_StringValue:
		text, err := n.expand(field, k.StringValue)
		return structpb.NewStringValue(text), err
	case *structpb.Value_StructValue:
		s, err := n.expandStruct(field, k.StructValue)
		return structpb.NewStructValue(s), err
	case *structpb.Value_ListValue:
		list := &structpb.ListValue{}
		for i, item := range k.ListValue.GetValues() {
			v, err := n.expandValue(fmt.Sprintf("%s[%d]", field, i), item)
			if err != nil {
				return nil, err
			}
			list.Values = append(list.Values, v)
		}
		return structpb.NewListValue(list), nil
	}
	return v, nil
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}

// clip keeps a text that somebody else wrote short enough for a message.
func clip(s string) string {
	if len(s) > 80 {
		return s[:77] + "..."
	}
	return s
}
