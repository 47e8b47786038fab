package command

import (
	"fmt"
	"strings"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// groupWords says what instances of a group are asked for: "4 of gpu (2 gpu + 8 cores +
// 80 GiB each, gang)".
func groupWords(job *berthv1.Job, g *berthv1.Group) string {
	many := fmt.Sprintf("%d of %s", groupCount(g), g.GetName())
	if job.GetType() == berthv1.Job_system || job.GetType() == berthv1.Job_sysbatch {
		many = g.GetName() + " on every node"
	}
	needs := groupNeeds(g)
	if needs == "" {
		return many
	}
	if groupCount(g) > 1 {
		needs += " each"
	}
	if g.GetGang() {
		needs += ", gang"
	}
	return fmt.Sprintf("%s (%s)", many, needs)
}

func groupCount(g *berthv1.Group) uint32 {
	if g.Count == nil {
		return 1
	}
	return g.GetCount()
}

// groupNeeds sums up what one instance asks for, scarcest first.
func groupNeeds(g *berthv1.Group) string {
	var cores, shared uint32
	var memory uint64
	devices := map[string]uint32{}
	pages := map[uint64]uint64{}
	for _, t := range g.GetTasks() {
		r := t.GetResources()
		cores, shared, memory = cores+r.GetCores(), shared+r.GetCpuMilli(), memory+t.ReservedMemoryMiB()
		for _, d := range r.GetDevices() {
			devices[d.GetKind()] += max(d.GetCount(), 1)
		}
		for _, h := range r.GetHugepages() {
			pages[h.GetSizeKib()] += h.GetCount()
		}
	}
	var parts []string
	for _, kind := range sortedKeys(devices) {
		name := kind
		if len(kind) <= 3 {
			name = strings.ToUpper(kind)
		}
		parts = append(parts, fmt.Sprintf("%d %s", devices[kind], name))
	}
	if cores > 0 {
		parts = append(parts, count(cores, "core"))
	}
	if shared > 0 {
		parts = append(parts, fmt.Sprintf("%dm CPU", shared))
	}
	for _, size := range sortedKeys(pages) {
		parts = append(parts, fmt.Sprintf("%d pages of %s", pages[size], bytesIn(size<<10)))
	}
	if memory > 0 {
		parts = append(parts, mebibytes(memory))
	}
	return strings.Join(parts, " + ")
}

// jobWords is the line that a run begins with.
func jobWords(job *berthv1.Job, version uint64) string {
	groups := make([]string, 0, len(job.GetGroups()))
	for _, g := range job.GetGroups() {
		groups = append(groups, groupWords(job, g))
	}
	return fmt.Sprintf("%s v%d: %s", job.GetName(), version, strings.Join(groups, ", "))
}
