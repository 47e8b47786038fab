package fsm

import (
	"google.golang.org/protobuf/proto"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// drain takes over what a fact says of a node's drain. A drained node takes nothing new,
// and one that may take something is not drained. That a drain is done counts only for
// just that drain: an operator may have changed or ended it meanwhile.
func drain(n *berthv1.Node, f *berthv1.NodesChanged) {
	d := f.GetDrain()
	switch {
	case f.GetEndDrain(), f.Eligibility != nil && f.GetEligibility() == berthv1.Node_eligible:
		n.Drain = nil
	case d == nil:
	case d.GetDoneTime() == nil:
		n.Drain, n.Eligibility = d, berthv1.Node_ineligible
	case proto.Equal(n.GetDrain(), revised(d, func(d *berthv1.Drain) { d.DoneTime = nil })):
		n.Drain = d
	}
}
