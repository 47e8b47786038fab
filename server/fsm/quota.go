package fsm

import (
	"fmt"
	"iter"

	"google.golang.org/protobuf/proto"

	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/scheduler"
	"github.com/berthd/berth/server/state"
)

// holders is what the allocations of a state can be asked for.
type holders interface {
	Jobs(namespace, start string) iter.Seq[*berthv1.Job]
	AllocRowsByJob(namespace, job string) iter.Seq[*state.AllocRow]
}

// heldIn yields what the allocations of a namespace hold, by node.
func (g *grants) heldIn(view holders, namespace string) iter.Seq2[string, *berthv1.Assignment] {
	return func(yield func(string, *berthv1.Assignment) bool) {
		for job := range view.Jobs(namespace, "") {
			for a := range view.AllocRowsByJob(namespace, job.GetName()) {
				if a.HoldsGrant() && g.nodes[a.NodeID()] != nil && !yield(a.NodeID(), a.Assignment()) {
					return
				}
			}
		}
	}
}

// afford says why a use would break a namespace's quota.
func (g *grants) afford(namespace string, use *scheduler.Use) error {
	if over := g.quotas.OverUse(namespace, use); over != "" {
		return problem.New(problem.Exhausted, "quota", "%s", over)
	}
	return nil
}

// AuditQuotas counts anew, from the allocations alone, what namespaces with a quota
// hold, and gives an error for each whose count is another one.
func (f *FSM) AuditQuotas() []error {
	view := f.store.View()
	var found []error
	for ns := range view.Namespaces() {
		if ns.GetQuota() == nil {
			continue
		}
		var used scheduler.Use
		for _, a := range f.grants.heldIn(view, ns.GetName()) {
			used.Add(scheduler.UseOf(a))
		}
		if counted := f.grants.quotas.Used(ns.GetName()); !proto.Equal(counted, used.Quota()) {
			found = append(found, fmt.Errorf("revision %d: namespace %s: %v is counted, %v is held", view.Revision(), ns.GetName(), counted, used.Quota()))
		}
	}
	return found
}
