package virtual

import (
	"bytes"
	"fmt"
	"sort"
	"strings"
	"time"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/server"
	"github.com/berthd/berth/server/fsm"
	"github.com/berthd/berth/server/state"
)

// checker watches the promises: nothing is granted twice, no instance is wanted twice,
// no allocation is lost from the state before it is over.
type checker struct {
	c    *cluster
	last map[*server.Server]uint64 // the revision at which a server's state was looked at last
	seen map[state.AllocID]bool    // allocations of the newest state so far -> it could be collected
	top  uint64                    // revision of that state
	// evicted are all that were told to give way; full: the quota was used up once.
	evicted map[state.AllocID]bool
	full    bool
}

func newChecker(c *cluster) *checker {
	return &checker{c: c, last: map[*server.Server]uint64{}, seen: map[state.AllocID]bool{}, evicted: map[state.AllocID]bool{}}
}

// check looks at every server's state as it is now; one that has not changed since was
// looked at.
func (k *checker) check() {
	k.c.t.Helper()
	for _, s := range k.c.servers {
		if s.proc == nil {
			continue
		}
		view := s.proc.Store().View()
		if last, known := k.last[s.proc]; known && last == view.Revision() {
			continue
		}
		k.last[s.proc] = view.Revision()
		for _, err := range fsm.Audit(view) {
			k.c.t.Fatalf("%s: %v", s.name, err)
		}
		k.instances(s.name, view)
		k.evictions(s.name, view)
		k.quotas(s.name, view)
		if view.Revision() > k.top {
			k.remember(s.name, view)
		}
	}
}

// instances says that each instance of a service is wanted once.
func (k *checker) instances(name string, view *state.View) {
	k.c.t.Helper()
	type instance struct {
		namespace, job, group string
		index                 uint32
		canary                bool
	}
	wanted := map[instance]state.AllocID{}
	for a := range view.AllocRows() {
		if !a.Wanted() || a.Terminal() || a.Status() == berthv1.Alloc_unknown || view.Job(a.Namespace(), a.Job()).GetType() != berthv1.Job_service {
			continue
		}
		i := instance{a.Namespace(), a.Job(), a.Group(), a.Index(), a.Canary()}
		if other, twice := wanted[i]; twice {
			k.c.t.Fatalf("%s at revision %d: %v is wanted twice, as %s and %s", name, view.Revision(), i, a.ID(), other)
		}
		wanted[i] = a.ID()
	}
}

// remember says that what was there before is there still, or was over.
func (k *checker) remember(name string, view *state.View) {
	k.c.t.Helper()
	for id, over := range k.seen {
		if row := view.AllocRowOf(id); !over && !row.Exists() {
			k.c.t.Fatalf("%s at revision %d: allocation %s is gone, and was not over", name, view.Revision(), id)
		}
	}
	clear(k.seen)
	for a := range view.AllocRows() {
		k.seen[a.ID()] = a.Terminal() || !a.Wanted()
	}
	k.top = view.Revision()
}

// converged says what is not yet as it should be; "": everything is.
func (c *cluster) converged(jobs map[string]int) string {
	leader := c.leader()
	view := leader.proc.Store().View()
	for _, s := range c.servers {
		if s.proc == nil {
			return s.name + " is down"
		}
		if v := s.proc.Store().View(); v.Revision() != view.Revision() {
			return fmt.Sprintf("%s is at revision %d, %s at %d", s.name, v.Revision(), leader.name, view.Revision())
		} else if !bytes.Equal(v.Hash(), view.Hash()) {
			c.t.Fatalf("%s and %s have different states at revision %d", s.name, leader.name, view.Revision())
		}
	}
	for name, count := range jobs {
		if why := jobDiffers(view, name, count); why != "" {
			return why
		}
	}
	for _, a := range c.agents {
		if diff := c.hostDiffers(view, a); diff != "" {
			return diff
		}
	}
	return ""
}

// jobDiffers says that a job does not have what it should: all that it asks for, or, of
// the workload, all that there is room for.
func jobDiffers(view *state.View, name string, count int) string {
	running, namespace := 0, job(name, 0).GetNamespace()
	if namespace == "" {
		namespace = "default"
	}
	for a := range view.AllocsByJob(namespace, name) {
		switch {
		case a.Wanted() && a.GetStatus() == berthv1.Alloc_running:
			running++
		case !a.Terminal():
			return fmt.Sprintf("%s is %s, and wanted to %s", a.Name(), a.GetStatus(), a.GetDesired())
		}
	}
	switch n, err := couldPlace(view, namespace, name); {
	case running == count:
		return ""
	case running > count || workload[name] == nil:
		return fmt.Sprintf("job %s has %d of %d running", name, running, count)
	case err != nil || n > 0:
		return fmt.Sprintf("job %s has %d of %d running, and %d more would be placed (%v)", name, running, count, n, err)
	}
	return ""
}

// hostDiffers compares what runs on a host with what should.
func (c *cluster) hostDiffers(view *state.View, a *agentHost) string {
	if a.proc == nil {
		return a.name + " is down"
	}
	id := a.proc.NodeID()
	if s := view.Node(id).GetStatus(); s != berthv1.Node_ready {
		return fmt.Sprintf("%s is %s", a.name, s)
	}
	running := 0
	for alloc := range view.AllocsByNode(id) {
		if alloc.GetStatus() != berthv1.Alloc_running {
			continue
		}
		running++
		for _, task := range alloc.GetTasks() {
			if !a.host.Has(alloc.GetId() + "/" + task.GetTask()) {
				return fmt.Sprintf("%s of %s does not run on %s", task.GetTask(), alloc.GetId(), a.name)
			}
		}
	}
	if n := a.host.Running(); n != running {
		return fmt.Sprintf("%d tasks run on %s, and the state has %d", n, a.name, running)
	}
	return ""
}

// waitConverged fails unless everything is as it should be within the limit, and stays
// so for a while.
func (c *cluster) waitConverged(jobs map[string]int, limit time.Duration) {
	c.t.Helper()
	deadline, good, why := time.Now().Add(limit), 0, ""
	for good < 10 {
		if why = c.converged(jobs); why == "" {
			good++
		} else {
			good = 0
		}
		if time.Now().After(deadline) {
			c.t.Fatalf("not converged after %s: %s\n%s", limit, why, c.describe())
		}
		time.Sleep(time.Second)
	}
}

// describe gives the leader's state for a person.
func (c *cluster) describe() string {
	view := c.leader().proc.Store().View()
	var lines []string
	for a := range view.Allocs("") {
		lines = append(lines, fmt.Sprintf("  %s %s on %s: %s/%s v%d %s %s", a.Name(), a.GetId()[:8], a.GetNodeName(), a.GetDesired(), a.GetStatus(),
			a.GetJobVersion(), a.GetDesiredReason(), a.GetStatusReason()))
	}
	sort.Strings(lines)
	for n := range view.Nodes("") {
		lines = append(lines, fmt.Sprintf("  node %s %s %s %s", n.GetName(), n.GetId()[:8], n.GetStatus(), n.GetStatusReason()))
	}
	for job := range view.JobsFrom("", "") {
		lines = append(lines, fmt.Sprintf("  job %s v%d stopped=%t %s", job.GetName(), job.GetVersion(), job.GetStopped(), job.GetStatus()))
		for e := range view.EvaluationsByJob(job.GetNamespace(), job.GetName()) {
			lines = append(lines, fmt.Sprintf("    eval %s %s %s %v", e.GetId(), e.GetTrigger(), e.GetStatus(), e.GetGroups()))
		}
	}
	return strings.Join(lines, "\n")
}
