package jobspec

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/berthd/berth/jobspec/internal/schema"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// A name is part of paths, file names, environment variables and URLs.
var name = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$`)

const nameRule = `letters, digits, "-", "_" and ".", at most 63, with a letter or digit at both ends`

// architectures are the GOARCH names of Linux.
var architectures = []string{
	"386", "amd64", "arm", "arm64", "loong64", "mips", "mips64", "mips64le", "mipsle",
	"ppc64", "ppc64le", "riscv64", "s390x",
}

// signals are those that may ask a task to stop.
var signals = []string{
	"SIGABRT", "SIGALRM", "SIGCHLD", "SIGCONT", "SIGFPE", "SIGHUP", "SIGILL", "SIGINT", "SIGIO",
	"SIGKILL", "SIGPIPE", "SIGPROF", "SIGPWR", "SIGQUIT", "SIGSEGV", "SIGSTOP", "SIGSYS",
	"SIGTERM", "SIGTRAP", "SIGTSTP", "SIGTTIN", "SIGTTOU", "SIGURG", "SIGUSR1", "SIGUSR2",
	"SIGVTALRM", "SIGWINCH", "SIGXCPU", "SIGXFSZ",
}

// everyNode says whether jobs of the type run on every node that fits.
func everyNode(t berthv1.Job_Type) bool {
	return t == berthv1.Job_system || t == berthv1.Job_sysbatch
}

func (c *checker) name(s, what, path string) {
	if s != "" && !name.MatchString(s) {
		c.add(path, "a name is made of "+nameRule, "%s %q is not a name", what, clip(s))
	}
}

func clip(s string) string {
	if len(s) > 80 {
		return strings.ToValidUTF8(s[:80], "") + "..."
	}
	return s
}

func (c *checker) job(job *berthv1.Job) {
	c.name(job.GetName(), "job", "name")
	c.name(job.GetNamespace(), "namespace", "namespace")
	c.name(job.GetNodePool(), "node_pool", "node_pool")
	for _, arch := range job.GetArch() {
		c.arch(arch, "arch holds", "arch")
	}
	for _, g := range job.GetGroups() {
		c.groups = append(c.groups, g.GetName())
	}
	c.placement(job)
	c.life(job)
	c.update(job.GetType(), job.GetUpdate(), "update")
	c.keys(job.GetMeta(), "meta")
	c.constraints(job.GetConstraints(), "", true)
	c.affinities(job.GetAffinities(), "")
	c.spreads(job.GetSpreads(), "")
	tasks := 0
	keys := elementKeysOf(job, "groups")
	for i, g := range job.GetGroups() {
		c.group(job, g, "groups["+keys[i]+"]")
		tasks += len(g.GetTasks())
	}
	if tasks > MaxTasks {
		c.add("groups", "", "the job has %d tasks; at most %d", tasks, MaxTasks)
	}
}

func (c *checker) group(job *berthv1.Job, g *berthv1.Group, path string) {
	c.name(g.GetName(), "group", path+".name")
	if everyNode(job.GetType()) {
		instead := fmt.Sprintf("a %s job runs once on every node that fits", job.GetType())
		if g.Count != nil {
			c.add(path+".count", instead+"; leave count out", "a %s job takes no count", job.GetType())
		}
		if g.GetGang() {
			c.add(path+".gang", instead, "a %s job cannot be a gang", job.GetType())
		}
		if g.GetReschedule() != nil {
			c.add(path+".reschedule", instead+"; a restart policy is what it can have", "a %s job is not rescheduled", job.GetType())
		}
	}
	c.keys(g.GetMeta(), path+".meta")
	c.constraints(g.GetConstraints(), path, true)
	c.affinities(g.GetAffinities(), path)
	c.spreads(g.GetSpreads(), path)
	c.groupPlacement(g, path)
	c.restart(g.GetRestart(), path+".restart")
	c.reschedule(g.GetReschedule(), path+".reschedule")
	c.network(g.GetNetwork(), path+".network")
	c.groupLife(job, g, path)
	c.services(job, g, path)
	c.lifecycle(g, path)
	keys := elementKeysOf(g, "tasks")
	for i, t := range g.GetTasks() {
		c.task(job, t, path+".tasks["+keys[i]+"]")
	}
}

func (c *checker) task(job *berthv1.Job, t *berthv1.Task, path string) {
	c.name(t.GetName(), "task", path+".name")
	c.name(t.GetDriver(), "driver", path+".driver")
	c.keys(t.GetMeta(), path+".meta")
	c.constraints(t.GetConstraints(), path, false)
	c.restart(t.GetRestart(), path+".restart")
	c.resources(t.GetResources(), path+".resources")
	c.files(job, t, path)
	c.machine(job, t, path)
	for _, key := range sortedKeys(t.GetEnv()) {
		at := path + ".env[" + key + "]"
		switch {
		case strings.ContainsAny(key, "=\x00"):
			c.add(at, "", "%q cannot be the name of an environment variable", clip(key))
		case strings.HasPrefix(key, "BERTH_"):
			c.add(at, "names that begin with BERTH_ are set by Berth", "%s cannot be set by a spec", clip(key))
		case strings.Contains(t.GetEnv()[key], "\x00"):
			c.add(at, "", "%s holds a zero byte", clip(key))
		}
	}
	if s := t.GetKillSignal(); s != "" && !slices.Contains(signals, s) {
		c.add(path+".kill_signal", didYouMean(s, signals), "kill_signal %q is no signal", clip(s))
	}
	if u := t.GetUser(); strings.Count(u, ":") > 1 || strings.ContainsAny(u, " \t\n/\x00") || len(u) > 128 {
		c.add(path+".user", `write "user" or "user:group"`, "user %q is no user", clip(u))
	}
}

// keys checks the keys of meta, which become names of environment variables.
func (c *checker) keys(meta map[string]string, path string) {
	for _, key := range sortedKeys(meta) {
		if strings.ContainsAny(key, "=\x00\n") {
			c.add(path+"["+key+"]", "", "%q cannot be a key of meta", clip(key))
		}
	}
}

func (c *checker) restart(p *berthv1.RestartPolicy, path string) {
	if p == nil {
		return
	}
	c.interval(p.Interval, "restart", path)
	if p.Attempts != nil && p.GetAttempts() == 0 && p.GetMode() == "delay" {
		c.add(path+".mode", `allow attempts, or write mode = "fail"`, "restart waits for attempts that it does not allow")
	}
	c.delays(p.GetDelay(), p.GetMaxDelay(), "restart", path)
}

func (c *checker) interval(d *durationpb.Duration, what, path string) {
	if d != nil && d.AsDuration() == 0 {
		c.add(path+".interval", "", "the interval of %s cannot be 0", what)
	}
}

// delays checks a first delay against the longest.
func (c *checker) delays(delay, longest *durationpb.Duration, what, path string) {
	if longest != nil && delay.AsDuration() > longest.AsDuration() {
		c.add(path+".max_delay", "", "the max_delay of %s is shorter than its delay", what)
	}
}

func (c *checker) reschedule(p *berthv1.ReschedulePolicy, path string) {
	if p == nil {
		return
	}
	if p.GetUnlimited() && p.GetAttempts() > 0 {
		c.add(path+".attempts", "leave one of them out", "reschedule has both attempts and unlimited")
	}
	c.interval(p.Interval, "reschedule", path)
	c.delays(p.GetDelay(), p.GetMaxDelay(), "reschedule", path)
}

func (c *checker) network(n *berthv1.Network, path string) {
	statics, variables := map[uint32]string{}, map[string]string{}
	keys := elementKeysOf(n, "ports")
	for i, p := range n.GetPorts() {
		at := path + ".ports[" + keys[i] + "]"
		c.name(p.GetName(), "port", at+".name")
		if other, ok := statics[p.GetStatic()]; ok && p.GetStatic() != 0 {
			c.add(at+".static", "", "the ports %q and %q both want %d", other, p.GetName(), p.GetStatic())
		}
		statics[p.GetStatic()] = p.GetName()
		variable := envName(p.GetName())
		if other, ok := variables[variable]; ok && other != p.GetName() {
			c.add(at+".name", "", "the ports %q and %q would both be BERTH_PORT_%s", other, p.GetName(), variable)
		}
		variables[variable] = p.GetName()
	}
}

// envName is a name as part of an environment variable's.
func envName(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z':
			return r - 'a' + 'A'
		case r >= 'A' && r <= 'Z', r >= '0' && r <= '9':
			return r
		}
		return '_'
	}, s)
}

// defaultMemory is what a task gets that asks for none.
var defaultMemory = schema.Of((&berthv1.Resources{}).ProtoReflect().Descriptor()).Lookup("memory").Default.Uint()

func (c *checker) resources(r *berthv1.Resources, path string) {
	if r.GetCores() > 0 && r.GetCpuMilli() > 0 {
		c.add(path+".cpu_milli", "ask for exclusive cores, or for a share of the shared ones", "cpu and cores cannot both be asked for")
	}
	memory := r.GetMemoryMib()
	if memory == 0 {
		memory = defaultMemory
	}
	if m := r.GetMemoryMaxMib(); m > 0 && m < memory {
		c.add(path+".memory_max_mib", "", "memory_max is less than memory")
	}
	for i, h := range r.GetHugepages() {
		if k := h.GetSizeKib(); k != 0 && (k&(k-1) != 0 || k < 64 || k > 16<<20) {
			at := path + ".hugepages[" + elementKeysOf(r, "hugepages")[i] + "]"
			c.add(at+".size_kib", `most hosts have "2MiB" and "1GiB"`, "no kernel has hugepages of that size")
		}
	}
	for i, d := range r.GetDevices() {
		at := path + ".devices[" + elementKeysOf(r, "devices")[i] + "]"
		c.name(d.GetKind(), "device", at+".kind")
		if s := d.GetShareMilli(); s > 0 && s < 1000 {
			if d.GetCount() > 1 {
				c.add(at+".share_milli", "", "a share is of one device, not of %d", d.GetCount())
			}
			if d.GetProfile() != "" {
				c.add(at+".share_milli", "leave one of them out", "a device is shared by profile or by share, not by both")
			}
			if d.GetLink() != "" {
				c.add(at+".link", "leave it out, or ask for whole devices", "a share of one device has nothing to be linked to")
			}
		}
		c.nearness(r, d, at)
		c.constraints(d.GetConstraints(), at, false)
	}
}
