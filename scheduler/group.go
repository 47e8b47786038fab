package scheduler

import (
	"fmt"
	"slices"
	"strings"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// GroupKey names a group of a job.
type GroupKey struct{ Namespace, Job, Group string }

// Group is a job's group, compiled for placement. It never changes: any number of asks
// and fleets may share it.
type Group struct {
	Key      GroupKey
	Priority uint32
	// Count is how many instances are wanted in all; spread by shares needs to know.
	Count int
	// Gang: all instances of an ask are placed, or none.
	Gang bool

	// job and spec are what it was compiled of.
	job  *berthv1.Job
	spec *berthv1.Group

	checks    staticChecks
	strategy  strategy
	spreads   []spread
	limits    []limit
	hosts     scope // of distinct_hosts
	sole      bool  // a limit lets no two instances share a value
	domains   [2]domainNames
	siblings  []GroupKey
	avoidSelf bool // rather not two instances on one node
	tasks     []taskNeed
	total     need
	least     uint64 // milli of total that any node must have
	wishes    []wish // the tasks' device asks, in the order in which they are granted
	// strictTwins: no device may stand for one under another PCI root.
	strictTwins bool
	policy      policy
	align       align
	cells       int  // how many each hold the same part; 0: as the policy gives
	part        need // what each of those holds
	wholeNode   bool
	ports       []portNeed
	dynamic     int // how many of the ports are
	diskMiB     uint64
	// floor, shape and inCell are what the indexes know a group by; see compileShape.
	floor  vector
	shape  string
	inCell bool
	// hash is of what a fleet keeps for a group, see Fleet.know.
	hash uint64
}

type spread struct {
	attribute string
	// weight 1: an instance too many in a value weighs as much as all affinities together.
	weight  float64
	targets []target // by value, ascending; nil: evenly
}

// target is the share of 1 that a value is to have.
type target struct {
	value string
	share float64
}

// portNeed is a port that is asked for.
type portNeed struct {
	name   string
	static uint32
	to     uint32 // inside the task that it is forwarded to; 0: the same port
}

// granted is the port as it is granted on a node.
func (p *portNeed) granted(port uint32, address string) *berthv1.PortGrant {
	g := &berthv1.PortGrant{Name: p.name, Port: port, To: p.to, Address: address}
	if g.To == 0 {
		g.To = port
	}
	return g
}

// Compile makes a group ready for placement. An error names the part of the spec that
// makes no sense; the API refuses such a job before it gets here.
func Compile(job *berthv1.Job, group *berthv1.Group) (*Group, error) {
	g := &Group{
		Key:      GroupKey{job.GetNamespace(), job.GetName(), group.GetName()},
		Priority: job.GetPriority(), Count: GroupCount(group), Gang: group.GetGang() || job.GetGang(),
		diskMiB:   group.GetDiskMib(),
		avoidSelf: job.GetType() == berthv1.Job_service,
		job:       job, spec: group,
	}
	for _, sibling := range job.GetGroups() {
		g.siblings = append(g.siblings, GroupKey{job.GetNamespace(), job.GetName(), sibling.GetName()})
	}
	if err := g.compileChecks(job, group); err != nil {
		return nil, fmt.Errorf("group %q: %w", group.GetName(), err)
	}
	g.compileSpreads(slices.Concat(job.GetSpreads(), group.GetSpreads()))
	var err error
	if g.strategy, err = compileStrategy(job.GetStrategy()); err != nil {
		return nil, fmt.Errorf("group %q: %w", group.GetName(), err)
	}
	if err = g.compileNeeds(group); err != nil {
		return nil, fmt.Errorf("group %q: %w", group.GetName(), err)
	}
	if err = g.compileShape(group); err != nil {
		return nil, fmt.Errorf("group %q: %w", group.GetName(), err)
	}
	g.compileMembers()
	g.compileDomains()
	return g, nil
}

// GroupCount is how many instances a group wants; 1 where it does not say.
func GroupCount(g *berthv1.Group) int {
	if g.Count == nil {
		return 1
	}
	return int(g.GetCount())
}

// compileChecks sorts the constraints into those that a node meets or not by itself,
// and those that depend on the other instances.
func (g *Group) compileChecks(job *berthv1.Job, group *berthv1.Group) error {
	drivers := map[string]bool{}
	constraints := group.GetConstraints()
	for _, t := range group.GetTasks() {
		drivers[t.GetDriver()] = true
		constraints = slices.Concat(constraints, t.GetConstraints(), t.ImpliedConstraints())
	}
	g.checks = newStaticChecks(job, drivers)
	g.checks.tolerations = compileTolerations(slices.Concat(job.GetTolerations(), group.GetTolerations()))
	g.compileArchs(job.GetArchWeights())
	for i, c := range slices.Concat(job.GetConstraints(), constraints) {
		among := sameJob
		if i >= len(job.GetConstraints()) {
			among = sameGroup
		}
		if err := g.compileConstraint(c, among); err != nil {
			return fmt.Errorf("constraint on %q: %w", c.GetAttribute(), err)
		}
	}
	for _, a := range slices.Concat(job.GetAffinities(), group.GetAffinities()) {
		c, err := compileCheck(a.GetAttribute(), a.GetOperator(), a.GetValue())
		if err != nil {
			return fmt.Errorf("affinity to %q: %w", a.GetAttribute(), err)
		}
		g.checks.affinities = append(g.checks.affinities, affinity{c, a.GetWeight()})
	}
	g.checks.seal()
	return nil
}

func (g *Group) compileConstraint(c *berthv1.Constraint, among scope) error {
	switch c.GetOperator() {
	case "distinct_hosts":
		if c.GetValue() != "false" {
			g.hosts = max(g.hosts, among)
		}
		return nil
	case "distinct_property", "same_property", "apart_from":
		return g.compileLimit(c.GetAttribute(), c.GetOperator(), c.GetValue(), among)
	}
	compiled, err := compileCheck(c.GetAttribute(), c.GetOperator(), c.GetValue())
	g.checks.constraints = append(g.checks.constraints, compiled)
	return err
}

func (g *Group) compileSpreads(spreads []*berthv1.Spread) {
	for _, s := range spreads {
		weight := s.GetWeight()
		if weight == 0 {
			weight = 50
		}
		out := spread{attribute: s.GetAttribute(), weight: float64(weight) / 50}
		for _, t := range s.GetTargets() {
			out.aim(t.GetValue(), float64(t.GetPercent())/100)
		}
		g.spreads = append(g.spreads, out)
	}
}

// aim adds a share to a value's target.
func (s *spread) aim(value string, share float64) {
	i, known := slices.BinarySearchFunc(s.targets, value, func(t target, value string) int { return strings.Compare(t.value, value) })
	if !known {
		s.targets = slices.Insert(s.targets, i, target{value: value})
	}
	s.targets[i].share += share
}
