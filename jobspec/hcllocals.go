package jobspec

import (
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
)

// locals evaluates the locals blocks in the order that they need each other.
func (r *hclReader) locals(blocks []*hclsyntax.Block) {
	all := map[string]*hclsyntax.Attribute{}
	for _, b := range blocks {
		for _, label := range b.LabelRanges {
			r.found.add(posOf(label), "", "", "locals takes no label")
		}
		for _, inner := range b.Body.Blocks {
			r.found.add(posOf(inner.TypeRange), "", "write name = value", "locals has no blocks")
		}
		for _, a := range sortedAttributes(b.Body) {
			if all[a.Name] != nil {
				r.found.add(posOf(a.NameRange), "", "", "a second local %q", a.Name)
				continue
			}
			if len(all) >= MaxEntries {
				r.found.add(posOf(a.NameRange), "", "", "more than %d locals", MaxEntries)
				return
			}
			all[a.Name] = a
			r.scope.locals[a.Name] = true
		}
	}
	s := &localSorter{r: r, all: all, values: map[string]cty.Value{}, state: map[string]int{}}
	for _, name := range sortedKeys(all) {
		s.visit(name, nil)
	}
	r.ctx.Variables["local"] = cty.ObjectVal(s.values)
}

// localSorter evaluates locals depth first.
type localSorter struct {
	r      *hclReader
	all    map[string]*hclsyntax.Attribute
	values map[string]cty.Value
	state  map[string]int // 1: being looked at, 2: done
}

func (s *localSorter) visit(name string, path []string) {
	a := s.all[name]
	switch s.state[name] {
	case 2:
		return
	case 1:
		s.r.found.add(posOf(a.NameRange), "", "", "locals need each other in a circle: %s", strings.Join(append(path, name), " -> "))
		return
	}
	s.state[name] = 1
	s.values[name] = cty.DynamicVal // what needs it all the same is not complained about again
	path = append(path[:len(path):len(path)], name)
	for _, t := range a.Expr.Variables() {
		if t.RootName() != "local" || len(t) < 2 {
			continue
		}
		if attr, ok := t[1].(hcl.TraverseAttr); ok && s.all[attr.Name] != nil {
			s.visit(attr.Name, path)
		}
	}
	s.state[name] = 2
	s.r.ctx.Variables["local"] = cty.ObjectVal(s.values)
	if v, ok := s.r.eval(a.Expr, s.r.ctx); ok {
		s.values[name] = v
	}
}
