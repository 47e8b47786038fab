package fsm

import (
	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

func (a *applier) variableSet(f *berthv1.VariableSet) error {
	v := f.GetVariable()
	if v.GetName() == "" || a.Namespace(v.GetNamespace()) == nil {
		return problem.New(problem.NotFound, "variable", "a variable without a name, or in namespace %q, which is not there", v.GetNamespace())
	}
	stored := a.Variable(v.GetNamespace(), v.GetName())
	if f.GetCheck() && stored.GetModifyRevision() != f.GetCheckRevision() {
		return checkFailed("variable "+v.GetName(), f.GetCheckRevision(), stored.GetModifyRevision())
	}
	a.PutVariable(revised(v, func(n *berthv1.Variable) {
		n.CreateRevision = a.Revision()
		if stored != nil {
			n.CreateRevision = stored.GetCreateRevision()
		}
		n.ModifyRevision, n.ModifyTime = a.Revision(), a.timestamp
	}))
	return nil
}

func (a *applier) variableDeleted(f *berthv1.VariableDeleted) error {
	stored := a.Variable(f.GetNamespace(), f.GetName())
	switch {
	case stored == nil:
		return problem.New(problem.NotFound, "variable", "there is no variable %q in namespace %q", f.GetName(), f.GetNamespace())
	case f.GetCheck() && stored.GetModifyRevision() != f.GetCheckRevision():
		return checkFailed("variable "+f.GetName(), f.GetCheckRevision(), stored.GetModifyRevision())
	}
	a.DeleteVariable(f.GetNamespace(), f.GetName())
	return nil
}
