package machine

import (
	"crypto/sha256"
	"fmt"
	"net"
	"regexp"
	"strings"
	"unicode/utf8"

	"github.com/berthd/berth/problem"
)

// Names become QEMU's ids, and a disk's its serial number in the guest.
var (
	nameWords = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`)
	cpuWords  = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._+,=:-]*$`)
	userWords = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._:-]*$`)
	uuidWords = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)
	pciWords  = regexp.MustCompile(`^[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]$`)
)

// check refuses what no machine can have.
func check(in *Input) error {
	if in.Config == nil {
		return problem.New(problem.Internal, "config", "the machine has no config")
	}
	if !uuidWords.MatchString(in.UUID) {
		return problem.New(problem.Internal, "", "%q is no UUID", in.UUID)
	}
	if in.RunAs != "" && !userWords.MatchString(in.RunAs) {
		return problem.New(problem.Internal, "", "%q is no user", in.RunAs)
	}
	if model := in.Config.GetCpu().GetModel(); model != "" && (!cpuWords.MatchString(model) || model == "help") {
		return invalid("cpu.model", "%q is no CPU model", model).WithRemedy(`it is as QEMU names them: "EPYC-v4,+svm"`)
	}
	if err := checkPaths(in); err != nil {
		return err
	}
	if err := checkDisks(in); err != nil {
		return err
	}
	return checkNics(in)
}

func checkDisks(in *Input) error {
	seen := make(map[string]bool)
	for i, d := range in.Disks {
		name := d.Config.GetName()
		at := fmt.Sprintf("disk[%d]", i)
		if err := checkName(at, name, longestSerial, seen); err != nil {
			return err
		}
		for _, l := range append([]Layer{{d.Path, d.Format}}, d.Base...) {
			if l.Format != "raw" && l.Format != "qcow2" {
				return invalid(at+".format", "disk %q is made of %q; QEMU gets raw and qcow2 only", name, l.Format)
			}
		}
		if d.Format == "raw" && len(d.Base) > 0 {
			return problem.New(problem.Internal, "config."+at, "disk %q is raw and has a base", name)
		}
	}
	clear(seen)
	for i, d := range in.Cdroms {
		if err := checkName(fmt.Sprintf("cdrom[%d]", i), d.Config.GetName(), longestSerial, seen); err != nil {
			return err
		}
	}
	return nil
}

func checkNics(in *Input) error {
	seen := make(map[string]bool)
	functions := make(map[string]bool)
	for i, n := range in.Nics {
		at := fmt.Sprintf("nic[%d]", i)
		if err := checkName(at, n.Config.GetName(), longestSerial, seen); err != nil {
			return err
		}
		if n.Config.GetMode() != "vf" {
			if mac, err := net.ParseMAC(n.MAC); err != nil || len(mac) != 6 || mac[0]&1 != 0 {
				return invalid(at+".mac", "%q is no address of an interface", n.MAC).WithRemedy(`it is as "52:54:00:12:34:56"`)
			}
			continue
		}
		granted := false
		for _, d := range in.Devices {
			granted = granted || d.ID == n.VF
		}
		if !granted || functions[n.VF] {
			return invalid(at+".mode", "there is no virtual function in the grant for interface %q", n.Config.GetName()).
				WithRemedy(`ask for one more device "vf" in the task's resources`)
		}
		functions[n.VF] = true
	}
	for _, d := range in.Devices {
		for _, f := range append([]Function{{Address: d.Address}}, d.Group...) {
			if f.Address != "" && !pciWords.MatchString(f.Address) {
				return problem.New(problem.Internal, "", "%q is no PCI address", f.Address)
			}
		}
	}
	return nil
}

func checkName(at, name string, longest int, seen map[string]bool) error {
	switch {
	case !nameWords.MatchString(name) || len(name) > longest:
		return invalid(at+".name", "%q is no name", name).
			WithRemedy("use at most %d letters, digits, dots, hyphens and underscores, the first a letter or digit", longest)
	case seen[name]:
		return invalid(at+".name", "%q is there twice", name)
	}
	seen[name] = true
	return nil
}

// checkPaths refuses what JSON or an argument cannot carry.
func checkPaths(in *Input) error {
	all := []string{
		in.Name, in.SeedISO, in.Kernel, in.Initrd, in.Firmware.Code, in.Firmware.Vars, in.Config.GetCmdline(),
	}
	for _, d := range in.Disks {
		all = append(all, d.Path)
		for _, l := range d.Base {
			all = append(all, l.Path)
		}
	}
	for _, d := range in.Cdroms {
		all = append(all, d.Path)
	}
	for _, n := range in.Nics {
		all = append(all, n.Tap)
	}
	for _, text := range all {
		if !utf8.ValidString(text) || strings.ContainsRune(text, 0) {
			return problem.New(problem.Invalid, "config", "%q cannot be given to QEMU: it is no valid text", text)
		}
	}
	return nil
}

// UUID is the machine's of a task: stable over restarts.
func UUID(taskID string) string {
	h := sha256.Sum256([]byte("berth machine " + taskID))
	h[6] = h[6]&0x0f | 0x80 // version 8: made as its maker likes
	h[8] = h[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", h[:4], h[4:6], h[6:8], h[8:10], h[10:16])
}

// MAC is the address of the interface of that name where the config has none: one that is
// administered locally.
func MAC(uuid, nic string) string {
	h := sha256.Sum256([]byte("berth interface " + uuid + " " + nic))
	return net.HardwareAddr(append([]byte{0x52}, h[:5]...)).String()
}
