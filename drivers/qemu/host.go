package qemu

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/berthd/berth/drivers/qemu/machine"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// programs are QEMU's, by the guest's architecture.
var programs = map[string]string{"amd64": "qemu-system-x86_64", "arm64": "qemu-system-aarch64"}

// hostProbe remembers what the host can do.
type hostProbe struct {
	mu   sync.Mutex
	host *machine.Host
	at   time.Time
}

// fresh is how long what was found out about the host is believed.
const fresh = time.Minute

// get looks what the host can do, unless it did so a moment ago.
func (p *hostProbe) get(ctx context.Context) *machine.Host {
	p.mu.Lock()
	host, at := p.host, p.at
	p.mu.Unlock()
	if host != nil && time.Since(at) < fresh {
		return host
	}
	host = look(ctx)
	p.mu.Lock()
	defer p.mu.Unlock()
	if ctx.Err() == nil {
		p.host, p.at = host, time.Now()
	}
	return host
}

func look(ctx context.Context) *machine.Host {
	h := &machine.Host{Arch: runtime.GOARCH, AMD: isAMD(), Guests: map[string]machine.Guest{}}
	for arch, program := range programs {
		if g, ok := guestOf(ctx, arch, program); ok {
			h.Guests[arch] = g
		}
	}
	h.KVM, h.KVMReason = kvm(ctx)
	_, err := exec.LookPath("swtpm")
	h.TPM = err == nil
	for _, dir := range []string{"/usr/share/qemu", "/usr/lib/ipxe/qemu"} {
		if _, err := os.Stat(dir + "/efi-virtio.rom"); err == nil {
			h.NetworkROMs = true
		}
	}
	return h
}

func isAMD() bool {
	b, _ := os.ReadFile("/proc/cpuinfo")
	return strings.Contains(string(b[:min(len(b), 4096)]), "AuthenticAMD")
}

var versionWords = regexp.MustCompile(`version (\d+\.\d+\.\d+)`)

// guestOf asks a QEMU what it is.
func guestOf(ctx context.Context, arch, program string) (machine.Guest, bool) {
	path, err := exec.LookPath(program)
	if err != nil {
		return machine.Guest{}, false
	}
	g := machine.Guest{Binary: path, Machines: map[string]string{}, Firmware: firmwares("/usr/share/qemu/firmware", arch)}
	out, err := exec.CommandContext(ctx, path, "--version").Output()
	m := versionWords.FindSubmatch(out)
	if err != nil || m == nil {
		return g, false
	}
	g.Version = string(m[1])
	out, err = exec.CommandContext(ctx, path, "-machine", "help").Output()
	if err != nil {
		return g, false
	}
	for line := range strings.Lines(string(out)) {
		kind, words, _ := strings.Cut(line, " ")
		_, alias, ok := strings.Cut(words, "(alias of ")
		switch {
		case ok:
			g.Machines[kind] = strings.Trim(alias, ")\n ")
		case kind == "microvm":
			g.Machines[kind] = kind
		}
	}
	return g, true
}

// descriptor is a file by which firmware is found (docs/interop/firmware.json of QEMU).
type descriptor struct {
	Interfaces []string `json:"interface-types"`
	Mapping    struct {
		Device     string `json:"device"`
		Executable struct {
			File   string `json:"filename"`
			Format string `json:"format"`
		} `json:"executable"`
		Vars struct {
			File string `json:"filename"`
		} `json:"nvram-template"`
	} `json:"mapping"`
	Targets []struct {
		Arch string `json:"architecture"`
	} `json:"targets"`
	Features []string `json:"features"`
}

// kind is what a machine's config calls it; "": nothing that can be used.
func (d *descriptor) kind(arch string) string {
	names := map[string]string{"amd64": "x86_64", "arm64": "aarch64"}
	fits := slices.ContainsFunc(d.Targets, func(t struct {
		Arch string `json:"architecture"`
	},
	) bool {
		return t.Arch == names[arch]
	})
	if !fits || !slices.Contains(d.Interfaces, "uefi") || d.Mapping.Device != "flash" {
		return ""
	}
	switch {
	case slices.Contains(d.Features, "enrolled-keys") && slices.Contains(d.Features, "secure-boot"):
		return "secure-boot"
	case !slices.Contains(d.Features, "requires-smm"):
		return "uefi"
	}
	return ""
}

// firmwares finds UEFI's files. The first that fits counts, in the order of the names.
func firmwares(dir, arch string) map[string]machine.Firmware {
	found := map[string]machine.Firmware{}
	files, _ := filepath.Glob(dir + "/*.json")
	for _, file := range files {
		var d descriptor
		b, err := os.ReadFile(file)
		if err != nil || json.Unmarshal(b, &d) != nil {
			continue
		}
		kind := d.kind(arch)
		f := machine.Firmware{Code: d.Mapping.Executable.File, Vars: d.Mapping.Vars.File, Format: cmp.Or(d.Mapping.Executable.Format, "raw")}
		if _, have := found[kind]; kind == "" || have || !exists(f.Code) || !exists(f.Vars) {
			continue
		}
		found[kind] = f
	}
	return found
}

func exists(path string) bool { _, err := os.Stat(path); return err == nil }

// Probe implements drivers.Driver.
func (d *Driver) Probe(ctx context.Context) (*berthv1.DriverInfo, error) {
	info := &berthv1.DriverInfo{Name: name, Version: version, Attributes: map[string]string{}}
	for _, c := range d.Info().Capabilities {
		info.Capabilities = append(info.Capabilities, string(c))
	}
	if os.Geteuid() != 0 {
		info.Message = "the agent does not run as root, which cgroups need"
		return info, nil
	}
	host := d.host.get(ctx)
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if len(host.Guests) == 0 {
		info.Message = "there is no QEMU (on Debian: qemu-system-x86, qemu-system-arm)"
		return info, nil
	}
	if _, err := d.cgroups(); err != nil {
		info.Message = err.Error()
		return info, nil
	}
	store, err := d.store()
	if err == nil {
		_, err = store.Probe(ctx)
	}
	if err != nil {
		info.Message = err.Error()
		return info, nil
	}
	info.Healthy = true
	var words []string
	for _, arch := range slices.Sorted(slices.Values(keys(host.Guests))) {
		g := host.Guests[arch]
		info.Attributes["guest."+arch] = g.Version
		words = append(words, fmt.Sprintf("%s guests by QEMU %s", arch, g.Version))
		for firmware := range g.Firmware {
			info.Attributes["firmware."+arch+"."+firmware] = "true"
		}
	}
	info.Attributes["kvm"], info.Attributes["tpm"] = fmt.Sprint(host.KVM), fmt.Sprint(host.TPM)
	if host.KVM {
		words = append(words, "accelerated by kvm")
	} else {
		words = append(words, "emulated (tcg), for kvm does not work: "+host.KVMReason)
	}
	info.Message = strings.Join(words, "; ")
	return info, nil
}

func keys[V any](m map[string]V) []string {
	all := make([]string, 0, len(m))
	for k := range m {
		all = append(all, k)
	}
	return all
}
