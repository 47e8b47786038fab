package jobspec

import (
	"fmt"

	"github.com/berthd/berth/jobspec/internal/schema"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// Warnings says what is allowed in a job and probably not meant, in sentences for
// people.
func Warnings(job *berthv1.Job) []string {
	var w []string
	warn := func(format string, args ...any) { w = append(w, fmt.Sprintf(format, args...)) }
	if everyNode(job.GetType()) && len(job.GetSpreads()) > 0 {
		warn("spread has no effect: a %s job runs on every node that fits", job.GetType())
	}
	if everyNode(job.GetType()) && job.GetStrategy() != "" {
		warn("strategy has no effect: a %s job runs on every node that fits", job.GetType())
	}
	if instances := countOf(job); job.GetGang() && instances < 2 {
		warn("gang has no effect with one instance")
	}
	clash(job.GetMeta(), "meta", warn)
	for _, g := range job.GetGroups() {
		in := fmt.Sprintf("group %q", g.GetName())
		groupWarnings(job, g, in, warn)
		clash(g.GetMeta(), in+": meta", warn)
		for _, t := range g.GetTasks() {
			taskWarnings(t, fmt.Sprintf("%s, task %q", in, t.GetName()), warn)
		}
	}
	return w
}

func groupWarnings(job *berthv1.Job, g *berthv1.Group, in string, warn func(string, ...any)) {
	every := everyNode(job.GetType())
	if every && len(g.GetSpreads()) > 0 {
		warn("%s: spread has no effect: a %s job runs on every node that fits", in, job.GetType())
	}
	count := countIn(g)
	if g.GetGang() && count < 2 && !job.GetGang() {
		warn("%s: gang has no effect with one instance", in)
	}
	distinct := every
	for _, c := range append(append([]*berthv1.Constraint{}, job.GetConstraints()...), g.GetConstraints()...) {
		distinct = distinct || c.GetOperator() == "distinct_hosts"
	}
	for _, p := range g.GetNetwork().GetPorts() {
		if p.GetStatic() != 0 && count > 1 && !distinct {
			warn("%s: port %q is %d on every node, so its %d instances need as many nodes", in, p.GetName(), p.GetStatic(), count)
		}
	}
	if p := g.GetTopology(); len(p.GetAlign()) > 0 && (p.GetPolicy() == "" || p.GetPolicy() == "none") && !isDefault(p.GetAlign()) {
		warn(`%s: align has no effect with the topology policy "none"`, in)
	}
	lifeWarnings(g, in, warn)
	if d := g.GetOnDisconnect(); g.GetStateful() == nil && d != nil && (d.Replace == nil || d.GetReplace()) {
		if d.GetStopAfter().AsDuration() > d.GetLostAfter().AsDuration() {
			warn("%s: on_disconnect replaces it %s after the node is lost, while the lost one goes on for %s",
				in, schema.FormatDuration(d.GetLostAfter()), schema.FormatDuration(d.GetStopAfter()))
		}
	}
}

// countOf is how many instances a job has over all its groups.
func countOf(job *berthv1.Job) (n uint64) {
	for _, g := range job.GetGroups() {
		n += uint64(countIn(g))
	}
	return n
}

func countIn(g *berthv1.Group) uint32 {
	if g.Count == nil {
		return 1
	}
	return g.GetCount()
}

// isDefault says whether align is what a spec that leaves it out gets.
func isDefault(align []string) bool {
	return len(align) == 2 && align[0] == "cpu" && align[1] == "memory"
}

func taskWarnings(t *berthv1.Task, in string, warn func(string, ...any)) {
	clash(t.GetMeta(), in+": meta", warn)
	fileWarnings(t, in, warn)
	if r := t.GetResources(); r.GetCores() == 0 && r.GetCoreUnit() == "thread" {
		warn("%s: core_unit has no effect without cores", in)
	}
	for _, d := range t.GetResources().GetDevices() {
		if d.GetLink() != "" && d.GetCount() < 2 {
			warn("%s: link has no effect with one device %q", in, d.GetKind())
		}
	}
	if t.GetKillSignal() == "SIGKILL" {
		warn("%s: SIGKILL gives the task no chance to end well", in)
	}
}

// clash warns of keys of meta that become one environment variable.
func clash(meta map[string]string, in string, warn func(string, ...any)) {
	seen := map[string]string{}
	for _, key := range sortedKeys(meta) {
		if other, ok := seen[envName(key)]; ok {
			warn("%s: %q and %q are both BERTH_META_%s", in, other, key, envName(key))
		}
		seen[envName(key)] = key
	}
}
