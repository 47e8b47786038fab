package fsm

import (
	"fmt"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/scheduler"
	"github.com/berthd/berth/server/state"
	"github.com/berthd/berth/topology"
)

// Audit counts anew, from the allocations alone, what is held on every node, and gives
// an error for each allocation whose grant somebody else holds too. There is none as
// long as inventories do not shrink. Tests, the virtual cluster and the bench ask it.
func Audit(view *state.View) []error {
	var found []error
	var grant topology.Grant
	for node := range view.Nodes("") {
		usage, err := wholeUsage(node)
		if err != nil {
			found = append(found, err)
			continue
		}
		for alloc := range view.AllocRowsByNode(node.GetId()) {
			if !alloc.HoldsGrant() {
				continue
			}
			if err = scheduler.GrantInto(&grant, alloc.Assignment()); err == nil {
				err = usage.Add(&grant)
			}
			if err != nil {
				found = append(found, fmt.Errorf("revision %d: node %s: allocation %s of %s: %w",
					view.Revision(), node.GetName(), alloc.ID(), alloc.Job(), err))
			}
		}
	}
	return found
}

// wholeUsage is an empty usage of a node on which every device is healthy: what was
// granted stays granted when a device falls ill.
func wholeUsage(node *berthv1.Node) (*topology.Usage, error) {
	machine, err := scheduler.MachineOf(node)
	if err != nil {
		return nil, err
	}
	for i := range machine.Devices {
		machine.Devices[i].Healthy = true
	}
	return topology.NewUsage(machine), nil
}
