// Package guest makes tiny Linux guests for tests, the demo and benchmarks: Debian's cloud
// kernel, and an initramfs of busybox and an init script that greets on the console and does
// what its command line says. They boot in seconds without KVM.
//
// What they are made of is fetched from the host's Debian mirrors by apt, once, into the
// user's cache; nothing is installed, and nothing of the host is changed. Where that cannot
// be (no apt, no network), Build says so, and tests are skipped with that reason. The
// product never imports this package.
package guest

import (
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// Greeting is a line that the guest writes to its console when it is up, before it does
// what its commands say. Prompt is what its shell says when it waits for a command.
const (
	Greeting = "Hello from a Berth guest."
	Prompt   = "guest# "
)

// Guest is what a machine boots from. The files belong to the cache: nobody may change them.
type Guest struct {
	Arch           string // amd64 or arm64
	Kernel, Initrd string
	dir            string // of the cache, for what Disk makes
}

//go:embed init.sh
var initScript []byte

// kernels are packages, by architecture.
var kernels = map[string]string{"amd64": "linux-image-cloud-amd64", "arm64": "linux-image-cloud-arm64"}

// For gives the guest of an architecture, or skips the test where it cannot be made.
func For(t testing.TB, arch string) *Guest {
	t.Helper()
	g, err := Build(t.Context(), arch)
	if err != nil {
		t.Skipf("no guest to boot: %v", err)
	}
	return g
}

// Build makes the guest of an architecture, or finds it in the user's cache.
func Build(ctx context.Context, arch string) (*Guest, error) {
	if kernels[arch] == "" {
		return nil, fmt.Errorf("there is no guest for %q, only for amd64 and arm64", arch)
	}
	caches, err := os.UserCacheDir()
	if err != nil {
		return nil, fmt.Errorf("finding a place for the guest: %w", err)
	}
	content := sha256.Sum256([]byte(string(initScript) + strings.Join(modules, " ") + layout))
	dir := filepath.Join(caches, "berth-guests", arch+"-"+hex.EncodeToString(content[:6]))
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return nil, err
	}
	g := &Guest{Arch: arch, Kernel: filepath.Join(dir, "vmlinuz"), Initrd: filepath.Join(dir, "initrd"), dir: dir}
	return g, once(dir, func(part string) error { return g.build(ctx, part) })
}

// layout changes whenever the code below makes something else of the same modules and script.
const layout = "2"

// once makes a directory that is not there yet, in whichever process comes first.
func once(dir string, make func(part string) error) error {
	lock, err := os.OpenFile(dir+".lock", os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return fmt.Errorf("waiting for %s: %w", lock.Name(), err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	part, err := os.MkdirTemp(filepath.Dir(dir), "part-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(part)
	if err := os.Chmod(part, 0o755); err != nil { // machines may run as another user
		return err
	}
	if err := make(part); err != nil {
		return err
	}
	return os.Rename(part, dir)
}

func (g *Guest) build(ctx context.Context, dir string) error {
	// Packages are kept: the script changes more often than they do.
	packages := filepath.Join(filepath.Dir(g.dir), g.Arch+"-packages")
	err := once(packages, func(part string) error { return fetch(ctx, g.Arch, part, kernels[g.Arch], "busybox-static") })
	if err != nil {
		return err
	}
	found, err := filepath.Glob(filepath.Join(packages, "boot", "vmlinuz-*"))
	if err != nil || len(found) != 1 {
		return fmt.Errorf("the kernel's package has %d kernels", len(found))
	}
	if err := os.Link(found[0], filepath.Join(dir, "vmlinuz")); err != nil {
		return err
	}
	version := strings.TrimPrefix(filepath.Base(found[0]), "vmlinuz-")
	return writeInitrd(filepath.Join(dir, "initrd"), packages, version)
}

// Cmdline is the kernel's command line for a guest that runs these shell commands, one
// after the other, and then a shell on its console. They know the functions of init.sh:
// tick, hog MIB, panic, boots DISK, net, seed. A command cannot contain double quotes.
func (g *Guest) Cmdline(commands ...string) string {
	line := "console=ttyS0 quiet"
	if g.Arch == "arm64" {
		line = "console=ttyAMA0 quiet"
	}
	if len(commands) == 0 {
		return line
	}
	return line + ` -- "` + strings.Join(commands, `" "`) + `"`
}
