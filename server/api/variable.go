package api

import (
	"context"
	"iter"
	"maps"
	"regexp"
	"slices"
	"strings"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/server/state"
)

// maxVariable bounds a variable: its keys and values together, in bytes. With it an entry
// of the log is full.
const maxVariable = 60 << 10

// variableService is about variables.
type variableService struct {
	berthv1.UnimplementedVariableServiceServer
	a *API
}

func (s variableService) ListVariables(ctx context.Context, q *berthv1.ListVariablesRequest) (*berthv1.ListVariablesResponse, error) {
	p, err := newPager(q, &berthv1.Variable{})
	if err != nil {
		return nil, err
	}
	topics := []state.Topic{{Table: state.TableVariables}}
	return read(ctx, s.a, q, topics, func(view *state.View) (*berthv1.ListVariablesResponse, error) {
		page, next, err := p.page(ctx, pageOfVariables(view, namespaceOf(q), p), variableKey)
		return &berthv1.ListVariablesResponse{Variables: page, NextPageToken: next}, err
	})
}

func variableKey(v *berthv1.Variable) string { return state.JobKey(v.GetNamespace(), v.GetName()) }

// pageOfVariables is the variables to look at for a page.
func pageOfVariables(view *state.View, namespace string, p *pager[*berthv1.Variable]) iter.Seq[*berthv1.Variable] {
	fromNamespace, fromName, _ := strings.Cut(p.from, "/")
	if namespace == anyNamespace {
		return within(view.VariablesFrom(fromNamespace, fromName), p.prefix, (*berthv1.Variable).GetName, false)
	}
	return within(view.Variables(namespace, max(fromName, p.prefix)), p.prefix, (*berthv1.Variable).GetName, true)
}

func (s variableService) GetVariable(ctx context.Context, q *berthv1.GetVariableRequest) (*berthv1.Variable, error) {
	ns := namespaceOf(q)
	topics := []state.Topic{{Table: state.TableVariables, Key: state.JobKey(ns, q.GetName())}}
	return read(ctx, s.a, q, topics, func(view *state.View) (*berthv1.Variable, error) {
		return findVariable(view, ns, q.GetName())
	})
}

func findVariable(view *state.View, namespace, name string) (*berthv1.Variable, error) {
	if v := view.Variable(namespace, name); v != nil {
		return v, nil
	}
	return nil, problem.New(problem.NotFound, "name", "there is no variable %q in namespace %q", name, namespace).WithRemedy("berth var list shows them")
}

func (s variableService) SetVariable(ctx context.Context, q *berthv1.SetVariableRequest) (*berthv1.Variable, error) {
	v := &berthv1.Variable{Namespace: q.GetVariable().GetNamespace(), Name: q.GetVariable().GetName(), Items: q.GetVariable().GetItems(), ModifyTime: timestamppb.Now()}
	if v.GetNamespace() == "" {
		v.Namespace = defaultNamespace
	}
	if err := checkVariable(v); err != nil {
		return nil, err
	}
	view := s.a.store.View()
	if _, err := findNamespace(view, v.GetNamespace()); err != nil {
		return nil, err
	}
	if q.GetCheck() {
		if err := checkVariableAt(view.Variable(v.GetNamespace(), v.GetName()), v.GetName(), q.GetCheckRevision()); err != nil {
			return nil, err
		}
	}
	_, err := s.a.propose(ctx, func(e *berthv1.LogEntry) {
		e.Fact = &berthv1.LogEntry_VariableSet{VariableSet: &berthv1.VariableSet{Variable: v, Check: q.GetCheck(), CheckRevision: q.GetCheckRevision()}}
	})
	if err != nil {
		return nil, err
	}
	return findVariable(s.a.store.View(), v.GetNamespace(), v.GetName())
}

var variableName = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,128}$`)

// checkVariable refuses what makes no sense whatever the state.
func checkVariable(v *berthv1.Variable) error {
	if !variableName.MatchString(v.GetName()) {
		return problem.New(problem.Invalid, "variable.name", "%.140q is not a name for a variable", v.GetName()).
			WithRemedy(`use letters, digits, "-", "_" and ".", at most 128, such as "shop.database"`)
	}
	size := 0
	for _, key := range slices.Sorted(maps.Keys(v.GetItems())) {
		if key == "" {
			return problem.New(problem.Invalid, "variable.items", "an item has no key")
		}
		size += len(key) + len(v.GetItems()[key])
	}
	if size > maxVariable {
		return problem.New(problem.Invalid, "variable.items", "the variable has %d KiB, and at most %d KiB are possible", (size+1023)>>10, maxVariable>>10).
			WithRemedy("divide it into several, or keep large files where tasks can fetch them")
	}
	return nil
}

func checkVariableAt(stored *berthv1.Variable, name string, revision uint64) error {
	switch {
	case stored.GetModifyRevision() == revision:
		return nil
	case stored == nil:
		return problem.New(problem.Conflict, "check_revision", "variable %q is to be at revision %d, and does not exist", name, revision).
			WithRemedy("check for revision 0 to make a new one")
	}
	return problem.New(problem.Conflict, "check_revision", "variable %q is to be at revision %d, and is at %d", name, revision, stored.GetModifyRevision()).
		WithRemedy("somebody has changed it: read it again and decide anew")
}

func (s variableService) DeleteVariable(ctx context.Context, q *berthv1.DeleteVariableRequest) (*berthv1.DeleteVariableResponse, error) {
	ns := namespaceOf(q)
	stored, err := findVariable(s.a.store.View(), ns, q.GetName())
	if err != nil {
		return nil, err
	}
	if q.GetCheck() {
		if err := checkVariableAt(stored, q.GetName(), q.GetCheckRevision()); err != nil {
			return nil, err
		}
	}
	_, err = s.a.propose(ctx, func(e *berthv1.LogEntry) {
		e.Fact = &berthv1.LogEntry_VariableDeleted{VariableDeleted: &berthv1.VariableDeleted{
			Namespace: ns, Name: q.GetName(), Check: q.GetCheck(), CheckRevision: q.GetCheckRevision(),
		}}
	})
	return &berthv1.DeleteVariableResponse{}, err
}
