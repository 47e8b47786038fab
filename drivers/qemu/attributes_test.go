package qemu

import (
	"maps"
	"testing"

	"github.com/berthd/berth/drivers/qemu/machine"
)

// The names are those that berthv1's Task.ImpliedConstraints asks for.
func TestAttributes(t *testing.T) {
	got := attributesOf(&machine.Host{
		Arch: "amd64", KVMReason: "none", TPM: true,
		Guests: map[string]machine.Guest{
			"amd64": {Version: "7.2.1", Machines: map[string]string{"q35": "pc-q35-7.2", "pc": "pc-i440fx-7.2"}, Firmware: map[string]machine.Firmware{"uefi": {}}},
			"arm64": {Version: "7.2.1", Machines: map[string]string{"virt": "virt-7.2"}},
		},
	})
	want := map[string]string{
		"accel": "tcg", "kvm_reason": "none", "tpm": "true", "guests": "amd64,arm64",
		"version": "7.2.1", "machines": "pc,q35", "firmware": "uefi",
		"version.amd64": "7.2.1", "machines.amd64": "pc,q35", "firmware.amd64": "uefi",
		"version.arm64": "7.2.1", "machines.arm64": "virt", "firmware.arm64": "",
	}
	if !maps.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}
