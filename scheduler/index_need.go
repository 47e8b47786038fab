package scheduler

import (
	"google.golang.org/protobuf/proto"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/topology"
)

// compileShape works out what the indexes need to know of a group: whether it lies in
// one cell, the least that it needs by dimension, and the name of its shape, which
// covers everything that a fit depends on.
func (g *Group) compileShape(group *berthv1.Group) error {
	g.inCell = g.policy == single && g.alignsAll() && len(g.total.devices) == 0 && g.cells == 0 && !g.wholeNode
	n := &g.total
	v := vector{dimMilli: saturate(n.leastMilli()), dimMemory: saturate(n.memory), dimCores: uint32(n.cores),
		dimThreads: uint32(n.cores + n.threads), dimDisk: saturate(g.diskMiB)}
	var pages uint64
	for _, h := range n.hugepages {
		pages += h.Count * h.SizeKiB / 1024
	}
	v[dimPages] = saturate(pages)
	for i := range n.devices {
		switch d := &n.devices[i]; {
		case d.share < topology.WholeDevice:
			v[dimShare] = max(v[dimShare], d.share)
		case alignOf(d.kind) == alignGPU:
			v[dimGPUs] += uint32(d.count)
		default:
			v[dimDevices] += uint32(d.count)
		}
	}
	if g.wholeNode {
		v[dimVacant] = 1
	}
	if g.inCell { // cells say nothing of the rest
		v[dimDisk] = 0
	}
	g.floor = v
	fit := &berthv1.Group{DiskMib: group.GetDiskMib(), Topology: group.GetTopology(), WholeNode: group.GetWholeNode(), Network: group.GetNetwork()}
	for _, t := range group.GetTasks() {
		fit.Tasks = append(fit.Tasks, &berthv1.Task{Resources: t.GetResources()})
	}
	name, err := proto.MarshalOptions{Deterministic: true}.Marshal(fit)
	g.shape = string(name)
	g.hash = hashString(g.Key.Namespace) ^ hashString(g.Key.Job)*3 ^ hashString(g.Key.Group)*5 ^ hashString(g.checks.key)
	return err
}
