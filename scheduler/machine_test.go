package scheduler

import (
	"strings"
	"testing"

	"google.golang.org/protobuf/types/known/structpb"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// A machine is granted what QEMU takes beside its guest's memory, on a node that can have
// such a machine.
func TestMachines(t *testing.T) {
	f := NewFleet()
	n := exactNode()
	n.Drivers = []*berthv1.DriverInfo{{Name: "qemu", Healthy: true, Attributes: map[string]string{"accel": "tcg", "firmware": "uefi"}}}
	if _, err := f.UpsertNode(n); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		config map[string]any
		memory uint64
		why    string
	}{
		{nil, 1024 + 112, ""},
		{map[string]any{"firmware": "uefi", "accel": "tcg"}, 1024 + 240, ""},
		{map[string]any{"accel": "kvm"}, 0, "driver.qemu.accel = kvm"},
		{map[string]any{"firmware": "secure-boot"}, 0, "driver.qemu.firmware contains secure-boot"},
		{map[string]any{"arch": "arm64"}, 0, "node.arch = arm64"},
	} {
		config, err := structpb.NewStruct(c.config)
		if err != nil {
			t.Fatal(err)
		}
		job := exactJob()
		job.Groups[0].Network.Ports[0].To = 80
		job.Groups[0].Tasks = []*berthv1.Task{{
			Name: "vm", Driver: "qemu", Config: config, Resources: &berthv1.Resources{CpuMilli: 1000, MemoryMib: 1024},
		}}
		g, err := Compile(job, job.Groups[0])
		if err != nil {
			t.Fatal(err)
		}
		placed, unplaced := Place(f, []*Ask{{Group: g, Count: 1}})
		for _, p := range placed {
			f.Undo(g, p)
		}
		switch {
		case c.why != "":
			if len(unplaced) != 1 || !strings.Contains(unplaced[0].Explanation.String(), c.why) {
				t.Errorf("%v: %v, want the words %q", c.config, unplaced, c.why)
			}
		case len(placed) != 1:
			t.Errorf("%v: not placed", c.config)
		default:
			if p := placed[0].Assignment.GetPorts()[0]; p.GetName() != "http" || p.GetPort() == 80 || p.GetTo() != 80 {
				t.Errorf("%v: granted the port %v, which leads to port 80 of the guest", c.config, p)
			}
			if got := placed[0].Assignment.GetTasks()[0].GetCells()[0].GetMemoryMib(); got != c.memory {
				t.Errorf("%v: granted %d MiB, want %d", c.config, got, c.memory)
			}
		}
	}
}
