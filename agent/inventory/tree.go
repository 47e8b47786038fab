package inventory

import (
	"io"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/berthd/berth/topology"
)

// maxText bounds what is read of a file: sysfs files are small, /proc/cpuinfo of a big
// machine is not.
const maxText = 8 << 20

// tree reads files below a root. What is not there reads as nothing.
type tree struct{ fs fs.FS }

// text is a file's content without white space around it.
func (t tree) text(name string) string {
	f, err := t.fs.Open(name)
	if err != nil {
		return ""
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxText))
	if err != nil && len(b) == 0 {
		return ""
	}
	return strings.TrimSpace(strings.ToValidUTF8(strings.TrimRight(string(b), "\x00"), "?"))
}

// number is a file's content as a number; false when it is none.
func (t tree) number(name string) (int64, bool) {
	n, err := strconv.ParseInt(t.text(name), 0, 64)
	return n, err == nil
}

// count is a file's content as a number that is not negative; 0 when it is none.
func (t tree) count(name string) uint64 {
	n, ok := t.number(name)
	if !ok || n < 0 {
		return 0
	}
	return uint64(n)
}

func (t tree) exists(name string) bool {
	_, err := fs.Stat(t.fs, name)
	return err == nil
}

// names lists a directory in order.
func (t tree) names(dir string) []string {
	entries, err := fs.ReadDir(t.fs, dir)
	if err != nil {
		return nil
	}
	names := make([]string, 0, len(entries))
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// numbered lists the numbers N of the entries <prefix>N of a directory, ascending.
func (t tree) numbered(dir, prefix string) []int {
	var all []int
	for _, name := range t.names(dir) {
		text, ok := strings.CutPrefix(name, prefix)
		if n, err := strconv.Atoi(text); ok && err == nil && n >= 0 && n < maxCPU {
			all = append(all, n)
		}
	}
	slices.Sort(all)
	return all
}

// maxCPU bounds CPU and node numbers, against nonsense.
const maxCPU = 1 << 14

// cpus reads a set from a list file, or from a mask file where there is no list.
func (t tree) cpus(list, mask string) (topology.CPUSet, bool) {
	if t.exists(list) {
		set, err := topology.ParseCPUSet(t.text(list))
		return set, err == nil
	}
	if t.exists(mask) {
		return parseMask(t.text(mask))
	}
	return topology.CPUSet{}, false
}

// parseMask reads the kernel's mask format: 32-bit hexadecimal words, the highest first,
// with commas between.
func parseMask(mask string) (topology.CPUSet, bool) {
	var set topology.CPUSet
	words := strings.Split(mask, ",")
	if len(words) > maxCPU/32 {
		return set, false
	}
	for i, w := range words {
		v, err := strconv.ParseUint(strings.TrimSpace(w), 16, 64)
		if err != nil {
			return topology.CPUSet{}, false
		}
		for bit := range 64 {
			if v&(1<<bit) != 0 {
				set.Add((len(words)-1-i)*32 + bit)
			}
		}
	}
	return set, true
}

var pciAddress = regexp.MustCompile(`^[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]$`)

// device is where a class device ("sys/class/net/eth0") hangs in the device tree.
type device struct {
	path string // of the device itself, below the root; "": only software made it
	pci  string // address of the PCI function that it belongs to; "": none
	cell int32  // -1: not known
}

// device follows a class entry to its device and up to its PCI function.
func (t tree) device(class string) device {
	d := device{cell: -1}
	target := t.follow(class)
	if target == "" {
		target = class
	}
	// Captured machines do not always have the link to the device.
	if !t.exists(path.Join(class, "device")) && (target == class || strings.Contains(target, "/virtual/")) {
		return d
	}
	d.path = path.Join(class, "device")
	for dir := target; dir != "." && dir != "/"; dir = path.Dir(dir) {
		if d.pci == "" && pciAddress.MatchString(path.Base(dir)) {
			d.pci = path.Base(dir)
		}
		if d.cell < 0 {
			if n, ok := t.number(path.Join(dir, "numa_node")); ok && n >= 0 && n < maxCPU {
				d.cell = int32(n)
			}
		}
	}
	if d.pci == "" { // old kernels: the class entry is a directory, and device the link
		if base := path.Base(t.follow(d.path)); pciAddress.MatchString(base) {
			d.pci = base
		}
	}
	if d.cell < 0 {
		if n, ok := t.number(path.Join(d.path, "numa_node")); ok && n >= 0 && n < maxCPU {
			d.cell = int32(n)
		}
	}
	return d
}

// follow resolves the last link of a path; "" when it is none.
func (t tree) follow(name string) string {
	target, err := fs.ReadLink(t.fs, name)
	if err != nil {
		return ""
	}
	if path.IsAbs(target) {
		return strings.TrimPrefix(path.Clean(target), "/")
	}
	return path.Join(path.Dir(name), target)
}

// base is the last part of where a link points to; "" when it is none.
func (t tree) base(link string) string {
	if target := t.follow(link); target != "" {
		return path.Base(target)
	}
	return ""
}
