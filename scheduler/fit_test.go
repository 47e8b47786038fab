package scheduler

import (
	"fmt"
	"runtime"
	"testing"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/topology"
)

// fitCase is an ask that is common, and a machine that it fits on.
type fitCase struct {
	name string
	u    *topology.Usage
	g    *Group
}

func fitCases(tb testing.TB) []fitCase {
	var cases []fitCase
	cpu, gpu := fitMachine(tb, 0), fitMachine(tb, 8)
	for _, c := range []struct {
		name string
		m    *topology.Machine
		o    options
	}{
		{"simple", cpu, options{"cpu": {"100"}, "mem": {"64"}}},
		{"simple/single", cpu, options{"cpu": {"100"}, "mem": {"64"}, "policy": {"single"}}},
		{"port", cpu, options{"cpu": {"100"}, "mem": {"64"}, "port": {"0"}}},
		{"cores", cpu, options{"cores": {"8"}, "mem": {"4096"}, "policy": {"single"}}},
		{"cores/none", cpu, options{"cores": {"8"}, "mem": {"4096"}}},
		{"threads", cpu, options{"threads": {"8"}, "mem": {"4096"}, "policy": {"single"}}},
		{"hugepages", cpu, options{"cores": {"8"}, "pages": {"512"}, "policy": {"single"}}},
		{"cells=2", cpu, options{"cores": {"16"}, "mem": {"4096"}, "cells": {"2"}}},
		{"gpu", gpu, options{"cores": {"8"}, "device": {"gpu,1"}, "policy": {"single"}, "align": {"cpu,memory,gpu"}}},
		{"gpu/share", gpu, options{"cpu": {"1000"}, "device": {"gpu,1"}, "share": {"300"}}},
		{"gpu/4 linked", gpu, options{"cores": {"8"}, "device": {"gpu,4"}, "link": {"nvlink"}, "policy": {"single"}, "align": {"cpu,memory,gpu"}}},
		{"gpu/4", gpu, options{"cores": {"8"}, "device": {"gpu,4"}}},
		{"gpu and vf", gpu, options{"cores": {"8"}, "device": {"gpu,2", "vf,2,gpu"}, "policy": {"single"}, "align": {"cpu,memory,gpu,nic"}}},
	} {
		cases = append(cases, fitCase{c.name, topology.NewUsage(c.m), askOf(tb, jobOf(tb, "it", c.o), c.o).Group})
	}
	return cases
}

// fitMachine has two cells of 32 cores of 2 threads; the GPUs are linked through a
// switch, two under each PCI root, and beside each of those lie 8 VFs.
func fitMachine(tb testing.TB, gpus int) *topology.Machine {
	f := NewFleet()
	w := world{t: &testing.T{}, f: f, nodes: map[string]*berthv1.Node{}}
	w.node("n", options{})
	for range 2 {
		w.cell("32x2", "262144", options{"pages": {"1024"}})
	}
	for i := range gpus {
		at := options{"cell": {fmt.Sprint(i / 4)}, "root": {fmt.Sprint(i / 2)}}
		w.device(fmt.Sprintf("gpu%d", i), "gpu", options{"cell": at["cell"], "root": at["root"], "nvlink": {"x"}, "shareable": {""}})
		for k := range 8 {
			w.device(fmt.Sprintf("vf%d.%d", i, k), "vf", at)
		}
	}
	w.flush()
	return f.nodes[0].usage.Machine()
}

// The common asks cost no allocation.
func TestFitAllocatesNothing(t *testing.T) {
	for _, c := range fitCases(t) {
		var x fitter
		allocs := testing.AllocsPerRun(100, func() {
			choice, ok := x.fit(c.u, c.g)
			if !ok {
				t.Fatal("does not fit")
			}
			c.u.Remove(&choice.grant)
		})
		if allocs != 0 {
			t.Errorf("%s: %v allocations", c.name, allocs)
		}
	}
}

// Each op fits an ask, adds it and removes it again, beside others that are there.
func BenchmarkFit(b *testing.B) {
	for _, c := range fitCases(b) {
		b.Run(c.name, func(b *testing.B) {
			var x, first fitter
			if _, ok := first.fit(c.u, c.g); !ok {
				b.Fatal("does not fit")
			}
			b.ReportAllocs()
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			before := cpuTime()
			for b.Loop() {
				choice, ok := x.fit(c.u, c.g)
				if !ok {
					b.Fatal("does not fit")
				}
				c.u.Remove(&choice.grant)
			}
			b.ReportMetric(float64(cpuTime()-before)/float64(b.N), "cpu-ns/op")
		})
	}
}
