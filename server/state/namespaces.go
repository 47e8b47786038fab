package state

import (
	"iter"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// Namespace gives a namespace; nil: there is none.
func (t *tables) Namespace(name string) *berthv1.Namespace {
	return get(t.namespaces, &berthv1.Namespace{Name: name})
}

// Namespaces iterates over all namespaces by name.
func (t *tables) Namespaces() iter.Seq[*berthv1.Namespace] {
	return from(t.namespaces, &berthv1.Namespace{}, nil)
}

// PutNamespace stores a namespace.
func (tx *Tx) PutNamespace(ns *berthv1.Namespace) {
	before, replaced := tx.namespaces.Set(ns)
	tx.changed(change{table: TableNamespaces, key: ns.GetName(), after: ns, before: orNil(before, replaced)})
}

// DeleteNamespace forgets a namespace.
func (tx *Tx) DeleteNamespace(name string) {
	if before, ok := tx.namespaces.Delete(&berthv1.Namespace{Name: name}); ok {
		tx.changed(change{table: TableNamespaces, key: name, before: before})
	}
}

// SchedulerConfig is how the cluster places; never nil.
func (t *tables) SchedulerConfig() *berthv1.SchedulerConfig { return t.config }

// PutSchedulerConfig stores it.
func (tx *Tx) PutSchedulerConfig(config *berthv1.SchedulerConfig) {
	before := tx.config
	tx.tables.config = config
	tx.changed(change{table: TableConfig, key: "scheduler", after: config, before: before})
}

// SetClusterID names the cluster; once.
func (tx *Tx) SetClusterID(id string) { tx.tables.clusterID = id }
