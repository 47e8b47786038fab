package jobspec

import (
	"fmt"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
)

// runtimeRoots are the names that only the agent knows: ${node.rack} in a string stays
// as it is written until the task starts. So do names that begin with BERTH_.
var runtimeRoots = []string{"node", "meta", "attr", "env"}

func isRuntime(root string) bool {
	if strings.HasPrefix(root, "BERTH_") {
		return true
	}
	for _, r := range runtimeRoots {
		if r == root {
			return true
		}
	}
	return false
}

// scope is the names that expressions may use.
type scope struct {
	variables, locals map[string]bool
}

// rewriter prepares an expression for evaluation: what the agent will fill in becomes
// text, names that do not exist are complained about, and everything else is metered.
type rewriter struct {
	found  *findings
	scope  scope
	meter  *meter
	failed bool
}

// rewrite gives the expression to evaluate instead of e. bound are the names that for
// expressions around it have made.
func (r *rewriter) rewrite(e hclsyntax.Expression, bound []string) hclsyntax.Expression {
	switch x := e.(type) {
	case nil:
		return nil
	case *hclsyntax.LiteralValueExpr:
		if x.Val.Type() == cty.Number && !r.meter.charge(x.Val) {
			r.failed = true
			r.meter.spent(r.found, x.SrcRange)
		}
		return x
	case *hclsyntax.ScopeTraversalExpr:
		r.name(x.Traversal, bound)
	case *hclsyntax.TemplateWrapExpr:
		if text, ok := r.runtime(x.Wrapped, bound); ok {
			return text
		}
		x.Wrapped = r.rewrite(x.Wrapped, bound)
	case *hclsyntax.AnonSymbolExpr:
	default:
		r.inside(e, bound)
	}
	return &metered{Expression: e, meter: r.meter}
}

// inside rewrites the expressions that an expression is made of.
func (r *rewriter) inside(e hclsyntax.Expression, bound []string) {
	re := func(x hclsyntax.Expression) hclsyntax.Expression { return r.rewrite(x, bound) }
	switch x := e.(type) {
	case *hclsyntax.RelativeTraversalExpr:
		x.Source = re(x.Source)
	case *hclsyntax.FunctionCallExpr:
		for i := range x.Args {
			x.Args[i] = re(x.Args[i])
		}
	case *hclsyntax.ConditionalExpr:
		x.Condition, x.TrueResult, x.FalseResult = re(x.Condition), re(x.TrueResult), re(x.FalseResult)
	case *hclsyntax.IndexExpr:
		x.Collection, x.Key = re(x.Collection), re(x.Key)
	case *hclsyntax.TupleConsExpr:
		for i := range x.Exprs {
			x.Exprs[i] = re(x.Exprs[i])
		}
	case *hclsyntax.ObjectConsExpr:
		for i := range x.Items {
			x.Items[i].KeyExpr, x.Items[i].ValueExpr = re(x.Items[i].KeyExpr), re(x.Items[i].ValueExpr)
		}
	case *hclsyntax.ObjectConsKeyExpr:
		if x.ForceNonLiteral || hcl.ExprAsKeyword(x.Wrapped) == "" {
			x.Wrapped = re(x.Wrapped)
		}
	case *hclsyntax.ForExpr:
		x.CollExpr = re(x.CollExpr)
		bound = append(append([]string{}, bound...), x.KeyVar, x.ValVar)
		x.KeyExpr, x.ValExpr, x.CondExpr = re(x.KeyExpr), re(x.ValExpr), re(x.CondExpr)
	case *hclsyntax.SplatExpr:
		x.Source, x.Each = re(x.Source), re(x.Each)
	case *hclsyntax.BinaryOpExpr:
		x.LHS, x.RHS = r.operand(x.LHS, bound), r.operand(x.RHS, bound)
	case *hclsyntax.UnaryOpExpr:
		x.Val = r.operand(x.Val, bound)
	case *hclsyntax.ParenthesesExpr:
		x.Expression = re(x.Expression)
	case *hclsyntax.TemplateExpr:
		for i := range x.Parts {
			x.Parts[i] = r.part(x.Parts[i], bound)
		}
	case *hclsyntax.TemplateJoinExpr:
		x.Tuple = re(x.Tuple)
	default:
		r.failed = true
		r.found.add(posOf(e.Range()), "", "", "this expression is not understood in a job spec")
	}
}

// operand rewrites what an operator takes.
func (r *rewriter) operand(e hclsyntax.Expression, bound []string) hclsyntax.Expression {
	e = r.rewrite(e, bound)
	if m, ok := e.(*metered); ok {
		m.operand = true
		return m
	}
	return &metered{Expression: e, meter: r.meter, operand: true}
}

// part rewrites a part of a template.
func (r *rewriter) part(e hclsyntax.Expression, bound []string) hclsyntax.Expression {
	if text, ok := r.runtime(e, bound); ok {
		return text
	}
	return r.rewrite(e, bound)
}

// runtime gives ${name} as text when the agent is to fill it in.
func (r *rewriter) runtime(e hclsyntax.Expression, bound []string) (hclsyntax.Expression, bool) {
	x, ok := e.(*hclsyntax.ScopeTraversalExpr)
	if !ok || !isRuntime(x.Traversal.RootName()) || contains(bound, x.Traversal.RootName()) {
		return nil, false
	}
	text, ok := traversalText(x.Traversal)
	if !ok {
		return nil, false
	}
	return &hclsyntax.LiteralValueExpr{Val: cty.StringVal("${" + text + "}"), SrcRange: x.SrcRange}, true
}

// traversalText is a traversal as it is written: node.rack, meta["a b"].
func traversalText(t hcl.Traversal) (string, bool) {
	var b strings.Builder
	for _, step := range t {
		switch s := step.(type) {
		case hcl.TraverseRoot:
			b.WriteString(s.Name)
		case hcl.TraverseAttr:
			b.WriteString("." + s.Name)
		case hcl.TraverseIndex:
			switch {
			case s.Key.Type() == cty.String:
				fmt.Fprintf(&b, "[%q]", s.Key.AsString())
			case s.Key.Type() == cty.Number && s.Key.AsBigFloat().IsInt() && s.Key.AsBigFloat().MantExp(nil) < 64:
				b.WriteString("[" + numberText(s.Key.AsBigFloat()) + "]")
			default:
				return "", false
			}
		default:
			return "", false
		}
	}
	return b.String(), true
}

// name complains about a name that does not exist.
func (r *rewriter) name(t hcl.Traversal, bound []string) {
	root := t.RootName()
	if contains(bound, root) {
		return
	}
	fail := func(rng hcl.Range, hint, format string, args ...any) {
		r.failed = true
		r.found.add(posOf(rng), "", hint, format, args...)
	}
	known := map[string]map[string]bool{"var": r.scope.variables, "local": r.scope.locals}[root]
	switch {
	case isRuntime(root):
		text, _ := traversalText(t)
		fail(t.SourceRange(), fmt.Sprintf("inside a string it is kept for the agent: \"${%s}\"", text),
			"%s is known only where the task runs", text)
	case root != "var" && root != "local":
		hint := didYouMean(root, append([]string{"var", "local"}, runtimeRoots...))
		if r.scope.variables[root] {
			hint = fmt.Sprintf("did you mean var.%s?", root)
		} else if r.scope.locals[root] {
			hint = fmt.Sprintf("did you mean local.%s?", root)
		} else if hint == "" {
			hint = "a string is written in quotes"
		}
		fail(t.SourceRange(), hint, "unknown name %q", root)
	case len(t) < 2:
		fail(t.SourceRange(), fmt.Sprintf("write %s.NAME", root), "%s alone is no value", root)
	default:
		attr, ok := t[1].(hcl.TraverseAttr)
		if !ok || known[attr.Name] {
			return
		}
		what := map[string]string{"var": "variable", "local": "local"}[root]
		hint := didYouMean(attr.Name, sortedKeys(known))
		if hint == "" && root == "var" {
			hint = fmt.Sprintf("declare it: variable %q {}", attr.Name)
		}
		fail(attr.SrcRange, hint, "unknown %s %q", what, attr.Name)
	}
}

func contains(names []string, name string) bool {
	for _, n := range names {
		if n == name {
			return true
		}
	}
	return false
}
