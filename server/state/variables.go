package state

import (
	"cmp"
	"iter"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

func compareVariables(a, b *berthv1.Variable) int {
	return cmp.Or(cmp.Compare(a.GetNamespace(), b.GetNamespace()), cmp.Compare(a.GetName(), b.GetName()))
}

// Variable gives a variable; nil: there is none.
func (t *tables) Variable(namespace, name string) *berthv1.Variable {
	return get(t.variables, &berthv1.Variable{Namespace: namespace, Name: name})
}

// Variables iterates over the variables of a namespace by name, starting at the first
// whose name is not below start.
func (t *tables) Variables(namespace, start string) iter.Seq[*berthv1.Variable] {
	return from(t.variables, &berthv1.Variable{Namespace: namespace, Name: start}, func(v *berthv1.Variable) bool {
		return v.GetNamespace() == namespace
	})
}

// VariablesFrom iterates over all variables by namespace and name, starting at the first
// that is not below the given one.
func (t *tables) VariablesFrom(namespace, name string) iter.Seq[*berthv1.Variable] {
	return from(t.variables, &berthv1.Variable{Namespace: namespace, Name: name}, nil)
}

// PutVariable stores a variable.
func (tx *Tx) PutVariable(v *berthv1.Variable) {
	before, replaced := tx.variables.Set(v)
	tx.changed(change{table: TableVariables, namespace: v.GetNamespace(), key: v.GetName(), after: v, before: orNil(before, replaced)})
}

// DeleteVariable forgets a variable.
func (tx *Tx) DeleteVariable(namespace, name string) {
	if before, ok := tx.variables.Delete(&berthv1.Variable{Namespace: namespace, Name: name}); ok {
		tx.changed(change{table: TableVariables, namespace: namespace, key: name, before: before})
	}
}
