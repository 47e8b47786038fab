package jobspec

import (
	"math/big"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"

	"github.com/berthd/berth/jobspec/internal/tree"
)

// hclReader makes a tree of an HCL spec: it evaluates the variables, locals and
// functions, and leaves no expression behind.
type hclReader struct {
	found *findings
	opts  *Options
	meter *meter
	ctx   *hcl.EvalContext
	scope scope
}

// readHCL gives the body of the job block; nil when there is none or the text is no HCL.
func readHCL(src []byte, opts *Options, found *findings) *tree.Member {
	body := parseHCL(src, opts.Filename, found)
	if body == nil {
		return nil
	}
	r := &hclReader{found: found, opts: opts, meter: &meter{left: MaxWork}}
	r.ctx = &hcl.EvalContext{Variables: map[string]cty.Value{}}
	var jobs []*hclsyntax.Block
	var variables, locals []*hclsyntax.Block
	for _, b := range body.Blocks {
		switch b.Type {
		case "job":
			jobs = append(jobs, b)
		case "variable":
			variables = append(variables, b)
		case "locals":
			locals = append(locals, b)
		default:
			found.add(posOf(b.TypeRange), "", didYouMean(b.Type, []string{"job", "variable", "locals"}),
				"unknown block %q at the top of the file", b.Type)
		}
	}
	for _, a := range sortedAttributes(body) {
		found.add(posOf(a.NameRange), "", "only the blocks job, variable and locals stand outside of the job",
			"unexpected attribute %q at the top of the file", a.Name)
	}
	r.variables(variables)
	r.locals(locals)
	if len(jobs) == 0 {
		found.add(tree.Pos{}, "", `begin with job "name" { ... }`, "there is no job in the file")
		return nil
	}
	for _, b := range jobs[1:] {
		found.add(posOf(b.TypeRange), "", "a file holds one job", "a second job")
	}
	return r.block(jobs[0])
}

// parseHCL checks the bounds of the text before the recursive parser sees it, and
// parses it. After an error of syntax there is nothing to go on with.
func parseHCL(src []byte, file string, found *findings) *hclsyntax.Body {
	if !boundHCL(src, file, found) {
		return nil
	}
	parsed, diags := hclsyntax.ParseConfig(src, file, hcl.InitialPos)
	addDiags(found, diags)
	if diags.HasErrors() {
		return nil
	}
	body, _ := parsed.Body.(*hclsyntax.Body)
	return body
}

func posOf(r hcl.Range) tree.Pos { return tree.Pos{Line: r.Start.Line, Col: r.Start.Column} }

// addDiags takes over what the HCL library complains about.
func addDiags(found *findings, diags hcl.Diagnostics) {
	for _, d := range diags {
		if d.Severity != hcl.DiagError {
			continue
		}
		var pos tree.Pos
		if d.Subject != nil {
			pos = posOf(*d.Subject)
		}
		text := strings.TrimSuffix(strings.TrimSpace(d.Detail), ".")
		if text == "" {
			text = d.Summary
		}
		// The first sentence is the error, the rest what to do about it.
		text, hint, _ := strings.Cut(strings.Join(strings.Fields(text), " "), ". ")
		if strings.HasPrefix(text, "Template sequences are not allowed") {
			hint = `the label of a block is fixed; a job's name may be written inside it instead: job { name = "vm-${var.n}" ... }`
		}
		found.add(pos, "", lowerFirst(hint), "%s", lowerFirst(text))
	}
}

func lowerFirst(s string) string {
	if s == "" {
		return s
	}
	return strings.ToLower(s[:1]) + s[1:]
}

func sortedAttributes(b *hclsyntax.Body) []*hclsyntax.Attribute {
	var list []*hclsyntax.Attribute
	for _, a := range b.Attributes {
		list = append(list, a)
	}
	slices.SortFunc(list, func(a, b *hclsyntax.Attribute) int { return a.SrcRange.Start.Byte - b.SrcRange.Start.Byte })
	return list
}

func (r *hclReader) block(b *hclsyntax.Block) *tree.Member {
	m := &tree.Member{Name: b.Type, Pos: posOf(b.TypeRange), Block: true, Value: r.body(b.Body)}
	m.Value.Pos = m.Pos
	for i, label := range b.Labels {
		m.Labels = append(m.Labels, tree.Label{Text: label, Pos: posOf(b.LabelRanges[i])})
	}
	return m
}

func (r *hclReader) body(b *hclsyntax.Body) *tree.Node {
	n := &tree.Node{Kind: tree.Object, Pos: posOf(b.SrcRange), Body: true}
	attributes, blocks := sortedAttributes(b), b.Blocks
	for len(attributes)+len(blocks) > 0 {
		if len(blocks) == 0 || len(attributes) > 0 && attributes[0].SrcRange.Start.Byte < blocks[0].TypeRange.Start.Byte {
			a := attributes[0]
			attributes = attributes[1:]
			n.Members = append(n.Members, &tree.Member{Name: a.Name, Pos: posOf(a.NameRange), Value: r.expr(a.Expr)})
			continue
		}
		n.Members = append(n.Members, r.block(blocks[0]))
		blocks = blocks[1:]
	}
	return n
}

// expr makes a node of an expression. Lists and objects that stand there in so many
// words keep the places of their elements.
func (r *hclReader) expr(e hclsyntax.Expression) *tree.Node {
	pos := posOf(e.Range())
	switch e := e.(type) {
	case *hclsyntax.TupleConsExpr:
		n := &tree.Node{Kind: tree.List, Pos: pos}
		for _, item := range e.Exprs {
			n.Items = append(n.Items, r.expr(item))
		}
		return n
	case *hclsyntax.ObjectConsExpr:
		n := &tree.Node{Kind: tree.Object, Pos: pos}
		for _, item := range e.Items {
			key := r.expr(item.KeyExpr)
			if key.Kind == tree.Invalid {
				return key
			}
			if key.Kind != tree.String && key.Kind != tree.Number && key.Kind != tree.Bool {
				r.found.add(key.Pos, "", "", "a key wants to be a string, not %s", key.Kind)
				return &tree.Node{Pos: pos}
			}
			n.Members = append(n.Members, &tree.Member{Name: key.Text, Pos: key.Pos, Value: r.expr(item.ValueExpr)})
		}
		return n
	}
	v, ok := r.eval(e, r.ctx)
	if !ok {
		return &tree.Node{Pos: pos}
	}
	return nodeOfCty(v, pos)
}

// eval gives the value of an expression; false: it was complained about.
func (r *hclReader) eval(e hclsyntax.Expression, ctx *hcl.EvalContext) (cty.Value, bool) {
	rw := &rewriter{found: r.found, scope: r.scope, meter: r.meter}
	e = rw.rewrite(e, nil)
	if rw.failed {
		return cty.NilVal, false
	}
	v, diags := e.Value(ctx)
	if r.meter.spent(r.found, e.Range()) {
		return cty.NilVal, false
	}
	addDiags(r.found, diags)
	if diags.HasErrors() {
		return cty.NilVal, false
	}
	// What is not known comes of a variable or local that was complained about.
	return v, v.IsWhollyKnown()
}

// nodeOfCty makes a tree of a value; all of it stands at one place.
func nodeOfCty(v cty.Value, pos tree.Pos) *tree.Node {
	t := v.Type()
	switch {
	case v.IsNull():
		return &tree.Node{Kind: tree.Null, Pos: pos}
	case t == cty.String:
		return &tree.Node{Kind: tree.String, Text: v.AsString(), Pos: pos}
	case t == cty.Bool:
		n := tree.NewBool(v.True())
		n.Pos = pos
		return n
	case t == cty.Number:
		return &tree.Node{Kind: tree.Number, Text: numberText(v.AsBigFloat()), Pos: pos}
	}
	if !v.CanIterateElements() {
		return &tree.Node{Pos: pos}
	}
	n := &tree.Node{Kind: tree.List, Pos: pos}
	if t.IsObjectType() || t.IsMapType() {
		n.Kind = tree.Object
	}
	for it := v.ElementIterator(); it.Next(); {
		key, item := it.Element()
		if n.Kind == tree.Object {
			n.Members = append(n.Members, &tree.Member{Name: key.AsString(), Pos: pos, Value: nodeOfCty(item, pos)})
			continue
		}
		n.Items = append(n.Items, nodeOfCty(item, pos))
	}
	return n
}

// numberText is a number without an exponent; the meter keeps it short.
func numberText(f *big.Float) string { return f.Text('f', -1) }
