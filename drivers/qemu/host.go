package qemu

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/berthd/berth/drivers/qemu/accel"
	"github.com/berthd/berth/drivers/qemu/machine"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// programs are QEMU's, by the guest's architecture.
var programs = map[string]string{"amd64": "qemu-system-x86_64", "arm64": "qemu-system-aarch64"}

// hostProbe remembers what the host can do.
type hostProbe struct {
	// cache is the file that keeps what was found out about KVM since the host's boot.
	cache string

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
	host = look(ctx, p.cache)
	p.mu.Lock()
	defer p.mu.Unlock()
	if ctx.Err() == nil {
		p.host, p.at = host, time.Now()
	}
	return host
}

func look(ctx context.Context, cache string) *machine.Host {
	h := &machine.Host{Arch: runtime.GOARCH, AMD: isAMD(), Guests: map[string]machine.Guest{}}
	for arch, program := range programs {
		if g, ok := guestOf(ctx, arch, program); ok {
			h.Guests[arch] = g
		}
	}
	kvm := accel.Probe(ctx, cache)
	h.KVM, h.KVMReason = kvm.OK, kvm.Reason
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
		case ok && slices.Contains([]string{"q35", "pc", "virt"}, kind):
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
	info.Attributes = attributesOf(host)
	var words []string
	for _, arch := range slices.Sorted(maps.Keys(host.Guests)) {
		words = append(words, fmt.Sprintf("%s guests by QEMU %s", arch, host.Guests[arch].Version))
	}
	if host.KVM {
		words = append(words, "accelerated by kvm")
	} else {
		words = append(words, "emulated (tcg), for kvm does not work: "+host.KVMReason)
	}
	info.Message = strings.Join(words, "; ")
	return info, nil
}

// attributesOf are what constraints name ("driver.qemu.accel"); berthv1's
// Task.ImpliedConstraints does. Lists have commas. Names without an architecture are of
// the node's own.
func attributesOf(h *machine.Host) map[string]string {
	all := map[string]string{
		"accel": "tcg", "tpm": fmt.Sprint(h.TPM),
		"guests": strings.Join(slices.Sorted(maps.Keys(h.Guests)), ","),
	}
	if h.KVM {
		all["accel"] = "kvm"
	} else {
		all["kvm_reason"] = h.KVMReason
	}
	for arch, g := range h.Guests {
		own := map[string]string{
			"version":  g.Version,
			"machines": strings.Join(slices.Sorted(maps.Keys(g.Machines)), ","),
			"firmware": strings.Join(slices.Sorted(maps.Keys(g.Firmware)), ","),
		}
		for key, value := range own {
			all[key+"."+arch] = value
			if arch == h.Arch {
				all[key] = value
			}
		}
	}
	return all
}
