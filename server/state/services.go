package state

import (
	"cmp"
	"iter"
	"slices"

	"github.com/tidwall/btree"
	"google.golang.org/protobuf/proto"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// services has what allocations offer: instances of services, as their agents report
// them. An instance is ready when its agent says so and the servers want the allocation
// to serve; that follows every change of the allocation, in the same revision. It goes
// with its allocation.
type services struct {
	byName    *btree.BTreeG[*berthv1.ServiceInstance] // by namespace, service, alloc
	byAlloc   *btree.BTreeG[*berthv1.ServiceInstance] // by alloc, service
	byAddress *btree.BTreeG[*berthv1.ServiceInstance] // by address, namespace, service, alloc
}

func newServices() services {
	name := func(a, b *berthv1.ServiceInstance) int {
		return cmp.Or(cmp.Compare(a.GetNamespace(), b.GetNamespace()), cmp.Compare(a.GetService(), b.GetService()), cmp.Compare(a.GetAllocId(), b.GetAllocId()))
	}
	return services{
		byName: newTree(name),
		byAlloc: newTree(func(a, b *berthv1.ServiceInstance) int {
			return cmp.Or(cmp.Compare(a.GetAllocId(), b.GetAllocId()), cmp.Compare(a.GetService(), b.GetService()))
		}),
		byAddress: newTree(func(a, b *berthv1.ServiceInstance) int {
			return cmp.Or(cmp.Compare(a.GetAddress(), b.GetAddress()), name(a, b))
		}),
	}
}

func (s *services) copy() services {
	return services{byName: s.byName.Copy(), byAlloc: s.byAlloc.Copy(), byAddress: s.byAddress.Copy()}
}

// Services iterates over all instances by namespace, service and allocation, starting
// with a service.
func (t *tables) Services(namespace, service string) iter.Seq[*berthv1.ServiceInstance] {
	return from(t.services.byName, &berthv1.ServiceInstance{Namespace: namespace, Service: service}, nil)
}

// ServiceInstances iterates over the instances of a service by allocation.
func (t *tables) ServiceInstances(namespace, service string) iter.Seq[*berthv1.ServiceInstance] {
	return from(t.services.byName, &berthv1.ServiceInstance{Namespace: namespace, Service: service}, func(i *berthv1.ServiceInstance) bool {
		return i.GetService() == service && i.GetNamespace() == namespace
	})
}

// ServicesOfAlloc iterates over what an allocation offers, by service.
func (t *tables) ServicesOfAlloc(alloc string) iter.Seq[*berthv1.ServiceInstance] {
	return from(t.services.byAlloc, &berthv1.ServiceInstance{AllocId: alloc}, func(i *berthv1.ServiceInstance) bool { return i.GetAllocId() == alloc })
}

// ServicesAt iterates over the instances with an IP address.
func (t *tables) ServicesAt(address string) iter.Seq[*berthv1.ServiceInstance] {
	return from(t.services.byAddress, &berthv1.ServiceInstance{Address: address}, func(i *berthv1.ServiceInstance) bool { return i.GetAddress() == address })
}

// SetServices stores all that an allocation offers from now on, which must be new
// messages. What they are beside the agent's report is filled in here: whose they are,
// and whether they are ready.
func (tx *Tx) SetServices(alloc string, offered []*berthv1.ServiceInstance) {
	row := tx.AllocRow(alloc)
	if !row.Exists() || !mayOffer(&row) {
		offered = nil
	}
	kept := map[string]bool{}
	for _, i := range offered {
		i.Namespace, i.AllocId, i.Job, i.Group = row.Namespace(), alloc, row.Job(), row.Group()
		i.Index, i.NodeId, i.NodeName, i.JobVersion = row.fixed.index, row.node.id, row.node.name, row.JobVersion()
		i.ReportedReady, i.ReportedReason = i.GetReady(), i.GetReason()
		i.Ready, i.Reason, i.Canary = readiness(i, &row)
		kept[i.GetService()] = true
		tx.putService(i)
	}
	for _, i := range slices.Collect(tx.ServicesOfAlloc(alloc)) {
		if !kept[i.GetService()] {
			tx.deleteService(i)
		}
	}
}

// servicesFollow brings what an allocation offers up to date with it.
func (tx *Tx) servicesFollow(before, after *AllocRow) {
	if tx.services.byAlloc.Len() == 0 || !before.Exists() {
		return
	}
	for _, i := range slices.Collect(tx.ServicesOfAlloc(before.ID().String())) {
		if !after.Exists() || !mayOffer(after) {
			tx.deleteService(i)
			continue
		}
		ready, reason, canary := readiness(i, after)
		if ready == i.GetReady() && reason == i.GetReason() && canary == i.GetCanary() {
			continue
		}
		i = proto.CloneOf(i)
		i.Ready, i.Reason, i.Canary = ready, reason, canary
		tx.putService(i)
	}
}

// mayOffer says that an allocation is not over.
func mayOffer(r *AllocRow) bool { return !r.Terminal() }

// readiness is whether an instance gets traffic, why not, and whether it is a canary.
func readiness(i *berthv1.ServiceInstance, r *AllocRow) (ready bool, reason string, canary bool) {
	canary = r.Canary()
	switch {
	case !r.Wanted():
		return false, "it is being stopped", canary
	case r.Status() == berthv1.Alloc_unknown:
		return false, "its node has lost touch", canary
	case canary:
		return false, "it is a canary that waits to be promoted", canary
	}
	return i.GetReportedReady(), i.GetReportedReason(), canary
}

func (tx *Tx) putService(i *berthv1.ServiceInstance) {
	before, replaced := tx.services.byName.Get(i)
	if replaced {
		i.CreateRevision = before.GetCreateRevision()
		tx.services.byAddress.Delete(before)
	} else {
		i.CreateRevision = tx.revision
	}
	i.ModifyRevision = tx.revision
	tx.storeService(i)
	tx.changed(change{table: TableServices, namespace: i.GetNamespace(), key: i.GetAllocId(), job: i.GetService(), after: i, before: orNil(before, replaced)})
}

// storeService puts an instance into the indexes as it is.
func (tx *Tx) storeService(i *berthv1.ServiceInstance) {
	tx.services.byName.Set(i)
	tx.services.byAlloc.Set(i)
	tx.services.byAddress.Set(i)
}

func (tx *Tx) deleteService(i *berthv1.ServiceInstance) {
	tx.services.byName.Delete(i)
	tx.services.byAlloc.Delete(i)
	tx.services.byAddress.Delete(i)
	tx.changed(change{table: TableServices, namespace: i.GetNamespace(), key: i.GetAllocId(), job: i.GetService(), before: i})
}
