package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Group is a named group of processes; a value that does no I/O until it is asked to.
type Group struct {
	host *Host
	name string
}

// Group gives the group of that name, whether or not it exists.
func (h *Host) Group(name string) *Group { return &Group{host: h, name: escape(name)} }

// escape makes one file name of any words, different ones of different words.
func escape(name string) string {
	var b strings.Builder
	for _, c := range []byte(name) {
		switch {
		case c == '/':
			b.WriteByte('.')
		case c == '-' || c == '_' || '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z':
			b.WriteByte(c)
		default:
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

func (g *Group) dir(hier *hierarchy) string {
	return hier.mount + "/" + g.host.parent + "/" + g.name
}

// file gives the path of a controller's file in the group and whether that is v2's;
// "" when the kernel has no such controller.
func (g *Group) file(controller, v1, v2 string) (string, bool) {
	hier := g.host.find(controller)
	if hier == nil {
		return "", false
	}
	if hier.v2 {
		return g.dir(hier) + "/" + v2, true
	}
	return g.dir(hier) + "/" + v1, false
}

// Make makes the group, and its parent where that is missing; what exists is left as it is.
func (g *Group) Make() error {
	for i := range g.host.hierarchies {
		hier := &g.host.hierarchies[i]
		err := os.Mkdir(g.dir(hier), 0o755)
		if errors.Is(err, fs.ErrNotExist) {
			if err := g.host.makeParent(); err != nil {
				return err
			}
			err = os.Mkdir(g.dir(hier), 0o755)
		}
		if errors.Is(err, fs.ErrExist) {
			continue
		} else if err != nil {
			return fmt.Errorf("making a cgroup: %w", err)
		}
		if err := hier.inherit(g.dir(hier)); err != nil {
			return err
		}
	}
	return nil
}

// Procs gives the files by which a process that writes "0" joins the group.
func (g *Group) Procs() []string {
	var files []string
	for i := range g.host.hierarchies {
		files = append(files, g.dir(&g.host.hierarchies[i])+"/cgroup.procs")
	}
	return files
}

// Killer gives what kills the group's processes.
func (g *Group) Killer() Killer {
	var k Killer
	for i := range g.host.hierarchies {
		hier := &g.host.hierarchies[i]
		if hier.v2 {
			k.KillFile = g.dir(hier) + "/cgroup.kill"
		} else if slices.Contains(hier.controllers, "freezer") {
			k.FreezeFile = g.dir(hier) + "/freezer.state"
		}
	}
	k.Procs = g.Procs()[0]
	return k
}

// OOMFile gives the file for OOMKills; "" without a memory controller.
func (g *Group) OOMFile() string {
	file, _ := g.file("memory", "memory.oom_control", "memory.events")
	return file
}

// Remove kills what is in the group and removes it. One that is not there is no error.
func (g *Group) Remove() error {
	k := g.Killer()
	if err := k.Kill(); err != nil {
		return err
	}
	var errs []error
	for i := range g.host.hierarchies {
		errs = append(errs, remove(g.dir(&g.host.hierarchies[i])))
	}
	return errors.Join(errs...)
}

// remove removes a group and those below it. Processes that are dying keep a group busy
// for a moment.
func remove(dir string) error {
	if entries, err := os.ReadDir(dir); err == nil {
		for _, e := range entries {
			if e.IsDir() {
				if err := remove(dir + "/" + e.Name()); err != nil {
					return err
				}
			}
		}
	}
	for wait := time.Millisecond; ; wait *= 2 {
		err := syscall.Rmdir(dir)
		if err == nil || errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if !errors.Is(err, syscall.EBUSY) || wait > time.Second {
			return fmt.Errorf("removing cgroup %s: %w", dir, err)
		}
		if pids, _ := readPIDs(dir + "/cgroup.procs"); len(pids) > 0 {
			_ = kill(dir+"/cgroup.procs", "")
		}
		time.Sleep(wait)
	}
}

// Exists says whether any of the group is there.
func (g *Group) Exists() bool {
	for i := range g.host.hierarchies {
		if _, err := os.Stat(g.dir(&g.host.hierarchies[i])); err == nil {
			return true
		}
	}
	return false
}

// Stats is what a group uses now.
type Stats struct {
	CPUTime     time.Duration
	MemoryBytes uint64 // without page cache that can go
	PIDs        uint64
}

// Stats reads them; what the kernel does not count is 0.
func (g *Group) Stats() (*Stats, error) {
	pids, err := readPIDs(g.Procs()[0])
	if err != nil {
		return nil, fmt.Errorf("reading a cgroup's processes: %w", err)
	}
	s := &Stats{PIDs: uint64(len(pids)), CPUTime: g.cpuTime()}
	if file, _ := g.file("pids", "pids.current", "pids.current"); file != "" {
		if n, err := readNumber(file); err == nil {
			s.PIDs = n
		}
	}
	if file, v2 := g.file("memory", "memory.usage_in_bytes", "memory.current"); file != "" {
		used, err := readNumber(file)
		if err != nil {
			return nil, err
		}
		stat, _ := os.ReadFile(parent(file) + "/memory.stat")
		key := "total_inactive_file"
		if v2 {
			key = "inactive_file"
		}
		cache, _ := strconv.ParseUint(keyed(string(stat), key), 10, 64)
		s.MemoryBytes = used - min(used, cache)
	}
	return s, nil
}

func (g *Group) cpuTime() time.Duration {
	for i := range g.host.hierarchies {
		hier := &g.host.hierarchies[i]
		if hier.v2 {
			// Counted on the unified hierarchy whatever controllers it has.
			b, err := os.ReadFile(g.dir(hier) + "/cpu.stat")
			if us, perr := strconv.ParseInt(keyed(string(b), "usage_usec"), 10, 64); err == nil && perr == nil {
				return time.Duration(us) * time.Microsecond
			}
		} else if slices.Contains(hier.controllers, "cpuacct") {
			if ns, err := readNumber(g.dir(hier) + "/cpuacct.usage"); err == nil {
				return time.Duration(ns)
			}
		}
	}
	return 0
}

func readNumber(file string) (uint64, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	return strconv.ParseUint(strings.TrimSpace(string(b)), 10, 64)
}
