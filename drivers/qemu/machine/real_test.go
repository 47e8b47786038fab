package machine

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// notReal says why a case cannot be started here; "": it can.
func notReal(t *testing.T, name string, in *Input, m *Machine) string {
	switch {
	case m.Accel == "kvm":
		return "KVM is not there for tests"
	case len(in.Devices) > 0:
		return "it needs devices to pass through"
	case len(in.Nics) > 0 && len(in.Nics[0].TapFDs) > 0:
		return "it needs vhost"
	case in.RunAs != "" && os.Geteuid() != 0:
		return "only root can become another user"
	}
	if in.Config.GetTpm() {
		if _, err := exec.LookPath("swtpm"); err != nil {
			return "there is no swtpm"
		}
	}
	if strings.HasPrefix(name, "bridge") {
		f, err := os.OpenFile("/dev/net/tun", os.O_RDWR, 0)
		if err != nil || os.Geteuid() != 0 {
			return "it needs /dev/net/tun and root"
		}
		f.Close()
	}
	if strings.HasPrefix(name, "hugepages") {
		free, _ := os.ReadFile("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages")
		var n int
		if _, err := fmt.Sscan(string(free), &n); err != nil || n < 64 {
			return "it needs 64 free hugepages"
		}
	}
	if _, err := exec.LookPath(m.Binary); err != nil {
		return "there is no " + m.Binary
	}
	return ""
}

// hostNodes are those of the fleet's machine; the one of the test may have others.
var hostNodes = regexp.MustCompile(`"host-nodes":\[[0-9,]+\]`)

// TestQEMUTakesIt starts QEMU with the arguments of each golden file.
func TestQEMUTakesIt(t *testing.T) {
	for name, change := range cases {
		t.Run(name, func(t *testing.T) {
			in := plain()
			change(in)
			m, err := Build(*in)
			if err != nil {
				t.Fatal(err)
			}
			if why := notReal(t, name, in, m); why != "" {
				t.Skip(why)
			}
			dir := t.TempDir()
			makeFiles(t, dir, in)
			for i := range m.Args {
				m.Args[i] = hostNodes.ReplaceAllString(m.Args[i], `"host-nodes":[0]`)
			}
			runReal(t, dir, m)
		})
	}
}

func runReal(t *testing.T, dir string, m *Machine) {
	if slices.Contains(m.Args, "-tpmdev") {
		startTPM(t, dir)
	}
	cmd := exec.CommandContext(t.Context(), m.Binary, m.Args...)
	var out bytes.Buffer
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	defer func() {
		if t.Failed() {
			t.Logf("QEMU said: %s", &out)
		}
	}()
	q := dialQMP(t, dir, ended, &out)
	defer q.Close()
	var vcpus []struct {
		Index int `json:"cpu-index"`
	}
	q.ask(t, "query-cpus-fast", &vcpus)
	for i, v := range m.VCPUs {
		if i >= len(vcpus) || vcpus[i].Index != v.Index {
			t.Errorf("vCPU %d: QEMU has %v", i, vcpus)
		}
	}
	if len(vcpus) != len(m.VCPUs) {
		t.Errorf("QEMU has %d vCPUs, want %d", len(vcpus), len(m.VCPUs))
	}
	var threads []struct {
		ID string `json:"id"`
	}
	q.ask(t, "query-iothreads", &threads)
	if len(threads) != len(m.IOThreads) {
		t.Errorf("QEMU has I/O threads %v, want %v", threads, m.IOThreads)
	}
	var memory struct {
		Base uint64 `json:"base-memory"`
	}
	q.ask(t, "query-memory-size-summary", &memory)
	if memory.Base != m.MemoryMiB<<20 {
		t.Errorf("QEMU has %d bytes of memory, want %d MiB", memory.Base, m.MemoryMiB)
	}
	for _, port := range m.SparePorts {
		q.ask(t, "device_add", nil, props{{"driver", "virtio-rng-pci"}, {"id", "in-" + port.ID}, {"bus", port.ID}})
	}
	q.ask(t, "quit", nil)
	if err := <-ended; err != nil {
		t.Errorf("QEMU ended with %v", err)
	}
	// Emulation knows no CPU with threads of AMD's, and models may have what it lacks.
	known := regexp.MustCompile(`^$|TCG doesn't support requested feature|hyperthreading|^Please configure -smp`)
	for line := range strings.SplitSeq(out.String(), "\n") {
		if !known.MatchString(line) {
			t.Errorf("QEMU said: %s", line)
		}
	}
}

// startTPM starts swtpm, which ends with QEMU's connection.
func startTPM(t *testing.T, dir string) {
	cmd := exec.CommandContext(t.Context(), "swtpm", "socket", "--tpm2", "--terminate",
		"--tpmstate", "dir="+dir, "--ctrl", "type=unixio,path="+filepath.Join(dir, TPMSocket))
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Wait() })
	for {
		if _, err := os.Stat(filepath.Join(dir, TPMSocket)); err == nil {
			return
		}
		if t.Context().Err() != nil {
			t.Fatal("swtpm opened no socket in time")
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// qmp is as much of QMP as the test needs.
type qmp struct {
	net.Conn
	in *json.Decoder
}

func dialQMP(t *testing.T, dir string, ended chan error, out *bytes.Buffer) *qmp {
	for {
		conn, err := net.Dial("unix", filepath.Join(dir, QMPSocket))
		if err == nil {
			q := &qmp{conn, json.NewDecoder(conn)}
			var hello any
			if err := q.in.Decode(&hello); err != nil {
				t.Fatal(err)
			}
			q.ask(t, "qmp_capabilities", nil)
			return q
		}
		select {
		case err := <-ended:
			t.Fatalf("QEMU ended: %v\n%s", err, out)
		case <-t.Context().Done():
			t.Fatal("QEMU opened no socket in time")
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func (q *qmp) ask(t *testing.T, command string, into any, arguments ...props) {
	t.Helper()
	request := props{{"execute", command}}
	if len(arguments) > 0 {
		request = request.with("arguments", arguments[0])
	}
	if err := json.NewEncoder(q).Encode(request); err != nil {
		t.Fatal(err)
	}
	for {
		var reply struct {
			Event  string
			Return json.RawMessage
			Error  json.RawMessage
		}
		if err := q.in.Decode(&reply); err != nil {
			t.Fatalf("%s: %v", command, err)
		}
		if reply.Event != "" {
			continue
		}
		if reply.Error != nil {
			t.Fatalf("%s: %s", command, reply.Error)
		}
		if into != nil {
			if err := json.Unmarshal(reply.Return, into); err != nil {
				t.Fatalf("%s: %v", command, err)
			}
		}
		return
	}
}

// makeFiles makes what the arguments name.
func makeFiles(t *testing.T, dir string, in *Input) {
	file := func(path string, content []byte) {
		if path == "" {
			return
		}
		if err := os.WriteFile(filepath.Join(dir, path), content, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	image := func(l Layer) {
		path := filepath.Join(dir, l.Path)
		out, err := exec.Command("qemu-img", "create", "-q", "-f", l.Format, "--", path, "1M").CombinedOutput()
		if err != nil {
			t.Fatalf("qemu-img: %v %s", err, out)
		}
		if err := os.Chmod(path, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	for _, d := range in.Disks {
		for _, l := range append(slices.Clone(d.Base), Layer{d.Path, d.Format}) {
			image(l)
		}
	}
	for _, d := range in.Cdroms {
		file(d.Path, make([]byte, 1<<16))
	}
	file(in.SeedISO, make([]byte, 1<<16))
	file(in.Kernel, kernelImage())
	file(in.Initrd, make([]byte, 4096))
	for _, path := range []string{in.Firmware.Code, in.Firmware.Vars} {
		switch {
		case path != "" && in.Firmware.Format == "qcow2":
			image(Layer{path, "qcow2"})
		case in.Config.GetArch() == "arm64":
			file(path, make([]byte, 64<<20)) // virt's flash has one size
		default:
			file(path, make([]byte, 1<<20))
		}
	}
}

// kernelImage is enough of a kernel for QEMU to load it.
func kernelImage() []byte {
	image := make([]byte, 64<<10)
	image[0x1f1] = 4                        // sectors of its first part
	copy(image[0x1fe:], "\x55\xaaxxHdrS")   // a boot sector, and the header's mark
	copy(image[0x206:], "\x0c\x02")         // version 2.12 of the protocol
	image[0x211] = 1                        // loaded high
	copy(image[0x22c:], "\xff\xff\xff\x7f") // where an initrd may end
	return image
}
