package state

import (
	"iter"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// Node gives a node; nil: there is none.
func (t *tables) Node(id string) *berthv1.Node { return t.nodes.get(&berthv1.Node{Id: id}) }

// Nodes iterates over all nodes by id, starting at the first not below start.
func (t *tables) Nodes(start string) iter.Seq[*berthv1.Node] {
	return t.nodes.from(&berthv1.Node{Id: start})
}

// NodesByName iterates over the nodes of that name; names should be unique and need not be.
func (t *tables) NodesByName(name string) iter.Seq[*berthv1.Node] {
	return func(yield func(*berthv1.Node) bool) {
		for n := range t.Nodes("") {
			if n.GetName() == name && !yield(n) {
				return
			}
		}
	}
}

// NodeCount is the number of nodes.
func (t *tables) NodeCount() int { return t.nodes.len() }

// Node gives a node; nil: there is none. It is tables.Node by a map, which only the writer
// has: each entry that places asks for every node that it names.
func (tx *Tx) Node(id string) *berthv1.Node { return tx.store.nodeOf[id] }

// PutNode stores a node.
func (tx *Tx) PutNode(node *berthv1.Node) {
	before, replaced := tx.nodes.set(node)
	tx.store.nodeOf[node.GetId()] = node
	tx.changed(change{table: TableNodes, key: node.GetId(), after: node, before: orNil(before, replaced)})
}

// DeleteNode forgets a node.
func (tx *Tx) DeleteNode(id string) {
	if before, ok := tx.nodes.remove(&berthv1.Node{Id: id}); ok {
		delete(tx.store.nodeOf, id)
		tx.changed(change{table: TableNodes, key: id, before: before})
	}
}
