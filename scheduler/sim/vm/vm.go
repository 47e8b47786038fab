// Package vm offers the virtual machines of recorded traces to a placement policy, one
// after the other: those of a cloud with affinity groups, anti-affinity groups and fault
// domains on servers of two cells, and those that come and go with their lifetimes. Berth
// places them by the scheduler's Fleet and Place, the code that servers place with; first
// fit, best fit and worst fit are there for comparison. Whatever a policy does is held
// against books of its own.
//
// It does no I/O and knows no clock.
package vm

import "github.com/berthd/berth/problem"

// Host is a server: its cells with what is free in each.
type Host struct {
	Name string
	// Rack is "" where it is not known.
	Rack  string
	Cells []Room
}

// Room is an amount of virtual CPUs and of memory in MiB.
type Room struct{ CPU, Memory int64 }

// Strategy says how the machines of a group lie to each other.
type Strategy uint8

// Strategies.
const (
	Alone Strategy = iota
	// Affinity: all in one rack, or on one host, see Rules.
	Affinity
	// AntiAffinity: no two on one host.
	AntiAffinity
	// FaultDomain: machines of different domains share no rack.
	FaultDomain
)

var strategies = map[string]Strategy{"": Alone, "affinity": Affinity, "anti-affinity": AntiAffinity, "fault_domain": FaultDomain}

// String is the trace's word for it.
func (s Strategy) String() string {
	return [...]string{"none", "affinity", "anti-affinity", "fault_domain"}[s]
}

// Machine is what is asked for.
type Machine struct {
	Room
	// Cells that it is divided evenly over.
	Cells    int
	Strategy Strategy
	// Group is a number among those of the strategy; Domain one of fault domains.
	Group, Domain int
	// From and Until are when it comes and goes, in seconds; Until 0: it stays.
	From, Until int64
}

// part is what the machine takes of each of its cells.
func (m *Machine) part() Room {
	n := int64(m.Cells)
	return Room{(m.CPU + n - 1) / n, (m.Memory + n - 1) / n}
}

func (r Room) holds(o Room) bool { return r.CPU >= o.CPU && r.Memory >= o.Memory }

// Rules say what the words of a trace mean where it does not.
type Rules struct {
	// SameHost has affinity mean one host; else it means one rack.
	SameHost bool
}

// place is where a machine lies: a host by its index, and cells of it.
type place struct {
	host  int
	cells []int
}

// policy is offered machines by their index.
type policy interface {
	// offer places a machine; false: it fits nowhere.
	offer(i int) (place, bool)
	// leave is told that a machine is gone from its place.
	leave(i int, p place)
}

// Policies are the names that Place and Churn know.
func Policies() []string { return []string{"berth", "first-fit", "best-fit", "worst-fit"} }

func newPolicy(name string, hosts []Host, machines []Machine, rules Rules) (policy, error) {
	switch name {
	case "berth":
		return newBerth(hosts, machines, rules)
	case "first-fit":
		return newGreedy(hosts, machines, rules, nil), nil
	case "best-fit":
		return newGreedy(hosts, machines, rules, tightest), nil
	case "worst-fit":
		return newGreedy(hosts, machines, rules, roomiest), nil
	}
	return nil, problem.New(problem.Invalid, "-policy", "there is no policy %q for virtual machines", name).
		WithRemedy("there are berth, first-fit, best-fit and worst-fit")
}
