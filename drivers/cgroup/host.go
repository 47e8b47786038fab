// Package cgroup bounds, measures and kills groups of processes, on cgroup v1, v2 and
// hosts that have both. Drivers that run processes call it.
//
// Which controllers a kernel has, and in which version, is probed: what it lacks is
// told (Host.Missing) and left out, what it has and refuses is an error. A group is
// found again by its name alone, so nothing needs to be kept across restarts.
//
// # Beside systemd
//
// Groups live under one parent, "berth.slice" at the top unless the agent's
// configuration says otherwise, which systemd leaves alone as it is not its own. An
// agent that runs as a service with Delegate=yes may name a parent below its own
// service instead; on v2 that parent must have no processes of its own. Either way the
// service needs KillMode=process, for what is in its cgroup must outlive it.
//
// The package imports little, for the exec driver's shim is built on it.
package cgroup

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// DefaultParent is where groups live unless the agent's configuration says otherwise.
const DefaultParent = "berth.slice"

// wanted are the controllers that limits are set with.
var wanted = []string{"cpu", "cpuset", "memory", "pids", "hugetlb", "io"}

// Host is the cgroup file systems of this host.
type Host struct {
	parent      string
	hierarchies []hierarchy
}

// hierarchy is one mounted cgroup file system.
type hierarchy struct {
	mount       string
	v2          bool
	controllers []string // of those wanted or needed; v1's names: "blkio", "cpuacct", "freezer"
}

// Probe finds the hierarchies, for groups under a parent. It makes nothing. No hierarchy at all is an error.
func Probe(under string) (*Host, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("looking for cgroups: %w", err)
	}
	defer f.Close()
	return probe(f, under)
}

func probe(mountinfo io.Reader, under string) (*Host, error) {
	if under == "" {
		under = DefaultParent
	}
	h := &Host{parent: strings.Trim(under, "/")}
	for _, name := range strings.Split(h.parent, "/") {
		if name == "" || name == "." || name == ".." {
			return nil, fmt.Errorf("cgroup parent %q is not a clean path", h.parent)
		}
	}
	taken := map[string]bool{}
	lines := bufio.NewScanner(mountinfo)
	for lines.Scan() {
		hier, ok := parseMount(lines.Text(), taken)
		if ok {
			h.hierarchies = append(h.hierarchies, hier)
		}
	}
	if len(h.hierarchies) == 0 {
		return nil, errors.New("no cgroup file system is mounted")
	}
	// The unified hierarchy first: it is the one to kill by.
	slices.SortStableFunc(h.hierarchies, func(a, b hierarchy) int {
		switch {
		case a.v2 == b.v2:
			return strings.Compare(a.mount, b.mount)
		case a.v2:
			return -1
		}
		return 1
	})
	return h, nil
}

// parseMount reads a line of mountinfo; taken has the controllers that were seen already,
// for the same hierarchy may be mounted twice.
func parseMount(line string, taken map[string]bool) (hierarchy, bool) {
	before, after, ok := strings.Cut(line, " - ")
	left, right := strings.Fields(before), strings.Fields(after)
	if !ok || len(left) < 5 || len(right) < 3 {
		return hierarchy{}, false
	}
	h := hierarchy{mount: left[4]}
	switch right[0] {
	case "cgroup2":
		if taken["2"] {
			return hierarchy{}, false
		}
		taken["2"] = true
		b, err := os.ReadFile(h.mount + "/cgroup.controllers")
		if err != nil {
			return hierarchy{}, false
		}
		h.v2, h.controllers = true, strings.Fields(string(b))
		return h, true
	case "cgroup":
		for _, o := range strings.Split(right[2], ",") {
			switch o {
			case "cpu", "cpuacct", "cpuset", "memory", "pids", "hugetlb", "blkio", "freezer", "name=systemd":
				if !taken[o] {
					taken[o] = true
					h.controllers = append(h.controllers, o)
				}
			}
		}
	}
	return h, len(h.controllers) > 0
}

// Version is "v1", "v2" or "hybrid".
func (h *Host) Version() string {
	v2, controllers := 0, 0
	for _, hier := range h.hierarchies {
		if hier.v2 {
			v2++
			controllers += len(hier.controllers)
		}
	}
	switch {
	case v2 == 0:
		return "v1"
	case v2 == len(h.hierarchies):
		return "v2"
	}
	return "hybrid"
}

// Missing names the controllers that groups cannot be limited by, of those that limits
// are set with: the kernel does not offer them here, or (v2) does not let the parent, if
// it has been made, hand them down.
func (h *Host) Missing() []string {
	var missing []string
	for _, c := range wanted {
		if !h.offers(c) {
			missing = append(missing, c)
		}
	}
	return missing
}

// Controllers names the others.
func (h *Host) Controllers() []string {
	var have []string
	for _, c := range wanted {
		if h.offers(c) {
			have = append(have, c)
		}
	}
	return have
}

func (h *Host) offers(controller string) bool {
	hier := h.find(controller)
	if hier == nil || !hier.v2 {
		return hier != nil
	}
	handed, err := os.ReadFile(hier.mount + "/" + h.parent + "/cgroup.subtree_control")
	return err != nil || slices.Contains(strings.Fields(string(handed)), controller)
}

// find gives the hierarchy of a controller by its v2 name; nil: none.
func (h *Host) find(controller string) *hierarchy {
	for i := range h.hierarchies {
		name := controller
		if controller == "io" && !h.hierarchies[i].v2 {
			name = "blkio"
		}
		if slices.Contains(h.hierarchies[i].controllers, name) {
			return &h.hierarchies[i]
		}
	}
	return nil
}

// makeParent makes the parent in every hierarchy, ready to have limited children.
func (h *Host) makeParent() error {
	for i := range h.hierarchies {
		hier := &h.hierarchies[i]
		dir := hier.mount
		hier.delegate(dir)
		for _, name := range strings.Split(h.parent, "/") {
			if dir = dir + "/" + name; name == "" {
				continue
			}
			if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
				return fmt.Errorf("making the cgroup parent: %w", err)
			}
			if err := hier.inherit(dir); err != nil {
				return err
			}
			hier.delegate(dir)
		}
	}
	// Against the rest of the host the groups weigh as much as its CPUs together: with
	// the default of a single one, a few busy processes elsewhere would starve them all.
	all := &setter{g: &Group{host: h, name: "."}}
	all.cpu(Limits{CPUMilli: 1000 * uint64(runtime.NumCPU())})
	return all.err
}

// delegate lets a v2 group's children have limits. What it cannot pass on, its children
// lack, which shows when a limit is set.
func (hier *hierarchy) delegate(dir string) {
	if !hier.v2 {
		return
	}
	for _, c := range wanted {
		if slices.Contains(hier.controllers, c) {
			_ = os.WriteFile(dir+"/cgroup.subtree_control", []byte("+"+c), 0)
		}
	}
}

// inherit gives a new v1 cpuset its parent's CPUs and memory: without, it takes no process.
func (hier *hierarchy) inherit(dir string) error {
	if hier.v2 || !slices.Contains(hier.controllers, "cpuset") {
		return nil
	}
	for _, file := range []string{"/cpuset.cpus", "/cpuset.mems"} {
		if own, err := os.ReadFile(dir + file); err == nil && strings.TrimSpace(string(own)) != "" {
			continue
		}
		all, err := os.ReadFile(parent(dir) + file)
		if err == nil {
			err = os.WriteFile(dir+file, all, 0)
		}
		if err != nil {
			return fmt.Errorf("making a cpuset: %w", err)
		}
	}
	return nil
}

// Hold keeps Tidy, in this process and in those of other agents on the host, from
// removing what all groups share, until release is called: while a group is made and
// joined. It locks the first hierarchy's own directory, so it leaves no file.
func (h *Host) Hold() (release func()) {
	unlock, _ := h.flock(unix.LOCK_SH)
	return unlock
}

// flock locks the hierarchies among processes; false: somebody else has it (LOCK_NB).
// Where the kernel cannot, nothing is locked.
func (h *Host) flock(how int) (unlock func(), ok bool) {
	if len(h.hierarchies) == 0 {
		return func() {}, true
	}
	dir, err := os.Open(h.hierarchies[0].mount)
	if err != nil {
		return func() {}, true
	}
	for err = unix.Flock(int(dir.Fd()), how); errors.Is(err, unix.EINTR); {
		err = unix.Flock(int(dir.Fd()), how)
	}
	return func() { _ = dir.Close() }, !errors.Is(err, unix.EWOULDBLOCK)
}

// Tidy removes the named groups and the parent where they are empty, so that a host on
// which nothing runs any more is as it was; not while somebody holds them.
func (h *Host) Tidy(names ...string) {
	unlock, ok := h.flock(unix.LOCK_EX | unix.LOCK_NB)
	defer unlock()
	if !ok {
		return
	}
	for i := range h.hierarchies {
		for _, name := range names {
			_ = os.Remove(h.Group(name).dir(&h.hierarchies[i]))
		}
		_ = os.Remove(h.hierarchies[i].mount + "/" + h.parent)
	}
}

// Destroy kills and removes everything under the parent, and the parent: for tests and
// for an agent that leaves a host for good.
func (h *Host) Destroy() error {
	var errs []error
	for i := range h.hierarchies {
		errs = append(errs, remove(h.hierarchies[i].mount+"/"+h.parent))
	}
	return errors.Join(errs...)
}
