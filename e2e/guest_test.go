package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/berthd/berth/drivers/qemu/guest"
)

// condition says what scripts ask beside testscript's own conditions: [arm64-guests] and
// [uefi], whether this machine can run such guests.
func condition(words string) (bool, error) {
	switch words {
	case "arm64-guests":
		_, err := exec.LookPath("qemu-system-aarch64")
		return err == nil && isFile("/usr/share/AAVMF/AAVMF_CODE.fd"), nil
	case "uefi":
		return isFile("/usr/share/OVMF/OVMF_CODE_4M.fd"), nil
	}
	return false, fmt.Errorf("there is no condition %q", words)
}

func isFile(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// cmdGuest makes what a machine boots from, or skips the script where it cannot be made:
//
//	guest kernel               sets KERNEL and INITRD
//	guest disk amd64 x.raw 'poweroff -f'   a disk whose guest runs these commands; iso makes a CD
//	guest sector x.raw words   a disk that says these words and powers off; stays does not
func cmdGuest(ts *testscript.TestScript, _ bool, args []string) {
	c := clusterOf(ts)
	if _, err := exec.LookPath("qemu-system-x86_64"); err != nil {
		c.t.Skip("there is no qemu-system-x86_64")
	}
	ctx := context.Background()
	build := func(arch string) *guest.Guest {
		g, err := guest.Build(ctx, arch)
		if err != nil {
			c.t.Skipf("there is no guest to boot: %v", err)
		}
		return g
	}
	switch args[0] {
	case "kernel":
		g := build(runtime.GOARCH)
		ts.Setenv("KERNEL", g.Kernel)
		ts.Setenv("INITRD", g.Initrd)
	case "disk":
		ts.Check(build(args[1]).Disk(ctx, ts.MkAbs(args[2]), args[3:]...))
	case "iso":
		ts.Check(build(args[1]).ISO(ctx, ts.MkAbs(args[2]), args[3:]...))
	case "sector", "stays":
		ts.Check(guest.Sector(ts.MkAbs(args[1]), args[2], args[0] == "sector"))
	default:
		ts.Fatalf("guest %s?", args[0])
	}
	fmt.Fprintln(ts.Stdout(), args)
}
