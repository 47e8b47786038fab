package runner

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// withMemory is another version of a job, whose tasks have so much memory.
func withMemory(job *berthv1.Job, version, mib uint64) *berthv1.Job {
	job = proto.CloneOf(job)
	job.Version = version
	for _, t := range job.Groups[0].Tasks {
		t.Resources = &berthv1.Resources{CpuMilli: 100, MemoryMib: mib}
	}
	return job
}

// resizedAlloc is an allocation that is to run a version, with what that asks for.
func resizedAlloc(job *berthv1.Job, a *berthv1.Alloc) *berthv1.Alloc {
	a = a.ShallowCopy()
	a.JobVersion, a.Assignment = job.GetVersion(), &berthv1.Assignment{}
	for _, t := range job.GetGroups()[0].GetTasks() {
		a.Assignment.Tasks = append(a.Assignment.Tasks, &berthv1.TaskGrant{Task: t.GetName(),
			Cells: []*berthv1.CellGrant{{CpuMilli: t.GetResources().GetCpuMilli(), MemoryMib: t.GetResources().GetMemoryMib()}}})
	}
	return a
}

// eventsOf are what has happened to a task, "type: message" each.
func eventsOf(u *berthv1.AllocStatusUpdate) string {
	var words []string
	for _, e := range u.GetTasks()[0].GetEvents() {
		words = append(words, e.GetType()+": "+e.GetMessage())
	}
	return strings.Join(words, "\n")
}

func TestLimitsChangeWhileItRuns(t *testing.T) {
	for name, test := range map[string]struct {
		driver string
		fail   error
		starts int
		event  string
	}{
		"it can":           {driver: "mock", starts: 1, event: "limits changed: from 100m of CPU, 64 MiB to 100m of CPU, 128 MiB"},
		"the kernel won't": {driver: "mock", fail: problem.New(problem.Unavailable, "", "busy"), starts: 2, event: "failed, so it is started again: busy"},
		"no such power":    {driver: "bare", starts: 2, event: "so it is started again: its driver cannot do that"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := newNode(t)
				n.start()
				defer n.end()
				n.driver.fail = test.fail
				job := withMemory(jobOf(berthv1.Job_service, map[string]map[string]any{"t": nil}), 1, 64)
				job.Groups[0].Tasks[0].Driver = test.driver
				a := resizedAlloc(job, allocOf(job, "a1"))
				n.assign(complete(1, job, a))
				n.want("a1", berthv1.Alloc_running)
				more := withMemory(job, 2, 128)
				n.assign(complete(2, more, resizedAlloc(more, a)))
				time.Sleep(time.Minute)
				u := n.want("a1", berthv1.Alloc_running)
				if got := n.driver.started("a1/t"); len(got) != test.starts {
					t.Errorf("it was started %d times", len(got))
				}
				if !strings.Contains(eventsOf(u), test.event) {
					t.Errorf("its events are\n%s", eventsOf(u))
				}
				if got := n.driver.task("a1/t"); got.Grant.GetCells()[0].GetMemoryMib() != 128 || got.Resources.GetMemoryMib() != 128 {
					t.Errorf("its driver knows of %v", got.Grant)
				}
				before := eventsOf(u)
				n.restart()
				n.assign(complete(2, more, resizedAlloc(more, a)))
				if u := n.want("a1", berthv1.Alloc_running); strings.Count(eventsOf(u), "limits") != strings.Count(before, "limits") || len(n.driver.started("a1/t")) > 0 {
					t.Errorf("after the agent was restarted:\n%s", eventsOf(u))
				}
			})
		})
	}
}

// What is left of a shutdown_delay is the same with an agent that is restarted in it.
func TestShutdownDelayOverARestart(t *testing.T) {
	for _, of := range []string{"group", "task", "both"} {
		t.Run(of, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := newNode(t)
				n.start()
				defer n.end()
				job := jobOf(berthv1.Job_service, map[string]map[string]any{"t": nil})
				delay := 0
				if of != "task" {
					job.Groups[0].ShutdownDelay = durationpb.New(10 * time.Second)
					delay += 10
				}
				if of != "group" {
					job.Groups[0].Tasks[0].ShutdownDelay = durationpb.New(20 * time.Second)
					delay += 20
				}
				a := allocOf(job, "a1")
				n.assign(complete(1, job, a))
				n.want("a1", berthv1.Alloc_running)
				a = a.ShallowCopy()
				a.Desired = berthv1.Alloc_stop
				n.assign(complete(2, job, a))
				for second := range delay {
					n.want("a1", berthv1.Alloc_running)
					if second%3 == 2 {
						n.restart()
						n.assign(complete(2, job, a))
					}
					time.Sleep(time.Second)
				}
				time.Sleep(time.Second)
				n.want("a1", berthv1.Alloc_complete)
			})
		})
	}
}
