package guest

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// firmwares are where Debian puts UEFI; the machine boots with a copy of its variables.
var firmwares = map[string][2]string{
	"amd64": {"/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"},
	"arm64": {"/usr/share/AAVMF/AAVMF_CODE.fd", "/usr/share/AAVMF/AAVMF_VARS.fd"},
}

// uefi gives the arguments for a machine with UEFI.
func uefi(t *testing.T, arch string) []string {
	t.Helper()
	variables, err := os.ReadFile(firmwares[arch][1])
	if err != nil {
		t.Skipf("no UEFI: %v", err)
	}
	own := filepath.Join(t.TempDir(), "variables")
	if err := os.WriteFile(own, variables, 0o644); err != nil {
		t.Fatal(err)
	}
	return []string{"-drive", "if=pflash,format=raw,read-only=on,file=" + firmwares[arch][0], "-drive", "if=pflash,format=raw,file=" + own}
}

// TestImages has what covers all code; the other ways are in the e2e tests, with the driver.
func TestImages(t *testing.T) {
	for name, tc := range map[string]struct {
		arch  string
		write func(*Guest, context.Context, string, ...string) error
		drive string
		uefi  bool
	}{
		"BIOS from a CD":   {"amd64", (*Guest).ISO, "media=cdrom,format=raw,file=", false},
		"UEFI from a disk": {"amd64", (*Guest).Disk, "if=virtio,format=raw,file=", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := For(t, tc.arch)
			if !tc.uefi && !g.hasBIOS() {
				t.Skip("the loader for a BIOS is installed by a program for amd64")
			}
			var args []string
			if tc.uefi {
				args = uefi(t, tc.arch)
			}
			path := filepath.Join(t.TempDir(), "image")
			if err := tc.write(g, t.Context(), path, "poweroff -f"); err != nil {
				t.Fatal(err)
			}
			if out := boot(t, tc.arch, append(args, "-drive", tc.drive+path)...); !strings.Contains(out, Greeting) {
				t.Error("the guest does not greet")
			}
		})
	}
}
