package command

import (
	"fmt"
	"io"

	"github.com/spf13/pflag"

	"github.com/berthd/berth/problem"
	"github.com/berthd/berth/scheduler/sim/vm"
)

// vmReplays is the help of those that are about virtual machines.
const vmReplays = "huawei (mdl1104's dataset of VM placement, as CSV): offers the machines of -pods to the servers of two cells of -nodes, in racks by -racks; none leaves. A machine of two cells takes half of each. Machines of an affinity group lie in one rack (or on one host, with -affinity host), those of an anti-affinity group on different hosts, those of different fault domains of a group in different racks.\n" +
	"azure (Azure's machines of 2017, as flavours and bins of lifetimes): machines come by -pods and go by -durations; what a letter and a bin mean is in -flavors and -intervals. The fleet is -hosts hosts that are alike; a machine lies in one cell.\n" +
	"For both, first-fit, best-fit (the least CPU left in its cells) and worst-fit keep the same rules as berth. fragmentation_percent: the part of the CPUs still free that lies on hosts that the next machine, by what was asked for, does not fit on."

// vmFlags are what replays of virtual machines are told beside the others.
type vmFlags struct {
	racks, affinity               string
	durations, flavors, intervals string
	hosts, hostCells, hostCPUs    int
	hostMemoryGiB                 int
}

func (v *vmFlags) register(f *pflag.FlagSet) {
	f.StringVar(&v.racks, "racks", "", "huawei: `file` with the racks of the servers (default all in one)")
	f.StringVar(&v.affinity, "affinity", "rack", "huawei: what an affinity group shares: rack or host")
	f.StringVar(&v.durations, "durations", "", "azure: `file` with the machines' lifetimes")
	f.StringVar(&v.flavors, "flavors", "", "azure: `file` with the flavours")
	f.StringVar(&v.intervals, "intervals", "", "azure: `file` with the bins of lifetimes")
	f.IntVar(&v.hosts, "hosts", 1000, "azure: `number` of hosts")
	f.IntVar(&v.hostCells, "host-cells", 2, "azure: cells of each")
	f.IntVar(&v.hostCPUs, "host-cpus", 64, "azure: virtual CPUs of each")
	f.IntVar(&v.hostMemoryGiB, "host-memory", 256, "azure: memory of each, in `GiB`")
}

func (a *app) replayHuawei(o *replayFlags) error {
	hosts, err := readTrace("-nodes", o.nodes, vm.ReadHosts)
	if err != nil {
		return err
	}
	for i := range hosts {
		hosts[i].Rack = "0"
	}
	if o.vm.racks != "" {
		if _, err = readTrace("-racks", o.vm.racks, func(r io.Reader) (bool, error) { return true, vm.ReadRacks(r, hosts) }); err != nil {
			return err
		}
	}
	machines, err := readTrace("-pods", o.pods, vm.ReadMachines)
	if err != nil {
		return err
	}
	if o.vm.affinity != "rack" && o.vm.affinity != "host" {
		return problem.New(problem.Invalid, "-affinity", "an affinity group shares a rack or a host, not a %q", o.vm.affinity)
	}
	r, err := vm.Place(hosts, machines, o.policy, vm.Rules{SameHost: o.vm.affinity == "host"})
	if err != nil {
		return err
	}
	if o.asJSON {
		return a.printJSON(r)
	}
	a.printf("%s: %d of %d machines placed on %d hosts, %d violations\n", r.Policy, r.Placed, r.Machines, r.Hosts, r.Violations)
	t := newTable(column{title: "STRATEGY"}, column{title: "MACHINES", right: true}, column{title: "NOT PLACED", right: true})
	for _, name := range []string{"none", "affinity", "anti-affinity", "fault_domain"} {
		t.add(name, r.Strategies[name].Machines, r.Strategies[name].Unplaced)
	}
	if err := a.table(t); err != nil {
		return err
	}
	a.printf("CPU %.2f %%, memory %.2f %%, %d hosts untouched, fragmentation %.2f %%\n", r.CPUPercent, r.MemoryPercent, r.UntouchedHosts, r.FragmentationPercent)
	return nil
}

func (a *app) replayAzure(o *replayFlags) error {
	flavors, err := readTrace("-flavors", o.vm.flavors, vm.ReadFlavors)
	if err != nil {
		return err
	}
	lifetimes, err := readTrace("-intervals", o.vm.intervals, vm.ReadIntervals)
	if err != nil {
		return err
	}
	machines, err := readTrace("-pods", o.pods, func(arrivals io.Reader) ([]vm.Machine, error) {
		return readTrace("-durations", o.vm.durations, func(durations io.Reader) ([]vm.Machine, error) {
			return vm.ReadArrivals(arrivals, durations, flavors, lifetimes)
		})
	})
	if err != nil {
		return err
	}
	hosts, err := vm.UniformHosts(o.vm.hosts, o.vm.hostCells, vm.Room{CPU: int64(o.vm.hostCPUs), Memory: int64(o.vm.hostMemoryGiB) * 1024})
	if err != nil {
		return err
	}
	r, err := vm.Churn(hosts, machines, o.policy)
	if err != nil {
		return err
	}
	if o.asJSON {
		return a.printJSON(r)
	}
	t := newTable(column{title: "HOURS", right: true}, column{title: "MACHINES", right: true}, column{title: "EMPTY HOSTS", right: true}, column{title: "CPU", right: true}, column{title: "PACKING", right: true})
	for i, s := range r.Samples {
		if i%6 == 0 {
			t.add(s.Seconds/3600, s.Machines, s.EmptyHosts, fmt.Sprintf("%.1f %%", s.CPUPercent), fmt.Sprintf("%.1f %%", s.PackingPercent))
		}
	}
	if err := a.table(t); err != nil {
		return err
	}
	a.printf("%s: %d of %d machines placed on %d hosts, %d violations\nmean: %.1f empty hosts, CPU %.2f %%, of hosts in use %.2f %%\n",
		r.Policy, r.Placed, r.Machines, r.Hosts, r.Violations, r.MeanEmptyHosts, r.MeanCPUPercent, r.MeanPackingPercent)
	return nil
}
