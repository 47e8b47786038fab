package jobspec

import (
	"fmt"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/ext/typeexpr"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"

	"github.com/berthd/berth/jobspec/internal/tree"
)

// variable is one that a spec declares.
type variable struct {
	block    *hclsyntax.Block
	typ      cty.Type
	defaults *typeexpr.Defaults
	value    cty.Value // NilVal: none yet
	set      bool
}

// variables evaluates the variable blocks: default, then the environment, then the
// files in order, then the values given one by one.
func (r *hclReader) variables(blocks []*hclsyntax.Block) {
	declared := map[string]*variable{}
	r.scope.variables, r.scope.locals = map[string]bool{}, map[string]bool{}
	r.ctx.Functions = r.functions()
	for _, b := range blocks {
		if len(b.Labels) != 1 {
			r.found.add(posOf(b.TypeRange), "", `write variable "name" { ... }`, "a variable takes one label, its name")
			continue
		}
		name := b.Labels[0]
		switch {
		case !hclsyntax.ValidIdentifier(name):
			r.found.add(posOf(b.LabelRanges[0]), "", "", "%q cannot be the name of a variable", name)
		case len(declared) >= MaxEntries:
			r.found.add(posOf(b.LabelRanges[0]), "", "", "more than %d variables", MaxEntries)
			return
		case declared[name] != nil:
			r.found.add(posOf(b.LabelRanges[0]), "", "", "a second variable %q", name)
		default:
			declared[name] = r.declare(b)
			r.scope.variables[name] = true
		}
	}
	for _, name := range sortedKeys(r.opts.EnvVariables) {
		if v := declared[name]; v != nil {
			r.fromText(v, name, r.opts.EnvVariables[name])
		}
	}
	for _, f := range r.opts.VarFiles {
		r.varFile(declared, f)
	}
	for _, name := range sortedKeys(r.opts.Variables) {
		v := declared[name]
		if v == nil {
			r.found.add(tree.Pos{}, "", didYouMean(name, sortedKeys(declared)), "a value is given for the variable %q, which the spec does not declare", name)
			continue
		}
		r.fromText(v, name, r.opts.Variables[name])
	}
	values := map[string]cty.Value{}
	for _, name := range sortedKeys(declared) {
		v := declared[name]
		values[name] = v.value
		if v.value == cty.NilVal {
			if !v.set {
				r.found.add(posOf(v.block.LabelRanges[0]), "", fmt.Sprintf("give it: -var %s=...", name), "the variable %q has no value and no default", name)
			}
			values[name] = cty.DynamicVal
		}
	}
	r.ctx.Variables["var"] = cty.ObjectVal(values)
	for _, name := range sortedKeys(declared) {
		if declared[name].value != cty.NilVal {
			r.validations(declared[name])
		}
	}
}

// declare reads a variable block but for its validations, which need all values.
func (r *hclReader) declare(b *hclsyntax.Block) *variable {
	v := &variable{block: b, typ: cty.DynamicPseudoType}
	if a := b.Body.Attributes["type"]; a != nil {
		t, defaults, diags := typeexpr.TypeConstraintWithDefaults(a.Expr)
		addDiags(r.found, diags)
		if !diags.HasErrors() {
			v.typ, v.defaults = t, defaults
		} else {
			v.set = true
		}
	}
	known := []string{"type", "default", "description", "validation"}
	for _, a := range sortedAttributes(b.Body) {
		switch a.Name {
		case "type":
		case "default":
			if value, ok := r.eval(a.Expr, &hcl.EvalContext{Functions: r.ctx.Functions}); ok {
				r.assign(v, b.Labels[0], value, posOf(a.Expr.Range()))
			}
			v.set = true
		case "description":
			if value, ok := r.eval(a.Expr, &hcl.EvalContext{}); ok && value.Type() != cty.String {
				r.found.add(posOf(a.Expr.Range()), "", "", "description wants a string")
			}
		default:
			r.found.add(posOf(a.NameRange), "", didYouMean(a.Name, known), "unknown attribute %q in variable %q", a.Name, b.Labels[0])
		}
	}
	for _, inner := range b.Body.Blocks {
		if inner.Type != "validation" {
			r.found.add(posOf(inner.TypeRange), "", didYouMean(inner.Type, known), "unknown block %q in variable %q", inner.Type, b.Labels[0])
		}
	}
	return v
}

// assign converts a value to the variable's type and keeps it.
func (r *hclReader) assign(v *variable, name string, value cty.Value, pos tree.Pos) {
	v.set = true
	if v.defaults != nil && !value.IsNull() {
		value = v.defaults.Apply(value)
	}
	converted, err := convert.Convert(value, v.typ)
	if err != nil {
		r.found.add(pos, "", "", "the variable %q wants %s: %v", name, v.typ.FriendlyNameForConstraint(), err)
		return
	}
	if !r.meter.charge(converted) {
		r.meter.spent(r.found, v.block.TypeRange)
		return
	}
	v.value = converted
}

// fromText takes a value from the command line or the environment: as it stands for a
// string, otherwise as an HCL expression.
func (r *hclReader) fromText(v *variable, name, text string) {
	pos := posOf(v.block.LabelRanges[0])
	if v.typ == cty.String {
		r.assign(v, name, cty.StringVal(text), pos)
		return
	}
	found := &findings{}
	file := "value of variable " + name
	fail := func() {
		if v.typ == cty.DynamicPseudoType {
			r.assign(v, name, cty.StringVal(text), pos) // words need no quotes where anything goes
			return
		}
		v.set = true
		r.found.add(pos, "", "", "the value given for the variable %q is not %s", name, v.typ.FriendlyNameForConstraint())
	}
	if len(text) > MaxSource || !boundHCL([]byte(text), file, found) {
		fail()
		return
	}
	e, diags := hclsyntax.ParseExpression([]byte(text), file, hcl.InitialPos)
	if diags.HasErrors() {
		fail()
		return
	}
	sub := &hclReader{found: found, opts: r.opts, meter: r.meter}
	value, ok := sub.eval(e, &hcl.EvalContext{})
	if !ok {
		fail()
		return
	}
	r.assign(v, name, value, pos)
}

// varFile takes the values of a file: HCL attributes, or a JSON object.
func (r *hclReader) varFile(declared map[string]*variable, f File) {
	found := &findings{}
	set := func(key string, pos tree.Pos, value cty.Value) {
		if v := declared[key]; v != nil {
			sub := &hclReader{found: found, opts: r.opts, meter: r.meter}
			sub.assign(v, key, value, pos)
			return
		}
		found.add(pos, "", didYouMean(key, sortedKeys(declared)), "the spec declares no variable %q", key)
	}
	switch {
	case len(f.Data) > MaxSource:
		found.add(tree.Pos{}, "", "", "the file is larger than %d MiB", MaxSource>>20)
	case strings.HasSuffix(f.Name, ".json"):
		root := readJSON(f.Data, found)
		if root != nil && root.Kind != tree.Object {
			found.add(root.Pos, "", "", "a file of variables holds an object, not %s", root.Kind)
		} else if root != nil {
			for _, m := range root.Members {
				set(m.Name, m.Pos, ctyOf(m.Value))
			}
		}
	default:
		body := parseHCL(f.Data, f.Name, found)
		if body == nil {
			break
		}
		for _, b := range body.Blocks {
			found.add(posOf(b.TypeRange), "", "write name = value", "a file of variables has no blocks")
		}
		for _, a := range sortedAttributes(body) {
			sub := &hclReader{found: found, opts: r.opts, meter: r.meter}
			if value, ok := sub.eval(a.Expr, &hcl.EvalContext{}); ok {
				set(a.Name, posOf(a.NameRange), value)
			} else if v := declared[a.Name]; v != nil {
				v.set = true
			}
		}
	}
	r.found.adopt(found, f.Name, f.Data)
}

// ctyOf is a tree as a value of HCL.
func ctyOf(n *tree.Node) cty.Value {
	switch n.Kind {
	case tree.Bool:
		return cty.BoolVal(n.Text == "true")
	case tree.String:
		return cty.StringVal(n.Text)
	case tree.Number:
		v, err := cty.ParseNumberVal(n.Text)
		if err == nil {
			return v
		}
	case tree.List:
		items := []cty.Value{}
		for _, item := range n.Items {
			items = append(items, ctyOf(item))
		}
		return cty.TupleVal(items)
	case tree.Object:
		members := map[string]cty.Value{}
		for _, m := range n.Members {
			members[m.Name] = ctyOf(m.Value)
		}
		return cty.ObjectVal(members)
	}
	return cty.NullVal(cty.DynamicPseudoType)
}

// validations checks a variable's own conditions.
func (r *hclReader) validations(v *variable) {
	for _, b := range v.block.Body.Blocks {
		if b.Type != "validation" {
			continue
		}
		for _, a := range sortedAttributes(b.Body) {
			if a.Name != "condition" && a.Name != "error_message" {
				r.found.add(posOf(a.NameRange), "", didYouMean(a.Name, []string{"condition", "error_message"}), "unknown attribute %q in validation", a.Name)
			}
		}
		condition := b.Body.Attributes["condition"]
		if condition == nil {
			r.found.add(posOf(b.TypeRange), "", "", "validation needs a condition")
			continue
		}
		ok, evaluated := r.eval(condition.Expr, r.ctx)
		if !evaluated {
			continue
		}
		if ok, err := convert.Convert(ok, cty.Bool); err != nil || ok.IsNull() {
			r.found.add(posOf(condition.Expr.Range()), "", "", "condition wants true or false")
		} else if ok.False() {
			r.found.add(posOf(v.block.LabelRanges[0]), "", "", "the variable %q: %s", v.block.Labels[0], r.message(b))
		}
	}
}

func (r *hclReader) message(b *hclsyntax.Block) string {
	if a := b.Body.Attributes["error_message"]; a != nil {
		if v, ok := r.eval(a.Expr, r.ctx); ok && v.Type() == cty.String && !v.IsNull() {
			return v.AsString()
		}
	}
	return "its value is not allowed"
}
