package runner

import (
	"fmt"
	"maps"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/berthd/berth/agent/inventory"
	"github.com/berthd/berth/drivers"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/topology"
)

const (
	defaultKillSignal  = "SIGTERM"
	defaultKillTimeout = 5 * time.Second
	defaultLogFiles    = 5
	defaultLogFileMiB  = 10
)

// spec is what a task is built from.
type spec struct {
	node  *berthv1.Node
	alloc *berthv1.Alloc
	job   *berthv1.Job
	group *berthv1.Group
	task  *berthv1.Task
	dirs  drivers.Dirs
	// shared are the CPUs for tasks without their own; "": all.
	shared string
	// rendered is what templates give the environment.
	rendered map[string]string
}

func (s *spec) grant() *berthv1.TaskGrant {
	for _, g := range s.alloc.GetAssignment().GetTasks() {
		if g.GetTask() == s.task.GetName() {
			return g
		}
	}
	return &berthv1.TaskGrant{Task: s.task.GetName()}
}

// devices describes those of the grant. Of one that the node has no longer only what the
// grant says is known.
func (s *spec) devices() []*berthv1.Device {
	grants := s.grant().GetDevices()
	devices := make([]*berthv1.Device, len(grants))
	for i, g := range grants {
		devices[i] = &berthv1.Device{Id: g.GetId(), Kind: g.GetKind(), Cell: -1, HealthReason: "the node does not have it"}
		for _, d := range s.node.GetHardware().GetDevices() {
			if d.GetId() == g.GetId() {
				devices[i] = d
			}
		}
	}
	return devices
}

// build makes the driver's task. What it returns beside an error is complete but for
// what could not be resolved: enough to recover, stop and remove, not to start.
func (s *spec) build() (*drivers.Task, error) {
	t := &drivers.Task{
		ID:          taskID(s.alloc.GetId(), s.task.GetName()),
		AllocID:     s.alloc.GetId(),
		Name:        s.task.GetName(),
		Job:         s.alloc.GetJob(),
		Group:       s.alloc.GetGroup(),
		Namespace:   s.alloc.GetNamespace(),
		Config:      s.task.GetConfig(),
		User:        s.task.GetUser(),
		Resources:   s.task.GetResources(),
		Grant:       s.grant(),
		Ports:       s.alloc.GetAssignment().GetPorts(),
		Devices:     s.devices(),
		Cells:       s.node.GetHardware().GetCells(),
		SharedCPUs:  s.shared,
		Dirs:        s.dirs,
		Logs:        logPolicy(s.task.GetLogs()),
		KillSignal:  defaultKillSignal,
		KillTimeout: defaultKillTimeout,
	}
	if t.Resources == nil {
		t.Resources = &berthv1.Resources{}
	}
	if v := s.task.GetKillSignal(); v != "" {
		t.KillSignal = v
	}
	if d := s.task.GetKillTimeout(); d != nil {
		t.KillTimeout = max(0, d.AsDuration())
	}
	t.Env = s.environment()
	n := names{node: s.node, env: maps.Clone(t.Env)}
	for _, key := range sortedKeys(s.task.GetEnv()) {
		v, err := n.expand(s.field("env."+key), s.task.GetEnv()[key])
		if err != nil {
			return t, err
		}
		t.Env[key] = v
	}
	maps.Copy(t.Env, s.rendered)
	n.env = t.Env
	config, err := n.expandStruct(s.field("config"), s.task.GetConfig())
	if err != nil {
		return t, err
	}
	t.Config = config
	return t, nil
}

func (s *spec) field(name string) string {
	return fmt.Sprintf("groups[%s].tasks[%s].%s", s.group.GetName(), s.task.GetName(), name)
}

func taskID(alloc, task string) string { return alloc + "/" + task }

func logPolicy(l *berthv1.LogPolicy) drivers.LogPolicy {
	p := drivers.LogPolicy{MaxFiles: defaultLogFiles, MaxFileBytes: defaultLogFileMiB << 20}
	if n := l.GetMaxFiles(); n > 0 {
		p.MaxFiles = int(n)
	}
	if n := l.GetMaxFileMib(); n > 0 {
		p.MaxFileBytes = int64(min(n, 1<<40)) << 20
	}
	return p
}

// environment is every BERTH_ variable of a task.
func (s *spec) environment() map[string]string {
	a := s.alloc
	env := map[string]string{
		"BERTH_ALLOC_ID":    a.GetId(),
		"BERTH_ALLOC_NAME":  fmt.Sprintf("%s.%s[%d]", a.GetJob(), a.GetGroup(), a.GetIndex()),
		"BERTH_ALLOC_INDEX": strconv.Itoa(int(a.GetIndex())),
		"BERTH_JOB_NAME":    a.GetJob(),
		"BERTH_JOB_VERSION": strconv.FormatUint(a.GetJobVersion(), 10),
		"BERTH_GROUP_NAME":  a.GetGroup(),
		"BERTH_TASK_NAME":   s.task.GetName(),
		"BERTH_NAMESPACE":   a.GetNamespace(),
		"BERTH_NODE_ID":     s.node.GetId(),
		"BERTH_NODE_NAME":   s.node.GetName(),
		"BERTH_NODE_POOL":   s.node.GetPool(),
		"BERTH_ALLOC_DIR":   s.dirs.Shared,
		"BERTH_TASK_DIR":    s.dirs.Task,
		"BERTH_SECRETS_DIR": s.dirs.Secrets,
	}
	if region := s.node.GetAttributes()[inventory.AttrRegion]; region != "" {
		env["BERTH_REGION"] = region
	}
	s.addPorts(env)
	s.addResources(env)
	for _, meta := range []map[string]string{s.job.GetMeta(), s.group.GetMeta(), s.task.GetMeta()} {
		for k, v := range meta {
			env["BERTH_META_"+variableName(k)] = v
		}
	}
	return env
}

// addPorts names each port as the job does and in upper case.
func (s *spec) addPorts(env map[string]string) {
	for _, p := range s.alloc.GetAssignment().GetPorts() {
		ip := p.GetAddress()
		if ip == "" {
			ip = s.node.GetAddress()
		}
		inside := p.GetTo()
		if inside == 0 {
			inside = p.GetPort()
		}
		port := strconv.Itoa(int(p.GetPort()))
		for _, name := range []string{p.GetName(), variableName(p.GetName())} {
			env["BERTH_PORT_"+name] = strconv.Itoa(int(inside))
			env["BERTH_HOST_PORT_"+name] = port
			env["BERTH_IP_"+name] = ip
			env["BERTH_ADDR_"+name] = net.JoinHostPort(ip, port)
		}
	}
}

func (s *spec) addResources(env map[string]string) {
	var cpus topology.CPUSet
	for _, c := range s.grant().GetCells() {
		if set, err := topology.ParseCPUSet(c.GetCpus()); err == nil {
			cpus.AddAll(set)
		}
	}
	env["BERTH_MEMORY_MIB"] = strconv.FormatUint(s.task.GetResources().GetMemoryMib(), 10)
	if max := s.task.GetResources().GetMemoryMaxMib(); max > 0 {
		env["BERTH_MEMORY_MAX_MIB"] = strconv.FormatUint(max, 10)
	}
	if n := s.task.GetResources().GetCpuMilli(); n > 0 {
		env["BERTH_CPU_MILLI"] = strconv.Itoa(int(n))
	}
	if !cpus.Empty() {
		env["BERTH_CPUS"] = cpus.String()
	} else if s.shared != "" {
		env["BERTH_CPUS"] = s.shared
	}
}

// variableName makes a name fit for an environment variable: upper case, and _ for
// what is not a letter or digit.
func variableName(name string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z':
			return r - 'a' + 'A'
		case r >= 'A' && r <= 'Z', r >= '0' && r <= '9':
			return r
		}
		return '_'
	}, name)
}
