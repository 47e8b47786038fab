package runner

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// TestFullDisk fills the disk below a running agent: what runs goes on and can be
// stopped, what is new is refused with a reason, and taken when there is room again.
func TestFullDisk(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("mounting a small disk needs root")
	}
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=4m"); err != nil {
		t.Skip("a small disk cannot be mounted here: ", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		n.dir = dir
		n.start()
		defer n.end()
		job := jobOf(berthv1.Job_service, map[string]map[string]any{"t": {}})
		job.Meta = map[string]string{"large": strings.Repeat("x", 200000)}
		as := complete(1, job, allocOf(job, "a1"), allocOf(job, "a2"))
		n.assign(as)
		n.want("a1", berthv1.Alloc_running)

		filler := filepath.Join(dir, "filler")
		fillUp(t, filler)
		for i := range uint64(20) { // bbolt has some free pages yet
			more := proto.CloneOf(job)
			more.Version = i + 2
			a := allocOf(more, fmt.Sprintf("new-%d", i))
			n.assign(&berthv1.Assignments{AppliesTo: i + 1, ResultsIn: i + 2, Jobs: []*berthv1.Job{more}, Allocs: []*berthv1.Alloc{a}})
		}
		u := n.want("new-19", berthv1.Alloc_pending)
		if !strings.Contains(u.GetStatusReason(), "disk") || !strings.Contains(u.GetStatusReason(), "full") {
			t.Errorf("refused because of %q", u.GetStatusReason())
		}
		n.want("a1", berthv1.Alloc_running)
		stop := allocOf(job, "a2")
		stop.Desired = berthv1.Alloc_stop
		n.assign(&berthv1.Assignments{AppliesTo: 21, ResultsIn: 22, Allocs: []*berthv1.Alloc{stop}})
		n.want("a2", berthv1.Alloc_complete)

		if err := os.Remove(filler); err != nil {
			t.Fatal(err)
		}
		if err := syscall.Mount("", dir, "", syscall.MS_REMOUNT, "size=64m"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		n.want("new-19", berthv1.Alloc_running)
		n.restart()
		n.want("new-19", berthv1.Alloc_running)
		n.want("a2", berthv1.Alloc_complete)
	})
}

func fillUp(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	block := make([]byte, 4096)
	for {
		if _, err := f.Write(block); err != nil {
			return // full
		}
	}
}
