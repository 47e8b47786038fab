package state

import (
	"cmp"
	"iter"

	"github.com/tidwall/btree"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// Staged gangs are those that take several log entries, while not all of those have come.
// Nobody watches them.

func newGangs() *btree.BTreeG[*berthv1.StagedGang] {
	return newTree(func(a, b *berthv1.StagedGang) int { return cmp.Compare(a.GetGang(), b.GetGang()) })
}

// StagedGang gives what has come of a gang; nil: nothing.
func (t *tables) StagedGang(gang string) *berthv1.StagedGang {
	return get(t.gangs, &berthv1.StagedGang{Gang: gang})
}

// StagedGangs iterates over all of them by name.
func (t *tables) StagedGangs() iter.Seq[*berthv1.StagedGang] {
	return from(t.gangs, &berthv1.StagedGang{}, nil)
}

// PutStagedGang stores what has come of a gang.
func (tx *Tx) PutStagedGang(g *berthv1.StagedGang) { tx.gangs.Set(g) }

// DeleteStagedGang forgets it.
func (tx *Tx) DeleteStagedGang(gang string) { tx.gangs.Delete(&berthv1.StagedGang{Gang: gang}) }
