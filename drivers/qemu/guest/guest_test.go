package guest

import (
	"bytes"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// emulators by architecture, with what a machine needs to boot a kernel directly.
var emulators = map[string][]string{
	"amd64": {"qemu-system-x86_64", "-machine", "q35"},
	"arm64": {"qemu-system-aarch64", "-machine", "virt", "-cpu", "cortex-a57"},
}

// boot runs a machine until it ends, and gives its console's output.
func boot(t *testing.T, arch string, args ...string) string {
	t.Helper()
	emulator := emulators[arch]
	if _, err := exec.LookPath(emulator[0]); err != nil {
		t.Skipf("there is no %s (Debian: qemu-system-x86, qemu-system-arm)", emulator[0])
	}
	args = append(append(emulator[1:len(emulator):len(emulator)], "-accel", "tcg", "-m", "256", "-display", "none", "-monitor", "none",
		"-serial", "stdio", "-no-reboot"), args...)
	cmd := exec.CommandContext(t.Context(), emulator[0], args...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	began := time.Now()
	if err := cmd.Run(); err != nil {
		t.Errorf("%s: %v", strings.Join(cmd.Args, " "), err)
	}
	t.Logf("%s: %v\n%s", arch, time.Since(began).Round(time.Millisecond), out.String())
	return out.String()
}

func TestDirect(t *testing.T) {
	for arch := range emulators {
		t.Run(arch, func(t *testing.T) {
			t.Parallel()
			g := For(t, arch)
			out := boot(t, arch, "-kernel", g.Kernel, "-initrd", g.Initrd, "-append", g.Cmdline("echo one two", "poweroff -f"))
			for _, want := range []string{Greeting, "\none two\r\n"} {
				if !strings.Contains(out, want) {
					t.Errorf("the console does not have %q", want)
				}
			}
		})
	}
}

func TestArchive(t *testing.T) {
	var b bytes.Buffer
	a := &archive{w: &b}
	a.dir("d")
	a.file("d/f", 0o644, []byte("hello"))
	a.end()
	if a.err != nil || b.Len()%4 != 0 {
		t.Fatalf("%d bytes, %v", b.Len(), a.err)
	}
	if !bytes.Contains(b.Bytes(), []byte("d/f\x00\x00\x00hello\x00\x00\x00070701")) {
		t.Errorf("the file is not where it belongs:\n%q", b.String())
	}
}

func TestOnce(t *testing.T) {
	dir := t.TempDir() + "/made"
	for range 2 {
		if err := once(dir, func(part string) error { return os.WriteFile(part+"/x", nil, 0o644) }); err != nil {
			t.Fatal(err)
		}
	}
	if err := once(dir, func(string) error { t.Error("made twice"); return nil }); err != nil {
		t.Fatal(err)
	}
}
