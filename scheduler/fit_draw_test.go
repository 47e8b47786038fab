package scheduler

import (
	"fmt"

	"pgregory.net/rapid"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// drawNode draws a machine that is small enough to try everything on it.
func drawNode(t *rapid.T) *berthv1.Node {
	n := &berthv1.Node{Id: "n", Name: "n", Hardware: &berthv1.Hardware{DiskMib: 100}, MinPort: 1000, MaxPort: 1003}
	cells, cpu := rapid.IntRange(1, 3).Draw(t, "cells"), 0
	mixed := rapid.IntRange(0, 3).Draw(t, "mixed") == 0
	threads := rapid.IntRange(1, 2).Draw(t, "threads")
	for i := range cells {
		c := &berthv1.Cell{Id: uint32(2 * i), Socket: uint32(i / 2), MemoryMib: rapid.SampledFrom([]uint64{400, 600, 200, 0}).Draw(t, "memory")}
		for range rapid.SampledFrom([]int{3, 4, 2, 0}).Draw(t, "cores") {
			if mixed {
				threads = rapid.IntRange(1, 2).Draw(t, "threads of a core")
			}
			c.Cores = append(c.Cores, fmt.Sprintf("%d-%d", cpu, cpu+threads-1))
			cpu += threads
		}
		if cpu > 0 && rapid.IntRange(0, 3).Draw(t, "reserve") == 0 {
			c.ReservedCpus = fmt.Sprint(cpu - 1)
		}
		for _, size := range []uint64{2048, 1 << 20} {
			if pages := rapid.IntRange(0, 3).Draw(t, "pages"); pages > 0 {
				c.Hugepages = append(c.Hugepages, &berthv1.Hugepages{SizeKib: size, Count: uint64(pages)})
			}
		}
		n.Hardware.Cells = append(n.Hardware.Cells, c)
	}
	if rapid.Bool().Draw(t, "distances") {
		for i, c := range n.Hardware.Cells {
			for k := range cells {
				c.Distances = append(c.Distances, uint32(10+11*max(i-k, k-i)))
			}
		}
	}
	for i := range rapid.SampledFrom([]int{0, 4, 5, 6}).Draw(t, "devices") {
		drawDevice(t, n, i, cells)
	}
	return n
}

func drawDevice(t *rapid.T, n *berthv1.Node, i, cells int) {
	d := &berthv1.Device{Id: fmt.Sprintf("d%d", i), Kind: rapid.SampledFrom([]string{"gpu", "gpu", "vf"}).Draw(t, "kind"),
		Cell: int32(2*rapid.IntRange(0, cells).Draw(t, "cell")) - 2, PciRoot: rapid.SampledFrom([]string{"r0", "r1", ""}).Draw(t, "root"),
		Model: rapid.SampledFrom([]string{"A", "B"}).Draw(t, "model"), Healthy: rapid.IntRange(0, 7).Draw(t, "broken") < 7, Attributes: map[string]string{}}
	if rapid.IntRange(0, 2).Draw(t, "shareable") == 0 {
		d.ShareableMilli = 100
	}
	if rapid.IntRange(0, 4).Draw(t, "domain") == 0 {
		d.Attributes["nvlink"] = "x"
	}
	for k := range i {
		if rapid.IntRange(0, 2).Draw(t, "linked") == 0 {
			d.Links = append(d.Links, &berthv1.DeviceLink{Peer: fmt.Sprintf("d%d", k), Type: rapid.SampledFrom([]string{"nvlink", "xgmi"}).Draw(t, "type"),
				Lanes: uint32(rapid.IntRange(0, 2).Draw(t, "lanes"))})
		}
	}
	n.Hardware.Devices = append(n.Hardware.Devices, d)
}

// drawGroup draws what may be asked of one node.
func drawGroup(t *rapid.T) *berthv1.Group {
	g := &berthv1.Group{Name: "g", DiskMib: rapid.SampledFrom([]uint64{0, 0, 0, 60}).Draw(t, "disk"), WholeNode: rapid.IntRange(0, 9).Draw(t, "whole") == 9,
		Topology: &berthv1.TopologyPolicy{Policy: rapid.SampledFrom([]string{"none", "best-effort", "restricted", "single"}).Draw(t, "policy")}}
	for _, resource := range []string{"cpu", "memory", "hugepages", "gpu", "nic"} {
		if rapid.Bool().Draw(t, "align") {
			g.Topology.Align = append(g.Topology.Align, resource)
		}
	}
	even := uint32(1)
	if rapid.IntRange(0, 2).Draw(t, "span") == 2 && g.Topology.Policy != "single" {
		even = uint32(rapid.IntRange(1, 3).Draw(t, "over"))
		g.Topology.Cells = even
	}
	for i := range rapid.SampledFrom([]int{1, 1, 2}).Draw(t, "tasks") {
		r := &berthv1.Resources{MemoryMib: uint64(rapid.IntRange(1, 5).Draw(t, "mem") * 50), CoreUnit: rapid.SampledFrom([]string{"core", "thread"}).Draw(t, "unit"),
			Cores: even * rapid.SampledFrom([]uint32{0, 1, 2, 3}).Draw(t, "cores"), CpuMilli: uint32(rapid.IntRange(0, 8).Draw(t, "milli") * 250)}
		if rapid.IntRange(0, 3).Draw(t, "huge") == 3 {
			r.Hugepages = append(r.Hugepages, &berthv1.Hugepages{SizeKib: 2048, Count: uint64(even) * uint64(rapid.IntRange(1, 4).Draw(t, "pages"))})
		}
		for range rapid.SampledFrom([]int{1, 0, 2}).Draw(t, "asks") {
			r.Devices = append(r.Devices, drawDeviceAsk(t, even, r.GetDevices()))
		}
		g.Tasks = append(g.Tasks, &berthv1.Task{Name: fmt.Sprintf("t%d", i), Resources: r})
	}
	return g
}

func drawDeviceAsk(t *rapid.T, even uint32, before []*berthv1.DeviceAsk) *berthv1.DeviceAsk {
	d := &berthv1.DeviceAsk{Kind: rapid.SampledFrom([]string{"gpu", "gpu", "vf"}).Draw(t, "kind"),
		Count: rapid.SampledFrom([]uint32{1, 2, even, 3}).Draw(t, "count"), Model: rapid.SampledFrom([]string{"", "*", "A"}).Draw(t, "model"),
		ShareMilli: rapid.SampledFrom([]uint32{0, 0, 0, 400, 600}).Draw(t, "share"), Link: rapid.SampledFrom([]string{"", "", "nvlink", "pcie"}).Draw(t, "link")}
	if len(before) > 0 && before[0].GetKind() != d.Kind && rapid.Bool().Draw(t, "near") {
		d.Near, d.Within = before[0].GetKind(), rapid.SampledFrom([]string{"pcie", "cell", "socket"}).Draw(t, "within")
		if rapid.Bool().Draw(t, "back") && before[0].GetNear() == "" {
			before[0].Near, before[0].Within = d.Kind, "socket"
		}
	}
	return d
}
