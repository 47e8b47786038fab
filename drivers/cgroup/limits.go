package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
)

// Limits is what a group may use. Zero values leave the kernel's default, which is no
// limit, but for hugepages.
type Limits struct {
	// CPUMilli is its share of the CPUs against others, in thousandths of a core.
	CPUMilli uint64
	// CPUHard makes that a ceiling as well.
	CPUHard bool
	// CPUs and Mems are the CPUs and NUMA nodes that it may use, in list format.
	CPUs, Mems string
	// MemoryBytes is what it may have before the kernel kills; none of it is swapped.
	MemoryBytes uint64
	PIDs        uint64
	// IOWeight is 1 to 10000; 100 is the default of the kernel.
	IOWeight uint64
	// Hugepages are bytes by size in KiB. Sizes that are not in it are refused.
	Hugepages map[uint64]uint64
}

// Set applies the limits to a group that exists, before or while processes are in it.
func (g *Group) Set(l Limits) error {
	s := &setter{g: g}
	s.cpu(l)
	s.write("cpuset", "cpuset.mems", "cpuset.mems", l.Mems)
	s.write("cpuset", "cpuset.cpus", "cpuset.cpus", l.CPUs)
	s.memory(l)
	if l.PIDs > 0 {
		s.write("pids", "pids.max", "pids.max", number(l.PIDs))
	}
	s.io(l.IOWeight)
	s.hugepages(l.Hugepages)
	return s.err
}

// setter writes limits until one is refused.
type setter struct {
	g   *Group
	err error
}

// write writes a value to a controller's file under its name in v1 or v2. Without the
// controller or the file it does nothing, and without a value too.
func (s *setter) write(controller, v1, v2, value string) bool {
	file, isV2 := s.g.file(controller, v1, v2)
	if isV2 && v2 == "" || !isV2 && v1 == "" || file == "" {
		return false
	}
	return s.put(file, value)
}

func (s *setter) put(file, value string) bool {
	if s.err != nil || value == "" {
		return false
	}
	err := os.WriteFile(file, []byte(value), 0)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) && !exists(file) {
		return false
	}
	if err != nil {
		s.err = fmt.Errorf("the kernel refuses %s = %s: %w", file[len(parent(file))+1:], value, errors.Unwrap(err))
		return false
	}
	return true
}

func exists(file string) bool { _, err := os.Stat(file); return err == nil }

func (s *setter) cpu(l Limits) {
	if l.CPUMilli == 0 {
		return
	}
	file, v2 := s.g.file("cpu", "cpu.shares", "cpu.weight")
	if file == "" {
		return
	}
	const period = 100_000 // microseconds
	quota, unlimited := number(l.CPUMilli*period/1000), !l.CPUHard
	if v2 {
		s.put(file, number(clamp(l.CPUMilli/10, 1, 10_000)))
		if unlimited {
			quota = "max"
		}
		s.put(parent(file)+"/cpu.max", quota+" "+number(period))
		return
	}
	s.put(file, number(clamp(l.CPUMilli*1024/1000, 2, 262_144)))
	if unlimited {
		quota = "-1"
	}
	s.put(parent(file)+"/cpu.cfs_quota_us", quota)
}

func (s *setter) memory(l Limits) {
	if l.MemoryBytes == 0 {
		return
	}
	limit := number(l.MemoryBytes)
	file, v2 := s.g.file("memory", "memory.limit_in_bytes", "memory.max")
	if file == "" {
		return
	}
	if v2 {
		s.put(file, limit)
		s.put(parent(file)+"/memory.swap.max", "0")
		return
	}
	// Memory with swap may never be less than memory: which one goes first depends on
	// whether the limit rises or falls.
	swap := parent(file) + "/memory.memsw.limit_in_bytes"
	if now, err := readNumber(swap); err == nil && now < l.MemoryBytes {
		s.put(swap, limit)
	}
	s.put(file, limit)
	s.put(swap, limit)
}

func (s *setter) io(weight uint64) {
	if weight == 0 {
		return
	}
	w := clamp(weight, 1, 10_000)
	file, v2 := s.g.file("io", "blkio.weight", "io.weight")
	switch {
	case file == "":
	case v2:
		if !s.put(file, "default "+number(w)) {
			s.put(parent(file)+"/io.bfq.weight", number(clamp(w, 1, 1000)))
		}
	default:
		if !s.put(file, number(clamp(w, 10, 1000))) {
			s.put(parent(file)+"/blkio.bfq.weight", number(clamp(w, 1, 1000)))
		}
	}
}

// hugepages sets the limit of every size that the host has.
func (s *setter) hugepages(granted map[uint64]uint64) {
	sizes, _ := os.ReadDir("/sys/kernel/mm/hugepages")
	for _, size := range sizes {
		kib, err := strconv.ParseUint(strings.TrimSuffix(strings.TrimPrefix(size.Name(), "hugepages-"), "kB"), 10, 64)
		if err != nil {
			continue
		}
		name := "hugetlb." + sizeName(kib)
		s.write("hugetlb", name+".limit_in_bytes", name+".max", number(granted[kib]))
	}
}

// sizeName is a page's size as the hugetlb controller writes it: "2MB", "1GB", "64KB".
func sizeName(kib uint64) string {
	switch {
	case kib >= 1<<20:
		return number(kib>>20) + "GB"
	case kib >= 1<<10:
		return number(kib>>10) + "MB"
	}
	return number(kib) + "KB"
}

func clamp(v, low, high uint64) uint64 { return min(max(v, low), high) }

func number(n uint64) string { return strconv.FormatUint(n, 10) }
