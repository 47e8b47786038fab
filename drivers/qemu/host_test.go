package qemu_test

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/berthd/berth/drivers"
	"github.com/berthd/berth/drivers/drivertest"
	"github.com/berthd/berth/drivers/qemu"
	"github.com/berthd/berth/drivers/qemu/qemutest"
	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// A tap on a bridge, with several queues and a bound of its rate, comes and goes with the
// machine, also with one that is suspended.
func TestBridge(t *testing.T) {
	f := setUp(t)
	bridge := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "berthtest0"}}
	if err := netlink.LinkAdd(bridge); err != nil {
		t.Skipf("no bridge can be made here: %v", err)
	}
	t.Cleanup(func() { _ = netlink.LinkDel(bridge) })
	task := f.task(qemutest.With(qemutest.Machine(f.g), drivertest.Config{"nic": []any{
		map[string]any{"name": "one", "mode": "bridge", "bridge": "berthtest0", "rate_mbit": 100},
		map[string]any{"name": "two", "mode": "bridge", "bridge": "berthtest0", "queues": 2},
	}}))
	taps := func() (n int) {
		all, err := netlink.LinkList()
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range all {
			if strings.HasPrefix(l.Attrs().Name, qemu.TapPrefix(task.ID)) && l.Attrs().MasterIndex == bridge.Attrs().Index {
				n++
			}
		}
		return n
	}
	h := f.start(task)
	if n := taps(); n != 2 {
		t.Errorf("%d taps of a machine with two interfaces", n)
	}
	for _, step := range []struct {
		action string
		want   int
	}{{"suspend", 0}, {"resume", 2}} {
		if err := f.d.Control(f.ctx(), task.ID, drivers.Action(step.action)); err != nil {
			t.Fatal(err)
		}
		if n := taps(); n != step.want {
			t.Errorf("%d taps after %s, want %d", n, step.action, step.want)
		}
	}
	f.again()
	if err := f.d.Remove(f.ctx(), task, h); err != nil {
		t.Fatal(err)
	}
	all, err := netlink.LinkList()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range all {
		if strings.HasPrefix(l.Attrs().Name, qemu.TapPrefix(task.ID)) {
			t.Errorf("%s is left", l.Attrs().Name)
		}
	}
}

func TestNoHugepages(t *testing.T) {
	f := setUp(t)
	task := f.task(qemutest.Machine(f.g))
	pages := []*berthv1.Hugepages{{SizeKib: 2048, Count: 1 << 20}}
	task.Resources.Hugepages, task.Grant.Cells[0].Hugepages = pages, pages
	_, err := f.d.Start(f.ctx(), task)
	if !problem.Is(err, problem.Unavailable) || problem.From(err).Field != "resources.hugepages" {
		t.Errorf("Start = %v", err)
	}
	t.Log(err)
}

// QEMU gives up what it does not need once it has opened everything.
func TestUser(t *testing.T) {
	f := setUp(t)
	f.d.Close()
	cfg := qemutest.Config(f.g, parent, f.images)
	cfg.User = "nobody"
	f.d = qemu.New(cfg)
	task := f.task(qemutest.With(qemutest.Machine(f.g, "boots /dev/vda", "tick"), drivertest.Config{
		"disk": []any{map[string]any{"name": "data", "size": 16}},
	}))
	h := f.start(task)
	info, err := os.Stat(filepath.Join("/proc", strconv.Itoa(h.PID)))
	if err != nil || info.Sys().(*syscall.Stat_t).Uid == 0 {
		t.Errorf("QEMU runs as root: %v", err)
	}
	f.shows(task, "boot 1 of")
	if _, err := f.d.Screenshot(f.ctx(), task.ID); err != nil {
		t.Error(err)
	}
	for _, action := range []string{"suspend", "resume"} {
		if err := f.d.Control(f.ctx(), task.ID, drivers.Action(action)); err != nil {
			t.Fatal(err)
		}
	}
	f.shows(task, "tick 2")
	if err := f.d.Stop(f.ctx(), task.ID, "", patience); err != nil {
		t.Fatal(err)
	}
	if exit := f.wait(task); !exit.OK() {
		t.Errorf("ended with %+v", exit)
	}
}
