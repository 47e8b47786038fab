package api

import (
	"iter"
	"strings"

	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/server/state"
)

// minPrefix is how many characters of an id are enough, where they are unique.
const minPrefix = 4

// maxCandidates is how many items an ambiguous prefix lists.
const maxCandidates = 8

// kind is how items of one kind are found by what people give for an id.
type kind[T any] struct {
	noun  string // "allocation"
	field string // of the requests: "alloc_id"
	list  string // command that shows them
	get   func(*state.View, string) (T, bool)
	from  func(*state.View, string) iter.Seq[T]
	id    func(T) string
	words func(T) string // what tells it from another one
}

var allocs = kind[*berthv1.Alloc]{
	noun: "allocation", field: "alloc_id", list: "berth job status <job>",
	get:   func(v *state.View, id string) (*berthv1.Alloc, bool) { a := v.Alloc(id); return a, a != nil },
	from:  func(v *state.View, id string) iter.Seq[*berthv1.Alloc] { return v.Allocs(id) },
	id:    (*berthv1.Alloc).GetId,
	words: (*berthv1.Alloc).Name,
}

var nodes = kind[*berthv1.Node]{
	noun: "node", field: "node_id", list: "berth node status",
	get:   func(v *state.View, id string) (*berthv1.Node, bool) { n := v.Node(id); return n, n != nil },
	from:  func(v *state.View, id string) iter.Seq[*berthv1.Node] { return v.Nodes(id) },
	id:    (*berthv1.Node).GetId,
	words: (*berthv1.Node).GetName,
}

var evaluations = kind[*berthv1.Evaluation]{
	noun: "evaluation", field: "evaluation_id", list: "berth job status <job>",
	get:   func(v *state.View, id string) (*berthv1.Evaluation, bool) { e := v.Evaluation(id); return e, e != nil },
	from:  func(v *state.View, id string) iter.Seq[*berthv1.Evaluation] { return v.Evaluations(id) },
	id:    (*berthv1.Evaluation).GetId,
	words: (*berthv1.Evaluation).GetJob,
}

// find gives the item of an id, or of a prefix that only one id has.
func (k kind[T]) find(view *state.View, given string) (T, error) {
	var none T
	if given == "" {
		return none, problem.New(problem.Invalid, k.field, "no %s was named", k.noun)
	}
	if item, ok := k.get(view, given); ok {
		return item, nil
	}
	if len(given) < minPrefix {
		return none, problem.New(problem.Invalid, k.field, "%q is too short for a prefix of an id", given).
			WithRemedy("give at least %d characters", minPrefix)
	}
	var found []T
	for item := range within(k.from(view, given), given, k.id, true) {
		if found = append(found, item); len(found) > maxCandidates {
			break
		}
	}
	switch len(found) {
	case 0:
		return none, problem.New(problem.NotFound, k.field, "there is no %s %q", k.noun, given).WithRemedy("%s shows them", k.list)
	case 1:
		return found[0], nil
	}
	return none, k.ambiguous(given, found)
}

func (k kind[T]) ambiguous(given string, found []T) error {
	var names []string
	for i, item := range found {
		if i == maxCandidates {
			names = append(names, "...")
			break
		}
		names = append(names, k.id(item)+" ("+k.words(item)+")")
	}
	return problem.New(problem.Invalid, k.field, "%q stands for several %ss: %s", given, k.noun, strings.Join(names, ", ")).
		WithRemedy("give more of the id")
}

// findNode gives the node of an id, of a unique prefix of one, or of a unique name.
func findNode(view *state.View, given string) (*berthv1.Node, error) {
	if n := view.Node(given); n != nil || given == "" {
		return nodes.find(view, given)
	}
	var named []*berthv1.Node
	for n := range view.NodesByName(given) {
		named = append(named, n)
	}
	switch len(named) {
	case 0:
		return nodes.find(view, given)
	case 1:
		return named[0], nil
	}
	return nil, nodes.ambiguous(given, named)
}

// orList is "a, b or c".
func orList(words []string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	return strings.Join(words[:len(words)-1], ", ") + " or " + words[len(words)-1]
}
