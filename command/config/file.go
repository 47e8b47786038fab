package config

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"

	"github.com/berthd/berth/command/near"
	"github.com/berthd/berth/jobspec"
)

// MaxFileBytes bounds a configuration file, and with it what the recursive HCL parser can be made to do.
const MaxFileBytes = 64 << 10

// Parse reads one file over c. On an error, which is a *jobspec.Errors, c is unchanged.
func (c *Config) Parse(name string, src []byte) error {
	p := &parser{name: name, lines: strings.Split(string(src), "\n")}
	if len(src) > MaxFileBytes {
		p.add(hcl.Range{}, "the file is longer than 64 KiB", "")
		return p.err()
	}
	if err := nesting(src); err != "" {
		p.add(hcl.Range{}, err, "")
		return p.err()
	}
	file, diags := hclsyntax.ParseConfig(src, name, hcl.InitialPos)
	for _, d := range diags {
		rng := hcl.Range{}
		if d.Subject != nil {
			rng = *d.Subject
		}
		p.add(rng, lowerFirst(d.Summary)+": "+lowerFirst(strings.TrimSuffix(d.Detail, ".")), "")
	}
	if len(p.found) > 0 {
		return p.err()
	}
	next := *c
	body, ok := file.Body.(*hclsyntax.Body)
	if !ok {
		p.add(hcl.Range{}, "the file is not HCL", "")
		return p.err()
	}
	p.body(body, reflect.ValueOf(&next).Elem(), "")
	if len(p.found) > 0 {
		return p.err()
	}
	*c = next
	return nil
}

// maxNesting is far beyond what a configuration needs, and far below what would exhaust
// the stack of the HCL parser, which recurses.
const maxNesting = 100

func nesting(src []byte) string {
	depth := 0
	for _, b := range src {
		switch b {
		case '{', '[', '(':
			if depth++; depth > maxNesting {
				return "brackets are nested too deeply"
			}
		case '}', ']', ')':
			depth = max(0, depth-1)
		}
	}
	return ""
}

// parser collects what is wrong with one file.
type parser struct {
	name  string
	lines []string
	found []jobspec.Diagnostic
}

func (p *parser) add(rng hcl.Range, summary, hint string) {
	d := jobspec.Diagnostic{File: p.name, Line: rng.Start.Line, Col: rng.Start.Column, Summary: summary, Hint: hint}
	if i := rng.Start.Line - 1; i >= 0 && i < len(p.lines) {
		d.Snippet = strings.TrimSuffix(p.lines[i], "\r")
	}
	p.found = append(p.found, d)
}

func (p *parser) err() error {
	slices.SortStableFunc(p.found, func(a, b jobspec.Diagnostic) int { return (a.Line-b.Line)<<12 + a.Col - b.Col })
	e := &jobspec.Errors{Diagnostics: p.found}
	if n := len(p.found); n > jobspec.MaxDiagnostics {
		e.Diagnostics, e.More = p.found[:jobspec.MaxDiagnostics], n-jobspec.MaxDiagnostics
	}
	return e
}

// body reads a block into the struct that describes it.
func (p *parser) body(body *hclsyntax.Body, block reflect.Value, path string) {
	fields := fieldsOf(block, path)
	where := or(path, "the configuration")
	find := func(name string) *field {
		for i := range fields {
			if fields[i].name == name {
				return &fields[i]
			}
		}
		return nil
	}
	for _, attr := range body.Attributes {
		f := find(attr.Name)
		switch {
		case f == nil:
			p.add(attr.NameRange, fmt.Sprintf("unknown attribute %q in %s", attr.Name, where), suggestion(attr.Name, fields))
		case f.block:
			p.add(attr.NameRange, fmt.Sprintf("%q is a block", attr.Name), fmt.Sprintf("write it as %s { ... }", attr.Name))
		default:
			p.attribute(attr, f)
		}
	}
	seen := map[string]bool{}
	for _, b := range body.Blocks {
		f := find(b.Type)
		switch {
		case f == nil:
			p.add(b.TypeRange, fmt.Sprintf("unknown block %q in %s", b.Type, where), suggestion(b.Type, fields))
		case !f.block && f.value.Kind() == reflect.Map:
			p.add(b.TypeRange, fmt.Sprintf("%q is an attribute", b.Type), fmt.Sprintf("write it as %s = { ... }", b.Type))
		case !f.block:
			p.add(b.TypeRange, fmt.Sprintf("%q is an attribute, not a block", b.Type), fmt.Sprintf("write it as %s = ...", b.Type))
		case len(b.Labels) > 0:
			p.add(b.LabelRanges[0], fmt.Sprintf("the block %q takes no label", b.Type), "")
		case seen[b.Type]:
			p.add(b.TypeRange, fmt.Sprintf("the block %q is there twice in this file", b.Type), "put both into one")
		default:
			seen[b.Type] = true
			p.body(b.Body, f.value, f.path)
		}
	}
}

func suggestion(typed string, fields []field) string {
	names := make([]string, 0, len(fields))
	for _, f := range fields {
		names = append(names, f.name)
	}
	if meant := near.Word(typed, names); meant != "" {
		return fmt.Sprintf("did you mean %q?", meant)
	}
	return "there are " + strings.Join(names, ", ")
}

// attribute evaluates one attribute and sets what it is for.
func (p *parser) attribute(attr *hclsyntax.Attribute, f *field) {
	rng := attr.Expr.StartRange()
	v := cty.DynamicVal
	var diags hcl.Diagnostics
	if isPlain(attr.Expr) {
		v, diags = attr.Expr.Value(nil)
	}
	if diags.HasErrors() || !isPlain(attr.Expr) {
		p.add(rng, fmt.Sprintf("%s must be a plain value: variables and functions do not exist here", f.path), "")
		return
	}
	if !v.IsWhollyKnown() || v.IsNull() {
		p.add(rng, f.path+" has no value", "leave it out for its default")
		return
	}
	if w := f.setValue(v); w != nil {
		p.add(rng, f.path+": "+w.reason, w.hint)
	}
}

func lowerFirst(text string) string {
	if text == "" {
		return text
	}
	return strings.ToLower(text[:1]) + text[1:]
}

func or(text, other string) string {
	if text == "" {
		return other
	}
	return text
}
