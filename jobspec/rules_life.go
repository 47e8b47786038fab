package jobspec

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/berthd/berth/jobspec/cron" // with the time zones: a host may have none
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// maxParentName leaves room in the names of children: ".20060102-150405" or ".deadbeef".
const maxParentName = 63 - len(".20060102-150405")

// life checks when a job is run: at once, by the clock, or when it is dispatched.
func (c *checker) life(job *berthv1.Job) {
	s, p := job.GetSchedule(), job.GetParameters()
	if s == nil && p == nil {
		return
	}
	what := "schedule"
	if s == nil {
		what = "parameters"
	}
	switch {
	case s != nil && p != nil:
		c.add("parameters", "let a job with a schedule dispatch it", "a job has a schedule or parameters, not both")
	case job.GetType() != berthv1.Job_batch && job.GetType() != berthv1.Job_sysbatch:
		c.add(what, `write type = "batch"`, "a %s job never ends, so it takes no %s", job.GetType(), what)
	case len(job.GetName()) > maxParentName:
		c.add("name", "", "the name of a job with %s has at most %d characters: its runs are named after it", what, maxParentName)
	}
	for i, expression := range s.GetCrons() {
		if err := cron.Check(expression); err != nil {
			c.add(fmt.Sprintf("schedule.crons[%d]", i), `write minute, hour, day, month and weekday, such as "30 3 * * 1-5", or "@daily", or "@every 90s"`,
				"cron expression %q: %s", clip(expression), err)
		}
	}
	if zone := s.GetTimeZone(); zone != "" {
		if _, err := time.LoadLocation(zone); err != nil || zone == "Local" {
			c.add("schedule.time_zone", `write a name of the IANA database, such as "Europe/Berlin" or "UTC"`, "time_zone %q is not known", clip(zone))
		}
	}
	for _, key := range p.GetOptional() {
		if slices.Contains(p.GetRequired(), key) {
			c.add("parameters.optional", "", "%q is both required and optional", clip(key))
		}
	}
}

// groupLife checks how a group is rolled out, scaled and kept.
func (c *checker) groupLife(job *berthv1.Job, g *berthv1.Group, path string) {
	c.update(job.GetType(), g.GetUpdate(), path+".update")
	c.canaries(job, g, path)
	count := g.GetCount()
	if g.Count == nil {
		count = 1
	}
	if s := g.GetScaling(); s != nil {
		switch {
		case everyNode(job.GetType()):
			c.add(path+".scaling", "", "a %s job runs once on every node that fits, so it is not scaled", job.GetType())
		case s.GetMin() > s.GetMax():
			c.add(path+".scaling.min", "", "scaling has a min of %d and a max of %d", s.GetMin(), s.GetMax())
		case g.Count != nil && (count < s.GetMin() || count > s.GetMax()):
			c.add(path+".count", "", "the count of %d is not within scaling, %d to %d", count, s.GetMin(), s.GetMax())
		}
	}
	if g.GetStateful() == nil {
		return
	}
	switch {
	case job.GetType() != berthv1.Job_service:
		c.add(path+".stateful", "", "a %s job has no stateful groups", job.GetType())
	case g.GetGang() || job.GetGang():
		c.add(path+".stateful", "leave one of them out", "a gang starts all at once, so it cannot be stateful")
	}
}

// update checks a strategy, the job's or a group's.
func (c *checker) update(t berthv1.Job_Type, u *berthv1.UpdateStrategy, path string) {
	if u == nil {
		return
	}
	if t != berthv1.Job_service && t != berthv1.Job_system {
		c.add(path, "", "a %s job is not rolled out", t)
		return
	}
	c.share(u.GetMaxParallel(), "max_parallel", path+".max_parallel")
	c.share(u.GetCanary(), "canary", path+".canary")
	if n := strings.TrimSuffix(u.GetMaxParallel(), "%"); n == "0" {
		c.add(path+".max_parallel", "berth deployment pause stops a roll-out", "with a max_parallel of 0 nothing would ever be replaced")
	}
	healthy, deadline, progress := u.GetMinHealthyTime().AsDuration(), u.GetHealthyDeadline().AsDuration(), u.GetProgressDeadline().AsDuration()
	if u.HealthyDeadline != nil && deadline <= healthy {
		c.add(path+".healthy_deadline", "", "healthy_deadline is not longer than min_healthy_time, so nothing could become healthy")
	}
	if u.ProgressDeadline != nil && progress > 0 && progress <= deadline {
		c.add(path+".progress_deadline", "0 fails the roll-out with the first unhealthy instance", "progress_deadline is not longer than healthy_deadline")
	}
}

// canaries checks that a group can have those that its strategy asks for.
func (c *checker) canaries(job *berthv1.Job, g *berthv1.Group, path string) {
	u, at := g.GetUpdate(), path+".update.canary"
	if u == nil {
		u, at = job.GetUpdate(), path+".update"
	}
	const remedy = `write update { canary = "0" } in the group`
	switch canary := u.GetCanary(); {
	case canary == "" || canary == "0" || canary == "0%":
	case everyNode(job.GetType()):
		c.add(at, remedy, "a %s job has no canaries: it has one instance on every node", job.GetType())
	case g.GetStateful() != nil:
		c.add(at, remedy, "a stateful group has no canaries: there are never two instances of one index")
	case g.GetGang() || job.GetGang():
		c.add(at, remedy, "a gang has no canaries: it runs as a whole")
	}
}

// share checks a number of instances or a part of the count.
func (c *checker) share(s, what, path string) {
	if s == "" {
		return
	}
	number, percent := strings.CutSuffix(s, "%")
	n, err := strconv.ParseUint(number, 10, 32)
	if err != nil || percent && n > 100 {
		c.add(path, `write a number of instances, such as "1", or a part of the count from "0%" to "100%"`,
			"%s %q is neither a number nor a percentage", what, clip(s))
	}
}

// lifecycle checks how a group's tasks follow each other.
func (c *checker) lifecycle(g *berthv1.Group, path string) {
	leader, mains := "", 0
	keys := elementKeysOf(g, "tasks")
	for i, t := range g.GetTasks() {
		at := path + ".tasks[" + keys[i] + "]"
		l := t.GetLifecycle()
		if l == nil {
			mains++
		}
		if l.GetHook() == "poststop" && l.GetSidecar() {
			c.add(at+".lifecycle.sidecar", "", "a poststop task has nothing to run beside")
		}
		if !t.GetLeader() {
			continue
		}
		switch {
		case l != nil:
			c.add(at+".leader", "", "a %s task cannot lead: the main tasks do not run by its side from first to last", l.GetHook())
		case leader != "":
			c.add(at+".leader", "", "%q leads already", leader)
		}
		leader = t.GetName()
	}
	if mains == 0 && len(g.GetTasks()) > 0 {
		c.add(path+".tasks", "leave the lifecycle of one out", "group %q has no main task", g.GetName())
	}
}

// files checks what is put into a task's directory.
func (c *checker) files(job *berthv1.Job, t *berthv1.Task, path string) {
	for i, a := range t.GetArtifacts() {
		c.artifact(a, fmt.Sprintf("%s.artifacts[%d]", path, i))
	}
	written := map[string]bool{}
	for i, x := range t.GetTemplates() {
		at := fmt.Sprintf("%s.templates[%d]", path, i)
		c.template(x, at)
		if d := x.GetDestination(); d != "" && written[d] {
			c.add(at+".destination", "", "two templates write %q", clip(d))
		}
		written[x.GetDestination()] = true
	}
	if f := t.GetPayloadFile(); f != "" {
		c.within(f, "payload_file", path+".payload_file")
		if job.GetParameters() == nil && job.GetParent() == "" || job.GetParameters().GetPayload() == "forbidden" {
			c.add(path+".payload_file", "give the job parameters", "the job takes no payload, so there is none to write")
		}
	}
}

// within checks a path that must stay in the task's directory.
func (c *checker) within(p, what, path string) {
	clean := strings.Split(p, "/")
	if strings.HasPrefix(p, "/") || slices.Contains(clean, "..") || strings.Contains(p, "\x00") {
		c.add(path, `paths are below the task's directory: "local/file"`, "%s %q leads out of the task's directory", what, clip(p))
	}
}

var checksums = map[string]int{"md5": 32, "sha1": 40, "sha256": 64, "sha512": 128}

func (c *checker) artifact(a *berthv1.Artifact, path string) {
	c.within(a.GetDestination(), "destination", path+".destination")
	if a.GetChecksum() == "" || strings.HasPrefix(a.GetChecksum(), "file:") {
		return
	}
	kind, sum, ok := strings.Cut(a.GetChecksum(), ":")
	hex := strings.Trim(strings.ToLower(sum), "0123456789abcdef") == ""
	if !ok || checksums[kind] != len(sum) || !hex {
		c.add(path+".checksum", `write "sha256:" and 64 hexadecimal digits (also md5, sha1, sha512, or "file:" and the URL of a list of checksums)`,
			"checksum %q is none", clip(a.GetChecksum()))
	}
}

func (c *checker) template(t *berthv1.Template, path string) {
	c.within(t.GetDestination(), "destination", path+".destination")
	c.within(t.GetSource(), "source", path+".source")
	if (t.GetData() == "") == (t.GetSource() == "") {
		c.add(path+".data", "", "a template has either data or a source")
	}
	c.templateText(t, path)
	mode := t.GetChangeMode()
	switch {
	case mode == "signal" && t.GetChangeSignal() == "":
		c.add(path+".change_signal", `write change_signal = "SIGHUP"`, `change_mode is "signal", and there is no change_signal`)
	case mode == "script" && len(t.GetChangeScript()) == 0:
		c.add(path+".change_script", "", `change_mode is "script", and there is no change_script`)
	}
	if s := t.GetChangeSignal(); s != "" && !slices.Contains(signals, s) {
		c.add(path+".change_signal", didYouMean(s, signals), "change_signal %q is no signal", clip(s))
	}
	if p := t.GetPerms(); p != "" {
		if n, err := strconv.ParseUint(p, 8, 32); err != nil || n > 0o7777 {
			c.add(path+".perms", `write octal digits, such as "0644"`, "perms %q are no permissions", clip(p))
		}
	}
	if l := t.GetLeftDelimiter(); l != "" && l == t.GetRightDelimiter() {
		c.add(path+".right_delimiter", "", "both delimiters are %q", clip(l))
	}
}
