package jobspec

import (
	"fmt"
	"regexp"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
)

// maxMelded bounds what the parser copies: it puts the pieces of a text (lines, and what
// stands between its % and $) together one by one.
const maxMelded = 256 << 20

// boundHCL refuses a text that could exhaust the stack of the recursive parser, or of
// the evaluation after it.
func boundHCL(src []byte, file string, found *findings) bool {
	tokens, _ := hclsyntax.LexConfig(src, file, hcl.InitialPos) // errors come again from the parser
	depth, operators, run, melded := 0, 0, 0, 0
	for _, t := range tokens {
		if t.Type == hclsyntax.TokenQuotedLit || t.Type == hclsyntax.TokenStringLit {
			run += len(t.Bytes)
			melded += run
		} else {
			run = 0
		}
		switch t.Type {
		case hclsyntax.TokenOBrace, hclsyntax.TokenOParen, hclsyntax.TokenOBrack, hclsyntax.TokenOQuote, hclsyntax.TokenOHeredoc:
			depth++
		case hclsyntax.TokenTemplateInterp, hclsyntax.TokenTemplateControl:
			depth++
			operators++
		case hclsyntax.TokenCBrace, hclsyntax.TokenCParen, hclsyntax.TokenCBrack, hclsyntax.TokenCQuote, hclsyntax.TokenCHeredoc, hclsyntax.TokenTemplateSeqEnd:
			depth = max(0, depth-1)
		}
		switch t.Type {
		case hclsyntax.TokenOBrack, hclsyntax.TokenQuestion, hclsyntax.TokenBang, hclsyntax.TokenPlus, hclsyntax.TokenMinus,
			hclsyntax.TokenStar, hclsyntax.TokenSlash, hclsyntax.TokenPercent, hclsyntax.TokenAnd, hclsyntax.TokenOr,
			hclsyntax.TokenEqualOp, hclsyntax.TokenNotEqual, hclsyntax.TokenLessThan, hclsyntax.TokenGreaterThan,
			hclsyntax.TokenLessThanEq, hclsyntax.TokenGreaterThanEq:
			operators++
		}
		if melded > maxMelded {
			found.add(posOf(t.Range), "", "keep it in a file and read that with file()", "too long a text in too many lines")
			return false
		}
		if depth > MaxDepth {
			found.add(posOf(t.Range), "", "", "braces, brackets and templates nest deeper than %d", MaxDepth)
			return false
		}
		if operators > MaxOperators {
			found.add(posOf(t.Range), "", "", "more than %d operators, lists and templates", MaxOperators)
			return false
		}
	}
	return true
}

// meter bounds what evaluating a spec may make, so that for expressions and strings
// that double do not exhaust the memory of the server that reads them.
type meter struct {
	left  int
	told  bool
	large bool // a number with too many digits was made
}

// maxExponent bounds numbers to those of a float64, which have up to 330 digits: their text
// would be as long.
const maxExponent = 1080

// charge takes the size of a value from what is left; false: nothing is.
func (m *meter) charge(v cty.Value) bool {
	m.left -= 32
	if m.left < 0 || v == cty.NilVal || v.IsNull() || !v.IsKnown() {
		return m.left >= 0
	}
	t := v.Type()
	switch {
	case t == cty.String:
		m.left -= len(v.AsString())
	case t == cty.Number && isLarge(v):
		m.large, m.left = true, -1
	case v.CanIterateElements():
		for it := v.ElementIterator(); it.Next() && m.left >= 0; {
			key, item := it.Element()
			if t.IsMapType() || t.IsObjectType() {
				m.left -= len(key.AsString())
			}
			m.charge(item)
		}
	}
	return m.left >= 0
}

func isLarge(v cty.Value) bool {
	f := v.AsBigFloat()
	return f.IsInf() || f.MantExp(nil) > maxExponent || f.MantExp(nil) < -maxExponent
}

// largeNumber is a text that would become a number with too many digits.
var largeNumber = regexp.MustCompile(`^\s*[+-]?\d*\.?\d*[eE][+-]?\d{4,}\s*$`)

// spent complains, once, when nothing is left.
func (m *meter) spent(found *findings, r hcl.Range) bool {
	if m.left >= 0 {
		return false
	}
	if !m.told {
		m.told = true
		if m.large {
			found.add(posOf(r), "", "", "a number here has too many digits")
		} else {
			found.add(posOf(r), "", fmt.Sprintf("the expressions of a spec make at most %d MiB of values", MaxWork>>20), "this and what was before it make too many values")
		}
	}
	return true
}

// metered is an expression whose values are charged for. Embedding gives it the rest of
// the closed interface.
type metered struct {
	hclsyntax.Expression
	meter *meter
	// operand: a string here is about to become a number.
	operand bool
}

// Value evaluates the expression and charges for what it made.
func (e *metered) Value(ctx *hcl.EvalContext) (cty.Value, hcl.Diagnostics) {
	if e.meter.left < 0 {
		return cty.DynamicVal, e.exhausted()
	}
	v, diags := e.Expression.Value(ctx)
	if !diags.HasErrors() && e.operand && v.Type() == cty.String && v.IsKnown() && !v.IsNull() && largeNumber.MatchString(v.AsString()) {
		e.meter.large, e.meter.left = true, -1
	}
	if !diags.HasErrors() && !e.meter.charge(v) {
		return cty.DynamicVal, e.exhausted()
	}
	return v, diags
}

func (e *metered) exhausted() hcl.Diagnostics {
	r := e.Range()
	return hcl.Diagnostics{{Severity: hcl.DiagError, Summary: "Too many values", Subject: &r}}
}
