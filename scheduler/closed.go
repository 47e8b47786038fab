package scheduler

import (
	"math"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// closing is an allocation that weighs on a cell that no node has: nothing fits beside
// it, as beside any grant on a cell that is gone.
var closing = &berthv1.Assignment{Tasks: []*berthv1.TaskGrant{{Cells: []*berthv1.CellGrant{{Cell: math.MaxUint32}}}}}

// Closing gives an allocation that, given to ChangeAlloc, keeps everything new off a
// node until it is taken out again: what is freed there is meant for somebody.
func Closing(nodeID string) *berthv1.Alloc {
	return &berthv1.Alloc{NodeId: nodeID, Desired: berthv1.Alloc_stop, Assignment: closing}
}
