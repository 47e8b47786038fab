package api

import (
	"slices"

	"github.com/hashicorp/go-bexpr"
	"github.com/hashicorp/go-bexpr/grammar"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/berthd/berth/problem"
)

// Bounds of a filter expression, so that nobody keeps a server busy with one.
const (
	maxFilter      = 1024   // bytes
	maxFilterSteps = 200000 // of the parser, which backtracks
	maxFilterLoops = 2      // "any" and "all" inside each other
)

const filterRemedy = `an example: status == "running" and node_name != "n1"`

// filter is a boolean expression over the fields of an item, named as in JSON. A nil
// filter keeps everything.
type filter struct {
	evaluator *bexpr.Evaluator
	fields    []protoreflect.FieldDescriptor // of the item, that the expression names
}

// newFilter compiles an expression over items of a type; nil for an empty one.
func newFilter(expression string, item protoreflect.MessageDescriptor) (*filter, error) {
	if expression == "" {
		return nil, nil
	}
	if len(expression) > maxFilter {
		return nil, filterProblem("an expression of %d bytes is too long; at most %d", len(expression), maxFilter)
	}
	ast, err := grammar.Parse("", []byte(expression), grammar.MaxExpressions(maxFilterSteps))
	if err != nil {
		return nil, filterProblem("%w", err)
	}
	f := &filter{}
	if err := f.use(ast.(grammar.Expression), item, nil, maxFilterLoops); err != nil {
		return nil, err
	}
	f.evaluator, err = bexpr.CreateEvaluator(expression, bexpr.WithMaxExpressions(maxFilterSteps))
	if err != nil {
		return nil, filterProblem("%w", err)
	}
	// An empty item shows at once what does not fit the fields' types.
	_, err = f.evaluate(f.form(emptyItem(item)))
	return f, err
}

func filterProblem(format string, args ...any) error {
	return problem.New(problem.Invalid, "filter", format, args...).WithRemedy(filterRemedy)
}

func emptyItem(item protoreflect.MessageDescriptor) protoreflect.Message {
	return messageType(item).Zero()
}

// keeps says whether the expression is true for an item.
func (f *filter) keeps(item proto.Message) (bool, error) {
	if f == nil {
		return true, nil
	}
	return f.evaluate(f.form(item.ProtoReflect()))
}

// evaluate runs the expression. The evaluator panics where an operator does not fit a
// field's type ("is empty" of a number), which is the expression's fault.
func (f *filter) evaluate(datum map[string]any) (kept bool, err error) {
	defer func() {
		if p := recover(); p != nil {
			kept, err = false, filterProblem("an operator does not fit the type of its field")
		}
	}()
	kept, err = f.evaluator.Evaluate(datum)
	if err != nil {
		return false, filterProblem("%w", err)
	}
	return kept, nil
}

// use checks that the fields that an expression names exist, and notes them. bound are
// the names that loops around it have made.
func (f *filter) use(e grammar.Expression, item protoreflect.MessageDescriptor, bound []string, loops int) error {
	switch e := e.(type) {
	case *grammar.UnaryExpression:
		return f.use(e.Operand, item, bound, loops)
	case *grammar.BinaryExpression:
		if err := f.use(e.Left, item, bound, loops); err != nil {
			return err
		}
		return f.use(e.Right, item, bound, loops)
	case *grammar.MatchExpression:
		return f.useField(e.Selector.Path, item, bound)
	case *grammar.CollectionExpression:
		if loops == 0 {
			return filterProblem("any and all are nested more than %d deep", maxFilterLoops)
		}
		if err := f.useField(e.Selector.Path, item, bound); err != nil {
			return err
		}
		n := e.NameBinding
		return f.use(e.Inner, item, append(slices.Clone(bound), n.Default, n.Index, n.Value), loops-1)
	}
	return nil
}

func (f *filter) useField(path []string, item protoreflect.MessageDescriptor, bound []string) error {
	if len(path) == 0 {
		return filterProblem("a field without a name")
	}
	if slices.Contains(bound, path[0]) {
		return nil
	}
	at := item
	for i, name := range path {
		field := at.Fields().ByName(protoreflect.Name(name))
		if field == nil {
			return filterProblem("there is no field %q; there are %s", name, fieldNames(at))
		}
		if i == 0 && !slices.Contains(f.fields, field) {
			f.fields = append(f.fields, field)
		}
		if field.IsMap() || field.IsList() || field.Message() == nil || isValue(field.Message()) {
			return nil // what follows is a key or an index
		}
		at = field.Message()
	}
	return nil
}

func fieldNames(item protoreflect.MessageDescriptor) string {
	var names []string
	for i := range item.Fields().Len() {
		names = append(names, string(item.Fields().Get(i).Name()))
	}
	return orList(names)
}

// form is the fields of an item that the expression needs, as in JSON.
func (f *filter) form(item protoreflect.Message) map[string]any {
	datum := make(map[string]any, len(f.fields))
	for _, field := range f.fields {
		datum[string(field.Name())] = formOf(field, item.Get(field))
	}
	return datum
}
