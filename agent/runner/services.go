package runner

import (
	"fmt"
	"net"
	"strconv"
	"strings"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/berthd/berth/agent/health"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// checkKey names a check of a group.
type checkKey struct{ service, check string }

// isReadiness and isLiveness say what follows from a check.
func isReadiness(c *berthv1.Check) bool { return c.GetOn() != "liveness" }
func isLiveness(c *berthv1.Check) bool  { return c.GetOn() == "liveness" || c.GetOn() == "both" }

// targets are the tasks that a check is of: it is run while they are, and liveness
// restarts them.
func targets(group *berthv1.Group, c *berthv1.Check) []string {
	if c.GetTask() != "" {
		return []string{c.GetTask()}
	}
	var names []string
	for _, t := range group.GetTasks() {
		if partOf(t) == partMain {
			names = append(names, t.GetName())
		}
	}
	return names
}

// runOf names one run of tasks, by when they were started; "" unless all of them run, and
// none of them stands still.
func runOf(states map[string]*berthv1.TaskState, tasks []string) string {
	var run strings.Builder
	for _, name := range tasks {
		st := states[name]
		if st.GetPhase() != berthv1.TaskState_started || stands(st) {
			return ""
		}
		fmt.Fprintf(&run, "%s %d\n", name, st.GetStartTime().AsTime().UnixNano())
	}
	return run.String()
}

// address gives where a port is reached from outside: the address and port of the node,
// not those inside the task. Port 0: it was not granted.
func (s *spec) address(port string) (string, uint32) {
	address := s.node.GetAddress()
	for _, p := range s.alloc.GetAssignment().GetPorts() {
		if p.GetName() == port && port != "" {
			if p.GetAddress() != "" {
				address = p.GetAddress()
			}
			return address, p.GetPort()
		}
	}
	return address, 0
}

// target is what a check of a service asks, but for scripts.
func (s *spec) target(service *berthv1.Service, c *berthv1.Check) health.Target {
	name := c.GetPort()
	if name == "" {
		name = service.GetPort()
	}
	address, port := s.address(name)
	if port == 0 {
		return health.Target{Why: fmt.Sprintf("the group was granted no port %q", name)}
	}
	return health.Target{Address: net.JoinHostPort(address, strconv.FormatUint(uint64(port), 10))}
}

// services are what the alloc offers, but for how that is at the moment. Who they belong
// to is known to the servers.
func (s *spec) services() []*berthv1.ServiceInstance {
	var list []*berthv1.ServiceInstance
	n := names{node: s.node, env: s.environment()}
	expand := func(text string) string {
		if v, err := n.expand("", text); err == nil {
			return v
		}
		return text // people see what is wrong with it
	}
	for _, service := range s.group.GetServices() {
		i := &berthv1.ServiceInstance{Service: service.GetName(), Canary: s.alloc.GetCanary()}
		i.Address, i.Port = s.address(service.GetPort())
		tags := service.GetTags()
		if i.Canary && len(service.GetCanaryTags()) > 0 {
			tags = service.GetCanaryTags()
		}
		for _, tag := range tags {
			i.Tags = append(i.Tags, expand(tag))
		}
		for key, v := range service.GetMeta() {
			if i.Meta == nil {
				i.Meta = map[string]string{}
			}
			i.Meta[key] = expand(v)
		}
		list = append(list, i)
	}
	return list
}

// condition is how an alloc is at the moment.
type condition struct {
	stopping string // why it is to stop; empty: it is not
	group    []member
	checks   map[checkKey]health.State
}

// instances completes what an alloc offers with how that is: pure. offered is not changed.
func instances(g *berthv1.Group, offered []*berthv1.ServiceInstance, c condition) []*berthv1.ServiceInstance {
	list := make([]*berthv1.ServiceInstance, 0, len(offered))
	for i, o := range offered {
		if i >= len(g.GetServices()) {
			break
		}
		def := g.GetServices()[i]
		inst := &berthv1.ServiceInstance{
			Service: o.GetService(), Address: o.GetAddress(), Port: o.GetPort(), Tags: o.GetTags(), Meta: o.GetMeta(),
			Canary: o.GetCanary(),
		}
		for _, check := range def.GetChecks() {
			s := c.checks[checkKey{def.GetName(), check.GetName()}]
			st := &berthv1.CheckState{Service: def.GetName(), Check: check.GetName(), Status: s.Status, Output: s.Output, On: check.GetOn()}
			if !s.Since.IsZero() {
				st.Since = timestamppb.New(s.Since)
			}
			inst.Checks = append(inst.Checks, st)
		}
		inst.Reason = unready(def, inst, c)
		inst.Ready = inst.Reason == ""
		list = append(list, inst)
	}
	return list
}

// unready says why an instance gets no traffic; empty: it does.
func unready(def *berthv1.Service, inst *berthv1.ServiceInstance, c condition) string {
	if c.stopping != "" {
		return "it is to stop: " + c.stopping
	}
	for _, m := range c.group {
		if m.part == partMain && m.state.GetPhase() != berthv1.TaskState_started {
			return fmt.Sprintf("task %q does not run", m.state.GetTask())
		}
		if why := conditionWords(m.state); why != "" && m.part == partMain {
			return why
		}
	}
	for i, check := range def.GetChecks() {
		st := inst.GetChecks()[i]
		switch {
		case !isReadiness(check) || st.GetStatus() == berthv1.CheckState_passing:
		case st.GetOutput() == "":
			return fmt.Sprintf("check %s has not passed yet", check.GetName())
		default:
			return fmt.Sprintf("check %s: %s", check.GetName(), st.GetOutput())
		}
	}
	if def.GetPort() != "" && inst.GetPort() == 0 {
		return fmt.Sprintf("it was granted no port %q", def.GetPort())
	}
	if inst.GetCanary() {
		return "it is a canary that is not promoted"
	}
	return ""
}
