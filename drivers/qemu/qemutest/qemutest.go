// Package qemutest has the qemu driver's recipes for drivertest: they run in process and,
// by package plugins, through the wire. The guests are emulated, whatever the host has.
package qemutest

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/berthd/berth/drivers"
	"github.com/berthd/berth/drivers/cgroup"
	"github.com/berthd/berth/drivers/drivertest"
	"github.com/berthd/berth/drivers/qemu"
	"github.com/berthd/berth/drivers/qemu/guest"
	"github.com/berthd/berth/drivers/qemu/image"
)

// Need skips the test where no machine can be run.
func Need(t testing.TB) *guest.Guest {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: cgroups")
	}
	for _, program := range []string{"qemu-system-x86_64", "qemu-img"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("needs %s (on Debian: qemu-system-x86, qemu-utils)", program)
		}
	}
	return guest.For(t, "amd64")
}

// Config is of a driver whose cgroups live under parent and whose images in dir.
func Config(g *guest.Guest, parent, dir string) qemu.Config {
	return qemu.Config{CgroupParent: parent, Images: image.Config{Dir: dir, HostDirs: []string{filepath.Dir(g.Kernel)}}}
}

// Machine is a task whose guest runs shell commands, and then a shell on its console.
func Machine(g *guest.Guest, commands ...string) drivertest.Config {
	return drivertest.Config{
		"kernel": g.Kernel, "initrd": g.Initrd, "cmdline": g.Cmdline(commands...), "accel": "tcg", "arch": g.Arch,
	}
}

// With is a config with some more keys.
func With(c drivertest.Config, more drivertest.Config) drivertest.Config {
	all := drivertest.Config{}
	for _, m := range []drivertest.Config{c, more} {
		for k, v := range m {
			all[k] = v
		}
	}
	return all
}

// Factory is how drivertest makes machines whose cgroups live under parent. New is the
// caller's to set.
func Factory(g *guest.Guest, parent string) drivertest.Factory {
	forever := Machine(g)
	return drivertest.Factory{
		Forever: forever,
		// Without ACPI's daemon nobody feels the power button.
		Stubborn: Machine(g, "killall acpid; echo ready"),
		Ticks:    Machine(g, "tick"),
		LateLogs: true, Parallel: true,
		MemoryMiB: 96, OverheadMiB: 256, Patience: 3 * time.Minute,
		Console: &drivertest.Console{Config: forever, Greets: guest.Greeting, Say: "echo hel''lo\n", Answers: "hello"},
		Disked:  With(forever, drivertest.Config{"disk": []any{map[string]any{"name": "root", "size": 16}}}),
		Invalid: map[string]drivertest.Config{
			"config.kernl":       {"kernl": "x"},
			"config.machine":     With(forever, drivertest.Config{"machine": "c64"}),
			"config.accel":       With(forever, drivertest.Config{"accel": "kvm", "arch": "arm64"}),
			"config.cpu.model":   With(forever, drivertest.Config{"cpu": map[string]any{"model": "a -b"}}),
			"config.nic[0].mode": With(forever, drivertest.Config{"nic": []any{map[string]any{"name": "a", "mode": "vf"}}}),
			"config.cloud_init.user_data_file": With(forever, drivertest.Config{
				"cloud_init": map[string]any{"user_data_file": "../../secret"},
			}),
		},
		Failing: map[string]drivertest.Config{
			"no such CPU":    With(forever, drivertest.Config{"cpu": map[string]any{"model": "8086"}}),
			"no such bridge": With(forever, drivertest.Config{"nic": []any{map[string]any{"name": "a", "mode": "bridge", "bridge": "no-such-br"}}}),
		},
		Leftovers: func(t *testing.T, task *drivers.Task) []string { return leftovers(t, parent, task) },
	}
}

// leftovers looks for a task's cgroup, processes and network interfaces.
func leftovers(t *testing.T, parent string, task *drivers.Task) (left []string) {
	host, err := cgroup.Probe(parent)
	if err != nil {
		t.Fatal(err)
	}
	if host.Group(task.ID).Exists() {
		left = append(left, "its cgroup")
	}
	left = append(left, drivertest.Processes(task.Dirs.Alloc)...)
	interfaces, err := netlink.LinkList()
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range interfaces {
		if strings.HasPrefix(i.Attrs().Name, qemu.TapPrefix(task.ID)) {
			left = append(left, "interface "+i.Attrs().Name)
		}
	}
	return left
}
