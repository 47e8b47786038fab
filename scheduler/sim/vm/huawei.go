package vm

import (
	"io"
	"strconv"

	"github.com/berthd/berth/problem"
	"github.com/berthd/berth/scheduler/sim/trace"
)

// Bounds of what a trace may say.
const (
	maxCPU    = 1024 // of a cell, or asked for
	maxGB     = 1 << 16
	maxGroups = 1 << 24
)

// ReadHosts reads servers of two cells from a CSV with the columns CPU1, RAM1, CPU2 and
// RAM2: virtual CPUs and GB that are free (mdl1104's dataset of VM placement). A cell
// with no CPU takes nothing.
func ReadHosts(r io.Reader) ([]Host, error) {
	t, err := trace.NewTable(r, "CPU1", "RAM1", "CPU2", "RAM2")
	if err != nil {
		return nil, err
	}
	var hosts []Host
	for t.Next() {
		hosts = append(hosts, Host{Name: hostName(len(hosts)), Cells: []Room{
			{t.Number("CPU1", maxCPU), 1024 * t.Number("RAM1", maxGB)},
			{t.Number("CPU2", maxCPU), 1024 * t.Number("RAM2", maxGB)},
		}})
	}
	if t.Err() == nil && len(hosts) == 0 {
		return nil, problem.New(problem.Invalid, "line 2", "there are no servers")
	}
	return hosts, t.Err()
}

// ReadRacks reads the racks of hosts from a CSV with the columns host_id and rack_id, in
// the order of the servers. There may be more than there are servers.
func ReadRacks(r io.Reader, hosts []Host) error {
	t, err := trace.NewTable(r, "host_id", "rack_id")
	if err != nil {
		return err
	}
	i := 0
	for ; i < len(hosts) && t.Next(); i++ {
		if hosts[i].Rack = t.Text("rack_id"); hosts[i].Rack == "" {
			t.Fail("rack_id", "the rack is missing")
		}
		hosts[i].Name = t.Text("host_id")
	}
	if t.Err() == nil && i < len(hosts) {
		return problem.New(problem.Invalid, "the end", "there are racks of %d hosts, and %d hosts", i, len(hosts))
	}
	return t.Err()
}

// ReadMachines reads virtual machines in the order in which they come, from a CSV with
// the columns flavor_vcpus, flavor_ram (GB), numa (cells, 1 or 2), strategy, group and
// domain. None of them leaves.
func ReadMachines(r io.Reader) ([]Machine, error) {
	t, err := trace.NewTable(r, "flavor_vcpus", "flavor_ram", "numa", "strategy", "group", "domain")
	if err != nil {
		return nil, err
	}
	var machines []Machine
	for t.Next() {
		m := Machine{Room: Room{t.Number("flavor_vcpus", maxCPU), 1024 * t.Number("flavor_ram", maxGB)}, Cells: int(t.Number("numa", 2))}
		if m.CPU == 0 || m.Memory == 0 || m.Cells == 0 || m.CPU%int64(max(m.Cells, 1)) != 0 {
			t.Fail("numa", "%d CPUs and %d MiB cannot be divided over %d cells", m.CPU, m.Memory, m.Cells)
		}
		known := false
		if m.Strategy, known = strategies[t.Text("strategy")]; !known {
			t.Fail("strategy", "%q is not affinity, anti-affinity, fault_domain or empty", t.Text("strategy"))
		}
		if m.Strategy != Alone {
			m.Group = int(t.Number("group", maxGroups))
		}
		if m.Strategy == FaultDomain {
			m.Domain = int(t.Number("domain", 1<<10))
		}
		machines = append(machines, m)
	}
	if t.Err() == nil && len(machines) == 0 {
		return nil, problem.New(problem.Invalid, "line 2", "there are no machines")
	}
	return machines, t.Err()
}

func hostName(i int) string { return "host-" + strconv.Itoa(i) }

// UniformHosts gives hosts that are alike: their CPUs and memory (MiB) divided evenly
// over so many cells.
func UniformHosts(n, cells int, room Room) ([]Host, error) {
	if n < 1 || n > 1<<20 || cells < 1 || cells > 64 || room.CPU < int64(cells) || room.CPU > maxCPU*int64(cells) || room.Memory < int64(cells) {
		return nil, problem.New(problem.Invalid, "-hosts", "%d hosts of %d cells with %d CPUs and %d MiB make no sense", n, cells, room.CPU, room.Memory)
	}
	hosts := make([]Host, n)
	for i := range hosts {
		hosts[i].Name = hostName(i)
		for range cells {
			hosts[i].Cells = append(hosts[i].Cells, Room{room.CPU / int64(cells), room.Memory / int64(cells)})
		}
	}
	return hosts, nil
}
