package config

import (
	"fmt"
	"reflect"
	"slices"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
)

// isPlain says whether an expression is a value written out, and not a computation,
// which could take as long as it likes.
func isPlain(e hclsyntax.Expression) bool {
	all := func(list []hclsyntax.Expression) bool {
		return !slices.ContainsFunc(list, func(e hclsyntax.Expression) bool { return !isPlain(e) })
	}
	switch e := e.(type) {
	case *hclsyntax.LiteralValueExpr:
		return true
	case *hclsyntax.TemplateExpr:
		return !slices.ContainsFunc(e.Parts, func(part hclsyntax.Expression) bool {
			_, ok := part.(*hclsyntax.LiteralValueExpr)
			return !ok
		})
	case *hclsyntax.UnaryOpExpr:
		return isPlain(e.Val)
	case *hclsyntax.TupleConsExpr:
		return all(e.Exprs)
	case *hclsyntax.ObjectConsExpr:
		for _, item := range e.Items {
			key, ok := item.KeyExpr.(*hclsyntax.ObjectConsKeyExpr)
			if !ok || hcl.ExprAsKeyword(key.Wrapped) == "" && !isPlain(key.Wrapped) || !isPlain(item.ValueExpr) {
				return false
			}
		}
		return true
	}
	return false
}

// setValue sets an attribute from a file's value; its type must be the right one.
func (f *field) setValue(v cty.Value) *wrong {
	mistyped := func(want string) *wrong {
		return &wrong{fmt.Sprintf("this is %s, and %s is needed", typeWord(v.Type()), want), ""}
	}
	kind, t := f.value.Kind(), v.Type()
	switch {
	case f.value.Type() == durationType, f.value.Type() == sizeType, kind == reflect.String:
		if t != cty.String {
			return mistyped("a string in quotes")
		}
		return f.setString(v.AsString())
	case kind == reflect.Int:
		n, exact := number(v)
		if t != cty.Number || !exact {
			return mistyped("a whole number")
		}
		return f.setInt(n)
	case kind == reflect.Bool:
		if t != cty.Bool {
			return mistyped("true or false")
		}
		f.value.SetBool(v.True())
		return nil
	case kind == reflect.Map:
		return f.setObject(v, mistyped)
	}
	return f.setTuple(v, mistyped)
}

func (f *field) setTuple(v cty.Value, mistyped func(string) *wrong) *wrong {
	if !v.Type().IsTupleType() {
		return mistyped("a list in brackets")
	}
	numbers := f.value.Type().Elem().Kind() == reflect.Int
	var parts []string
	for _, item := range v.AsValueSlice() {
		n, exact := number(item)
		switch {
		case numbers && exact:
			parts = append(parts, fmt.Sprint(n))
		case !numbers && item.Type() == cty.String && !item.IsNull():
			parts = append(parts, item.AsString())
		case numbers:
			return &wrong{"every item must be a whole number", ""}
		default:
			return &wrong{"every item must be a string in quotes", ""}
		}
	}
	return f.setList(parts)
}

func (f *field) setObject(v cty.Value, mistyped func(string) *wrong) *wrong {
	if !v.Type().IsObjectType() {
		return mistyped("a map, { key = \"value\" },")
	}
	m := map[string]string{}
	for key, item := range v.AsValueMap() {
		if item.Type() != cty.String || item.IsNull() {
			return &wrong{fmt.Sprintf("the value of %q must be a string in quotes", key), ""}
		}
		m[key] = item.AsString()
	}
	f.value.Set(reflect.ValueOf(m))
	return nil
}

// number is v as a whole number, if it is one.
func number(v cty.Value) (int64, bool) {
	if v.Type() != cty.Number || v.IsNull() || !v.IsKnown() {
		return 0, false
	}
	f := v.AsBigFloat()
	if !f.IsInt() {
		return 0, false
	}
	n, accuracy := f.Int64()
	return n, accuracy == 0
}

func typeWord(t cty.Type) string {
	switch {
	case t == cty.String:
		return "a string"
	case t == cty.Number:
		return "a number"
	case t == cty.Bool:
		return "true or false"
	case t.IsTupleType():
		return "a list"
	case t.IsObjectType():
		return "a map"
	}
	return "something else"
}
