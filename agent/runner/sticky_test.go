package runner

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/berthd/berth/agent/disk"
	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// stickyJob has one instance with a disk and two tasks.
func stickyJob() *berthv1.Job {
	job := jobOf(berthv1.Job_service, map[string]map[string]any{"t": {}, "u": {}})
	job.Groups[0].Stateful = &berthv1.Stateful{StickyDisk: true}
	job.Groups[0].DiskMib = 1
	return job
}

// successor is an alloc in the place of another.
func successor(job *berthv1.Job, id, before string) *berthv1.Alloc {
	a := allocOf(job, id)
	a.PreviousAlloc = before
	return a
}

func (n *node) data(id string) string { return Layout{Data: n.dir}.DataDir(id) }

// startWith begins a life whose disks come from fetch.
func (n *node) startWith(fetch func(ctx context.Context, id string) (io.ReadCloser, error)) {
	n.load()
	n.m.cfg.FetchDisk = fetch
	n.run()
}

// left has an alloc run that leaves a disk with one file, "id" in it.
func (n *node) left(job *berthv1.Job, a *berthv1.Alloc) {
	n.t.Helper()
	n.assign(complete(1, job, a))
	n.want(a.Id, berthv1.Alloc_running)
	if err := os.WriteFile(n.data(a.Id)+"/id", []byte(a.Id), 0o600); err != nil {
		n.t.Fatal(err)
	}
	n.stop(job, a)
}

func (n *node) stop(job *berthv1.Job, a *berthv1.Alloc) {
	n.t.Helper()
	stop := a.ShallowCopy()
	stop.Desired = berthv1.Alloc_stop
	n.assign(&berthv1.Assignments{AppliesTo: 1, ResultsIn: 2, Jobs: []*berthv1.Job{job}, Allocs: []*berthv1.Alloc{stop}})
	n.want(a.Id, berthv1.Alloc_complete)
}

func (n *node) wantData(id, want string) {
	n.t.Helper()
	if b, err := os.ReadFile(n.data(id) + "/id"); string(b) != want || want != "" && err != nil {
		n.t.Errorf("the disk of %s has %q, want %q (%v)", id, b, want, err)
	}
	if left, _ := filepath.Glob(n.dir + "/allocs/*/data.part"); len(left) > 0 {
		n.t.Errorf("left behind: %v", left)
	}
}

// said gives what the events of an alloc's tasks say of its disk.
func said(u *berthv1.AllocStatusUpdate) string {
	var words []string
	for _, st := range u.GetTasks() {
		for _, e := range st.GetEvents() {
			if strings.Contains(e.GetType(), "disk") {
				words = append(words, e.GetType()+": "+e.GetMessage())
			}
		}
	}
	return strings.Join(words, "; ")
}

// packed is a disk on its way that has come from another node.
func packed(t *testing.T, id string) []byte {
	dir := t.TempDir()
	if err := os.WriteFile(dir+"/id", []byte(id), 0o600); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := disk.Pack(t.Context(), &b, dir); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestDiskStaysOnItsNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, job := newNode(t), stickyJob()
		n.start()
		defer n.end()
		n.left(job, allocOf(job, "a1"))
		if info, err := os.Stat(n.data("a1")); err != nil || info.Mode().Perm() != 0o777 {
			t.Errorf("a new disk: %v, %v", info, err)
		}
		n.m.cfg.MaxDead = -1 // every ended one is too many
		n.m.deleteOldDirs()
		n.wantData("a1", "a1")
		n.restart()
		n.assign(&berthv1.Assignments{AppliesTo: 2, ResultsIn: 3, Allocs: []*berthv1.Alloc{successor(job, "a2", "a1")}})
		u := n.want("a2", berthv1.Alloc_running)
		n.wantData("a2", "a1")
		if s := said(u); strings.Count(s, "took over that of alloc a1") != 1 {
			t.Errorf("said %q", s)
		}
		n.m.cfg.MaxDead = -1
		n.m.deleteOldDirs()
		if !n.m.cfg.Layout.untouched("a1") {
			t.Error("what nobody wants any more is still there")
		}
		// A task takes it away and is started anew: what is gone is not looked for.
		if err := os.RemoveAll(n.data("a2")); err != nil {
			t.Fatal(err)
		}
		if err := n.m.Restart("a2", ""); err != nil {
			t.Fatal(err)
		}
		t.Log(said(n.want("a2", berthv1.Alloc_running)))
		if _, err := os.Stat(n.data("a2")); err != nil {
			t.Error(err)
		}
	})
}

// An alloc that has not ended keeps its disk; one that never ran never had the newest.
func TestDiskOfTheNewestThatRan(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, job := newNode(t), stickyJob()
		n.start()
		defer n.end()
		first, second := allocOf(job, "a1"), successor(job, "a2", "a1")
		n.assign(complete(1, job, first))
		n.want("a1", berthv1.Alloc_running)
		if err := os.WriteFile(n.data("a1")+"/id", []byte("a1"), 0o600); err != nil {
			t.Fatal(err)
		}
		n.assign(&berthv1.Assignments{AppliesTo: 1, ResultsIn: 1, Allocs: []*berthv1.Alloc{second}})
		if s := said(n.want("a2", berthv1.Alloc_pending)); !strings.Contains(s, "alloc a1 on this node, which has it, has not ended yet") {
			t.Errorf("said %q", s)
		}
		n.stop(job, second)
		n.stop(job, first)
		n.assign(&berthv1.Assignments{AppliesTo: 2, ResultsIn: 3, Allocs: []*berthv1.Alloc{successor(job, "a3", "a2")}})
		n.want("a3", berthv1.Alloc_running)
		n.wantData("a3", "a1")
	})
}

func TestDiskComesFromAnotherNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, job, whole := newNode(t), stickyJob(), packed(t, "far")
		tries := 0
		n.startWith(func(_ context.Context, id string) (io.ReadCloser, error) {
			switch tries++; {
			case id != "a2":
				t.Errorf("asked for %s", id)
			case tries == 1:
				return nil, problem.New(problem.Unavailable, "", "node n7 is away")
			case tries == 2: // cut short
				return io.NopCloser(io.MultiReader(bytes.NewReader(whole[:600]), failing{})), nil
			case tries == 3: // the last words are that it was not whole
				return io.NopCloser(io.MultiReader(bytes.NewReader(whole), failing{})), nil
			}
			return io.NopCloser(bytes.NewReader(whole)), nil
		})
		defer n.end()
		n.assign(complete(1, job, successor(job, "a2", "far")))
		if s := said(n.want("a2", berthv1.Alloc_pending)); strings.Count(s, "waiting for its disk: taking the sticky disk: node n7 is away") != 1 {
			t.Errorf("said %q", s)
		}
		time.Sleep(1500 * time.Millisecond)
		n.want("a2", berthv1.Alloc_pending)
		if n.m.cfg.Layout.hasData("a2") {
			t.Error("a part of a disk was taken for a whole")
		}
		time.Sleep(time.Minute)
		s := said(n.want("a2", berthv1.Alloc_running))
		n.wantData("a2", "far")
		if !strings.Contains(s, "copied from another node: 3 B, 2 files") || tries != 4 {
			t.Errorf("%d tries, said %q", tries, s)
		}
	})
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, errors.New("the line is cut") }

func TestDiskThatIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, job := newNode(t), stickyJob()
		n.startWith(func(context.Context, string) (io.ReadCloser, error) {
			return nil, problem.New(problem.NotFound, "", "alloc far, which had it, is lost with its node n7")
		})
		defer n.end()
		n.assign(complete(1, job, successor(job, "a2", "far")))
		s := said(n.want("a2", berthv1.Alloc_running))
		n.wantData("a2", "")
		if s != "disk: starts with an empty disk: alloc far, which had it, is lost with its node n7" {
			t.Errorf("said %q", s)
		}
	})
}

func TestDiskThatIsTooLargeAndOneThatIsStopped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, job := newNode(t), stickyJob()
		large := packed(t, strings.Repeat("x", 2<<20))
		n.startWith(func(ctx context.Context, id string) (io.ReadCloser, error) {
			if id == "slow" {
				<-ctx.Done()
				return nil, ctx.Err()
			}
			return io.NopCloser(bytes.NewReader(large)), nil
		})
		defer n.end()
		slow := successor(job, "slow", "far")
		n.assign(complete(1, job, successor(job, "large", "far"), slow))
		if s := said(n.want("large", berthv1.Alloc_pending)); !strings.Contains(s, "larger than the group's disk of 1 MiB") {
			t.Errorf("said %q", s)
		}
		n.want("slow", berthv1.Alloc_pending)
		n.stop(job, slow)
		n.wantData("slow", "")
	})
}

// The agent is killed at every point between two steps of a move, and started again: the
// disk is there once, whole, and its tasks are started once.
func TestDiskSurvivesACrashAnywhere(t *testing.T) {
	for name, from := range map[string]string{"same node": "a1", "other node": "far", "gone": "none"} {
		t.Run(name, func(t *testing.T) {
			for at, crashed := 1, true; crashed && !t.Failed(); at++ {
				synctest.Test(t, func(t *testing.T) { crashed = crashDisk(t, from, at) })
				if !crashed {
					t.Logf("%d points", at-1)
				}
			}
		})
	}
}

func crashDisk(t *testing.T, from string, at int) (crashed bool) {
	n, job, whole := newNode(t), stickyJob(), packed(t, "far")
	fetch := func(context.Context, string) (io.ReadCloser, error) {
		if from == "none" {
			return nil, problem.New(problem.NotFound, "", "it is gone")
		}
		return io.NopCloser(bytes.NewReader(whole)), nil
	}
	n.startWith(fetch)
	defer func() { n.end() }()
	if from == "a1" {
		n.left(job, allocOf(job, "a1"))
	}
	count, where, points := 0, "", make(chan struct{}, 1)
	points <- struct{}{}
	n.fault = func(p string) error {
		<-points
		defer func() { points <- struct{}{} }()
		if count++; crashed || count == at {
			if !crashed {
				where = p
			}
			crashed = true
			return errCrash
		}
		return nil
	}
	n.assign(&berthv1.Assignments{AppliesTo: 2, ResultsIn: 3, Jobs: []*berthv1.Job{job}, Allocs: []*berthv1.Alloc{successor(job, "a2", from)}})
	time.Sleep(time.Minute)
	synctest.Wait()
	pids := map[int]bool{}
	note := func() {
		for _, pid := range append(n.driver.started("a2/t"), n.driver.started("a2/u")...) {
			pids[pid] = true
		}
	}
	note()
	if crashed {
		n.fault = nil
		n.end()
		n.startWith(fetch)
		time.Sleep(time.Minute)
	}
	n.want("a2", berthv1.Alloc_running)
	n.wantData("a2", strings.TrimPrefix(from, "none"))
	note()
	if len(pids) != 2 {
		t.Errorf("crash at %d (%s): the processes of two tasks are %v", at, where, pids)
	}
	return crashed
}
