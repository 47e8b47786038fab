package scheduler

import (
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/topology"
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

	checks    staticChecks
	spreads   []spread
	limits    []distinctProperty
	hosts     scope // of distinct_hosts
	siblings  []GroupKey
	avoidSelf bool // rather not two instances on one node
	tasks     []taskNeed
	total     need
	policy    policy
	align     align
	ports     []portNeed
	dynamic   int // how many of the ports are
	diskMiB   uint64
	seed      uint64 // for the stable order among equals
}

// scope is among whom something must be distinct.
type scope uint8

const (
	nobody scope = iota
	sameGroup
	sameJob
)

// distinctProperty limits how many instances may share a value of an attribute.
type distinctProperty struct {
	attribute string
	limit     int
	scope     scope
}

type spread struct {
	attribute string
	// weight 1: an instance too many in a value weighs as much as packing a node full.
	weight  float64
	targets map[string]float64 // share of 1; nil: evenly
}

type portNeed struct {
	name       string
	static, to uint32
}

// taskNeed is what one task needs.
type taskNeed struct {
	name string
	need
}

// need is an amount of everything that lies in cells.
type need struct {
	milli     uint64 // shared CPU
	cores     int    // whole physical cores
	threads   int    // single exclusive threads
	memory    uint64
	hugepages []topology.Hugepages
	devices   []deviceNeed
}

// simple says that shared CPU and memory are all there is.
func (n *need) simple() bool {
	return n.cores == 0 && n.threads == 0 && len(n.hugepages) == 0 && len(n.devices) == 0
}

// Compile makes a group ready for placement. An error names the part of the spec that
// makes no sense; the API refuses such a job before it gets here.
func Compile(job *berthv1.Job, group *berthv1.Group) (*Group, error) {
	g := &Group{
		Key:      GroupKey{job.GetNamespace(), job.GetName(), group.GetName()},
		Priority: job.GetPriority(), Count: GroupCount(group), Gang: group.GetGang(),
		diskMiB:   group.GetDiskMib(),
		avoidSelf: job.GetType() == berthv1.Job_service,
	}
	g.seed = hashString(g.Key.Namespace + "/" + g.Key.Job + "/" + g.Key.Group)
	for _, sibling := range job.GetGroups() {
		g.siblings = append(g.siblings, GroupKey{job.GetNamespace(), job.GetName(), sibling.GetName()})
	}
	if err := g.compileChecks(job, group); err != nil {
		return nil, fmt.Errorf("group %q: %w", group.GetName(), err)
	}
	g.compileSpreads(slices.Concat(job.GetSpreads(), group.GetSpreads()))
	for _, p := range group.GetNetwork().GetPorts() {
		g.ports = append(g.ports, portNeed{p.GetName(), p.GetStatic(), p.GetTo()})
		if p.GetStatic() == 0 {
			g.dynamic++
		}
	}
	for _, t := range group.GetTasks() {
		task, err := compileTask(t)
		if err != nil {
			return nil, fmt.Errorf("group %q: task %q: %w", group.GetName(), t.GetName(), err)
		}
		g.tasks = append(g.tasks, task)
		g.total.add(&task.need)
	}
	var err error
	g.policy, g.align, err = compileTopology(group.GetTopology())
	return g, err
}

// GroupCount is how many instances a group wants; 1 where it does not say.
func GroupCount(g *berthv1.Group) int {
	if g.Count == nil {
		return 1
	}
	return int(g.GetCount())
}

func (n *need) add(o *need) {
	n.milli += o.milli
	n.cores += o.cores
	n.threads += o.threads
	n.memory += o.memory
	n.devices = append(n.devices, o.devices...)
	for _, h := range o.hugepages {
		i := slices.IndexFunc(n.hugepages, func(x topology.Hugepages) bool { return x.SizeKiB == h.SizeKiB })
		if i < 0 {
			n.hugepages = append(n.hugepages, h)
		} else {
			n.hugepages[i].Count += h.Count
		}
	}
}

// Defaults of a task whose spec leaves them out.
const (
	defaultMilli  = 100
	defaultMemory = 64
)

func compileTask(t *berthv1.Task) (taskNeed, error) {
	r := t.GetResources()
	task := taskNeed{name: t.GetName(), need: need{milli: uint64(r.GetCpuMilli()), memory: r.GetMemoryMib()}}
	if task.milli == 0 && r.GetCores() == 0 {
		task.milli = defaultMilli
	}
	if task.memory == 0 {
		task.memory = defaultMemory
	}
	if task.milli > maxMilli || task.memory > maxMemory || r.GetCores() > topology.MaxCPU {
		return task, invalid("resources", "%d milli, %d cores and %d MiB are too much", task.milli, r.GetCores(), task.memory)
	}
	switch r.GetCoreUnit() {
	case "", "core":
		task.cores = int(r.GetCores())
	case "thread":
		task.threads = int(r.GetCores())
	default:
		return task, invalid("core_unit", "%q is neither \"core\" nor \"thread\"", r.GetCoreUnit())
	}
	for _, h := range r.GetHugepages() {
		if h.GetCount() > maxPages {
			return task, invalid("hugepages", "%d pages are too many", h.GetCount())
		}
		task.hugepages = append(task.hugepages, topology.Hugepages{SizeKiB: h.GetSizeKib(), Count: h.GetCount()})
	}
	for _, ask := range r.GetDevices() {
		d, err := compileDevice(ask)
		if err != nil {
			return task, err
		}
		task.devices = append(task.devices, d)
	}
	return task, nil
}

func compileDevice(ask *berthv1.DeviceAsk) (deviceNeed, error) {
	d := deviceNeed{
		kind: ask.GetKind(), count: max(int(ask.GetCount()), 1), model: ask.GetModel(),
		memory: ask.GetMemoryMib(), share: ask.GetShareMilli(), link: ask.GetLink(),
	}
	if d.share == 0 {
		d.share = topology.WholeDevice
	}
	if _, err := path.Match(d.model, ""); err != nil || d.share > topology.WholeDevice {
		return d, invalid("device "+d.kind, "the model %q or the share of %d makes no sense", d.model, d.share)
	}
	fixed := []*berthv1.Constraint{}
	if ask.GetProfile() != "" {
		fixed = append(fixed, &berthv1.Constraint{Attribute: "profile", Value: ask.GetProfile()})
	}
	if ask.GetNetwork() != "" {
		fixed = append(fixed, &berthv1.Constraint{Attribute: "network", Value: ask.GetNetwork()})
	}
	if ask.GetRdma() {
		fixed = append(fixed, &berthv1.Constraint{Attribute: "rdma", Value: "true"})
	}
	for _, c := range slices.Concat(fixed, ask.GetConstraints()) {
		check, err := compileCheck(c.GetAttribute(), c.GetOperator(), c.GetValue())
		if err != nil {
			return d, fmt.Errorf("device %q: constraint: %w", d.kind, err)
		}
		d.checks = append(d.checks, check)
	}
	return d, nil
}

// compileChecks sorts the constraints into those that a node meets or not by itself,
// and those that depend on the other instances.
func (g *Group) compileChecks(job *berthv1.Job, group *berthv1.Group) error {
	drivers := map[string]bool{}
	constraints := group.GetConstraints()
	for _, t := range group.GetTasks() {
		drivers[t.GetDriver()] = true
		constraints = slices.Concat(constraints, t.GetConstraints())
	}
	g.checks = newStaticChecks(job, drivers)
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
	case "distinct_property":
		limit := 1
		if c.GetValue() != "" {
			n, err := strconv.Atoi(c.GetValue())
			if err != nil || n < 1 {
				return invalid("value", "%q is not how many instances may share a value", c.GetValue())
			}
			limit = n
		}
		g.limits = append(g.limits, distinctProperty{c.GetAttribute(), limit, among})
		return nil
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
			if out.targets == nil {
				out.targets = map[string]float64{}
			}
			out.targets[t.GetValue()] += float64(t.GetPercent()) / 100
		}
		g.spreads = append(g.spreads, out)
	}
}

// attributes are those whose values instances are counted by.
func (g *Group) attributes() []string {
	var names []string
	for _, s := range g.spreads {
		names = append(names, s.attribute)
	}
	for _, l := range g.limits {
		names = append(names, l.attribute)
	}
	return names
}

// needs is what one instance needs, in words.
func (g *Group) needs() string {
	var words []string
	if g.total.milli > 0 {
		words = append(words, milliWords(g.total.milli)+" of CPU")
	}
	if g.total.cores > 0 {
		words = append(words, plural(uint64(g.total.cores), "exclusive core"))
	}
	if g.total.threads > 0 {
		words = append(words, plural(uint64(g.total.threads), "exclusive thread"))
	}
	words = append(words, memoryWords(g.total.memory))
	for _, h := range g.total.hugepages {
		words = append(words, fmt.Sprintf("%d hugepages of %s", h.Count, pageWords(h.SizeKiB)))
	}
	for _, d := range g.total.devices {
		words = append(words, d.words())
	}
	for _, p := range g.ports {
		if p.static != 0 {
			words = append(words, fmt.Sprintf("port %d", p.static))
		}
	}
	if g.diskMiB > 0 {
		words = append(words, memoryWords(g.diskMiB)+" of disk")
	}
	text := strings.Join(words, " + ")
	switch g.policy {
	case single:
		text += ", in one cell"
	case restricted:
		text += ", in as few cells as possible"
	}
	return text
}
