package berthv1

import (
	"slices"
	"testing"

	"google.golang.org/protobuf/types/known/structpb"
)

func machineTask(t *testing.T, resources *Resources, config map[string]any) *Task {
	s, err := structpb.NewStruct(config)
	if err != nil {
		t.Fatal(err)
	}
	return &Task{Driver: "qemu", Resources: resources, Config: s}
}

func TestReservedMemory(t *testing.T) {
	gib := &Resources{CpuMilli: 1000, MemoryMib: 1024}
	pages := []*Hugepages{{SizeKib: 2048, Count: 2048}}
	disks := []any{map[string]any{"name": "a"}, map[string]any{"name": "b"}, map[string]any{"name": "c"}}
	for _, c := range []struct {
		name string
		task *Task
		want uint64
	}{
		{"nothing said", &Task{}, 64},
		{"no machine", &Task{Driver: "exec", Resources: gib}, 1024},
		{"small", machineTask(t, gib, nil), 1024 + 112}, // 96 + 2 + 8 + 4, in fours
		{"emulated", machineTask(t, gib, map[string]any{"accel": "tcg"}), 1024 + 112 + 128},
		{"disks", machineTask(t, gib, map[string]any{"disks": disks}), 1024 + 128},
		{"disks as written", machineTask(t, gib, map[string]any{"disk": disks}), 1024 + 128},
		{"TPM", machineTask(t, gib, map[string]any{"tpm": true}), 1024 + 128},
		{"to grow", machineTask(t, gib, map[string]any{"cpu": map[string]any{"count": 2, "max": "16"}}), 1024 + 140},
		{"cores", machineTask(t, &Resources{Cores: 8, MemoryMib: 65536}, nil), 65536 + 392},
		{"hugepages", machineTask(t, &Resources{CpuMilli: 1000, MemoryMib: 64, Hugepages: pages}, nil), 124},
		{"hugepages and much", machineTask(t, &Resources{CpuMilli: 1000, MemoryMib: 512, Hugepages: pages}, nil), 512},
	} {
		if got := c.task.ReservedMemoryMiB(); got != c.want {
			t.Errorf("%s: %d MiB, want %d", c.name, got, c.want)
		}
	}
}

func TestImpliedConstraints(t *testing.T) {
	for _, c := range []struct {
		config map[string]any
		want   []string
	}{
		{nil, nil},
		{map[string]any{"accel": "auto"}, nil},
		{map[string]any{"accel": "kvm", "arch": "arm64"}, []string{"driver.qemu.accel = kvm", "node.arch = arm64"}},
		{map[string]any{"accel": "tcg", "arch": "arm64", "machine": "virt", "firmware": "uefi"}, []string{
			"driver.qemu.guests contains arm64", "driver.qemu.machines.arm64 contains virt", "driver.qemu.firmware.arm64 contains uefi",
		}},
		{map[string]any{"machine": "microvm", "firmware": "bios"}, []string{"driver.qemu.machines contains microvm"}},
		{map[string]any{"firmware": "secure-boot", "tpm": true}, []string{"driver.qemu.firmware contains secure-boot", "driver.qemu.tpm = true"}},
	} {
		var got []string
		for _, x := range machineTask(t, nil, c.config).ImpliedConstraints() {
			got = append(got, x.GetAttribute()+" "+x.GetOperator()+" "+x.GetValue())
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%v: %q, want %q", c.config, got, c.want)
		}
	}
	if got := (&Task{Driver: "exec"}).ImpliedConstraints(); got != nil {
		t.Errorf("a process implies %v", got)
	}
}
