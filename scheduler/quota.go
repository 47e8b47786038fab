package scheduler

import (
	"cmp"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strconv"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/topology"
)

// Ledger counts what the allocations of namespaces with a quota hold: those that hold
// their grant, on nodes that are there. Namespaces without a quota cost nothing. The
// fleet keeps one, so that nothing is placed that breaks a quota; the FSM keeps one, so
// that nobody else breaks it. It is not safe for concurrent use.
type Ledger struct {
	accounts map[string]*account
}

type account struct {
	quota *berthv1.Quota
	used  Use
	nodes map[string]*Use // parts of used, by node: gone with the node
}

// Open begins to count a namespace, from its allocations on nodes that are there, or
// changes the quota of one that is counted. Without a quota it is not counted any more.
func (l *Ledger) Open(namespace string, quota *berthv1.Quota, allocs iter.Seq2[string, *berthv1.Assignment]) {
	if quota == nil {
		delete(l.accounts, namespace)
		return
	}
	if a := l.accounts[namespace]; a != nil {
		a.quota = quota
		return
	}
	if l.accounts == nil {
		l.accounts = map[string]*account{}
	}
	l.accounts[namespace] = &account{quota: quota, nodes: map[string]*Use{}}
	for node, a := range allocs {
		l.Hold(namespace, node, a)
	}
}

// Counts says whether a namespace has a quota.
func (l *Ledger) Counts(namespace string) bool { return l.accounts[namespace] != nil }

// Namespaces are those that are counted, in order.
func (l *Ledger) Namespaces() []string { return slices.Sorted(maps.Keys(l.accounts)) }

// Used is what a namespace that is counted holds.
func (l *Ledger) Used(namespace string) *berthv1.Quota {
	if a := l.accounts[namespace]; a != nil {
		return a.used.Quota()
	}
	return nil
}

// Hold counts an assignment that is held on a node.
func (l *Ledger) Hold(namespace, node string, a *berthv1.Assignment) {
	if l.Counts(namespace) {
		use := UseOf(a)
		l.HoldUse(namespace, node, &use)
	}
}

// Release takes back what Hold counted.
func (l *Ledger) Release(namespace, node string, a *berthv1.Assignment) {
	if l.Counts(namespace) {
		use := UseOf(a)
		l.release(namespace, node, &use)
	}
}

// HoldUse counts what is held on a node; not looked at where the namespace is not counted.
func (l *Ledger) HoldUse(namespace, node string, use *Use) {
	acc := l.accounts[namespace]
	if acc == nil {
		return
	}
	on := acc.nodes[node]
	if on == nil {
		on = &Use{}
		acc.nodes[node] = on
	}
	on.Add(*use)
	acc.used.Add(*use)
}

func (l *Ledger) release(namespace, node string, use *Use) {
	acc := l.accounts[namespace]
	on := acc.nodes[node]
	if on == nil {
		return // gone with its node
	}
	acc.used.sub(use)
	if on.sub(use); on.Allocs == 0 {
		delete(acc.nodes, node)
	}
}

// DropNode forgets what is held on a node.
func (l *Ledger) DropNode(node string) {
	for _, acc := range l.accounts {
		if on := acc.nodes[node]; on != nil {
			acc.used.sub(on)
			delete(acc.nodes, node)
		}
	}
}

// OverUse says in words why more would break its namespace's quota: "namespace team: 12
// of 16 gpu are used, 8 more are asked for"; "" when it would not.
func (l *Ledger) OverUse(namespace string, more *Use) string {
	if acc := l.accounts[namespace]; acc != nil {
		return acc.over(namespace, more)
	}
	return ""
}

// over compares in a fixed order; the first that breaks is told.
func (acc *account) over(namespace string, more *Use) string {
	for _, x := range acc.lines(more) {
		if x.quota > 0 && x.more > 0 && x.used+x.more > x.quota {
			return fmt.Sprintf("namespace %s: %s of %s are used, %s more are asked for", namespace, x.words(x.used), x.words(x.quota)+x.unit, x.words(x.more))
		}
	}
	return ""
}

// quotaLine is one kind of thing that a quota is about.
type quotaLine struct {
	unit              string
	used, more, quota uint64
	words             func(uint64) string
}

func (acc *account) lines(more *Use) []quotaLine {
	q, u := acc.quota, &acc.used
	plain := func(n uint64) string { return strconv.FormatUint(n, 10) }
	lines := []quotaLine{
		{" CPU threads", u.CPUMilli, more.CPUMilli, q.GetCpuMilli(), thousandths},
		{" memory", u.MemoryMiB, more.MemoryMiB, q.GetMemoryMib(), memoryWords},
		{" disk", u.DiskMiB, more.DiskMiB, q.GetDiskMib(), memoryWords},
		{" allocations", u.Allocs, more.Allocs, q.GetAllocs(), plain},
	}
	for _, kind := range slices.Sorted(maps.Keys(q.GetDevicesMilli())) {
		lines = append(lines, quotaLine{" " + kind, u.DevicesMilli[kind], more.DevicesMilli[kind], q.GetDevicesMilli()[kind], thousandths})
	}
	return lines
}

// thousandths says them as whole ones: "12", "0.5".
func thousandths(n uint64) string { return strconv.FormatFloat(float64(n)/1000, 'f', -1, 64) }

// room is how many instances, each of at least so much, a namespace has room for, up to
// max, and why no more.
func (l *Ledger) room(namespace string, each *Use, limit int) (int, string) {
	acc := l.accounts[namespace]
	if acc == nil {
		return limit, ""
	}
	n := uint64(limit)
	for _, x := range acc.lines(each) {
		if x.quota > 0 && x.more > 0 {
			n = min(n, (x.quota-min(x.used, x.quota))/x.more)
		}
	}
	if n == uint64(limit) {
		return limit, ""
	}
	wanted := each.times(uint64(limit))
	return int(n), acc.over(namespace, &wanted)
}

// leastUse is what an instance of the group holds at least: an exclusive core may have
// more threads than one.
func (g *Group) leastUse() Use {
	u := Use{CPUMilli: g.total.leastMilli(), MemoryMiB: g.total.memory, DiskMiB: g.diskMiB, Allocs: 1}
	for _, h := range g.total.hugepages {
		u.MemoryMiB += h.Count * h.SizeKiB / 1024
	}
	for _, d := range g.total.devices {
		if u.DevicesMilli == nil {
			u.DevicesMilli = map[string]uint64{}
		}
		u.DevicesMilli[d.kind] += uint64(d.count) * uint64(cmp.Or(d.share, 1000))
	}
	return u
}

// SetQuota says what the allocations of a namespace may hold together; nil: no limit.
// allocs are all those of the namespace, looked at when it had no quota before.
func (f *Fleet) SetQuota(namespace string, quota *berthv1.Quota, allocs iter.Seq[*berthv1.Alloc]) {
	f.quotas.Open(namespace, quota, func(yield func(string, *berthv1.Assignment) bool) {
		for a := range allocs {
			if _, known := f.slots[a.GetNodeId()]; known && a.HoldsGrant() && !yield(a.GetNodeId(), a.GetAssignment()) {
				return
			}
		}
	})
}

// Quotas is what is counted for quotas; not to be changed.
func (f *Fleet) Quotas() *Ledger { return &f.quotas }

// quotaRoom is how many instances of an ask its namespace's quota has room for, and why
// no more: of a gang all or none.
func (f *Fleet) quotaRoom(ask *Ask) (int, string) {
	wanted, g := ask.wanted(), ask.Group
	if !f.quotas.Counts(g.Key.Namespace) {
		return wanted, ""
	}
	least := g.leastUse()
	room, over := f.quotas.room(g.Key.Namespace, &least, wanted)
	if g.Gang && room < wanted {
		room = 0
	}
	return room, over
}

// charge counts an instance that was just placed against its namespace's quota. Why it
// breaks it is the answer; "" when it does not.
func (f *Fleet) charge(g *Group, slot int32, grant *topology.Grant) string {
	acc := f.quotas.accounts[g.Key.Namespace]
	if acc == nil {
		return ""
	}
	use := useOfGrant(f.nodes[slot].usage.Machine(), grant)
	over := acc.over(g.Key.Namespace, &use)
	f.quotas.HoldUse(g.Key.Namespace, f.nodes[slot].node.GetId(), &use)
	return over
}

// overQuota explains what of a group a quota keeps from being placed; why is of the first
// instance that it kept, where that is only known of it.
func (f *Fleet) overQuota(g *Group, left int, why string) *berthv1.Explanation {
	least := g.leastUse()
	all := least.times(uint64(left))
	if over := f.quotas.accounts[g.Key.Namespace].over(g.Key.Namespace, &all); over != "" {
		why = over
	}
	return &berthv1.Explanation{Needs: g.needs(), Failed: []*berthv1.FailedCheck{{Check: quotaCheck, Detail: why}}, Remedies: []string{
		"end something in namespace " + g.Key.Namespace,
		fmt.Sprintf("raise the quota: berth namespace apply %s -quota ...", g.Key.Namespace),
	}}
}

// quotaCheck is the name of the check against the namespace's quota.
const quotaCheck = "quota"
