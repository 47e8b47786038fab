package jobspec

import (
	"fmt"
	"slices"
	"strings"

	"github.com/berthd/berth/jobspec/internal/schema"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// Rules about where a job may go: architectures by weight, gangs, taints, reservations,
// whole nodes, what may be taken away, and how devices lie to each other.

// archAliases are other spellings of architectures.
var archAliases = schema.Of((&berthv1.Job{}).ProtoReflect().Descriptor()).Lookup("arch").Aliases

// archOf is an architecture as it is kept.
func archOf(arch string) string {
	if kept, ok := archAliases[arch]; ok {
		return kept
	}
	return arch
}

// arch says whether it is one, and complains where it is not.
func (c *checker) arch(arch, what, path string) bool {
	known := arch == "" || slices.Contains(architectures, archOf(arch))
	if !known {
		c.add(path, didYouMean(arch, architectures), "%s %q, which is no architecture", what, clip(arch))
	}
	return known
}

// placement checks what a job says of its placement as a whole.
func (c *checker) placement(job *berthv1.Job) {
	c.name(job.GetReservation(), "reservation", "reservation")
	c.name(job.GetScheduler(), "scheduler", "scheduler")
	c.tolerations(job.GetTolerations(), "")
	c.archWeights(job)
	if everyNode(job.GetType()) && job.GetGang() {
		c.add("gang", fmt.Sprintf("a %s job runs once on every node that fits", job.GetType()), "a %s job cannot be a gang", job.GetType())
	}
}

func (c *checker) archWeights(job *berthv1.Job) {
	weights := job.GetArchWeights()
	if len(weights) == 0 {
		return
	}
	if everyNode(job.GetType()) {
		c.add("arch_weights", fmt.Sprintf("a %s job runs once on every node that fits", job.GetType()), "a %s job takes no arch_weight", job.GetType())
	}
	allowed := make([]string, 0, len(job.GetArch()))
	for _, a := range job.GetArch() {
		allowed = append(allowed, archOf(a))
	}
	spelled := map[string]string{}
	keys := elementKeysOf(job, "arch_weights")
	for i, w := range weights {
		at, arch := "arch_weights["+keys[i]+"].arch", archOf(w.GetArch())
		if !c.arch(w.GetArch(), "arch_weight has", at) {
			continue
		}
		if len(allowed) > 0 && !slices.Contains(allowed, arch) {
			c.add(at, fmt.Sprintf("arch is %s: add %q to it, or leave the weight out", strings.Join(allowed, ", "), arch),
				"a weight for %q, which arch does not allow", clip(w.GetArch()))
		}
		if other := spelled[arch]; other != "" && other != w.GetArch() { // the same word twice was said already
			c.add(at, "leave one of them out", "%q and %q are one architecture", other, w.GetArch())
		}
		spelled[arch] = w.GetArch()
	}
	for i, s := range job.GetSpreads() {
		c.spreadOverArch(s, fmt.Sprintf("spreads[%d]", i))
	}
	groups := elementKeysOf(job, "groups")
	for i, g := range job.GetGroups() {
		for k, s := range g.GetSpreads() {
			c.spreadOverArch(s, fmt.Sprintf("groups[%s].spreads[%d]", groups[i], k))
		}
	}
}

func (c *checker) spreadOverArch(s *berthv1.Spread, path string) {
	if s.GetAttribute() == "node.arch" {
		c.add(path+".attribute", "leave the spread or the weights out", "arch_weight spreads over node.arch already")
	}
}

func (c *checker) tolerations(list []*berthv1.Toleration, path string) {
	for i, t := range list {
		at := join(path, fmt.Sprintf("tolerations[%d]", i))
		switch {
		case t.GetOperator() == "exists" && t.GetValue() != "":
			c.add(at+".value", `leave the value out, or write operator = "="`, "a toleration with operator exists takes no value")
		case t.GetOperator() != "exists" && t.GetKey() == "":
			c.add(at, `name the taint's key; operator = "exists" without a key tolerates every taint`, "the toleration has no key")
		}
		if strings.Contains(t.GetKey(), "=") {
			key, value, _ := strings.Cut(t.GetKey(), "=")
			c.add(at+".key", fmt.Sprintf("write key = %q and value = %q", clip(key), clip(value)), "the key of a taint holds no =")
		}
	}
}

// groupPlacement checks what a group says of its placement.
func (c *checker) groupPlacement(g *berthv1.Group, path string) {
	c.tolerations(g.GetTolerations(), path)
	if d := g.GetDisruption(); d != nil {
		c.share(d.GetMaxUnavailable(), "max_unavailable", path+".disruption.max_unavailable")
	}
	if g.GetTopology().GetCells() > 0 {
		c.cells(g, path)
	}
}

// cells checks that what is asked for can be divided over so many cells.
func (c *checker) cells(g *berthv1.Group, path string) {
	t, n := g.GetTopology(), uint64(g.GetTopology().GetCells())
	at := path + ".topology.cells"
	if p := t.GetPolicy(); n > 1 && (p == "single" || p == "single-numa-node" || p == "require") {
		c.add(at, `leave cells out, or write policy = "restricted"`, "the policy %s puts all into one cell, not into %d", p, n)
	}
	align := t.GetAlign()
	if len(align) == 0 {
		align = []string{"cpu", "memory"}
	}
	divided := func(resource, what string, count uint64) {
		if slices.Contains(align, resource) && count%n != 0 {
			c.add(at, fmt.Sprintf("ask for a multiple of %d, or for other cells", n), "%d %s cannot be divided evenly over %d cells", count, what, n)
		}
	}
	cores, pages, devices := uint64(0), map[string]uint64{}, map[string]uint64{}
	for _, task := range g.GetTasks() {
		r := task.GetResources()
		cores += uint64(r.GetCores())
		for _, h := range r.GetHugepages() {
			pages[fmt.Sprintf("hugepages of %d KiB", h.GetSizeKib())] += h.GetCount()
		}
		for _, d := range r.GetDevices() {
			devices[d.GetKind()] += uint64(max(d.GetCount(), 1))
		}
	}
	divided("cpu", "cores", cores)
	for _, size := range sortedKeys(pages) {
		divided("hugepages", size, pages[size])
	}
	divided("gpu", `devices "gpu"`, devices["gpu"])
	divided("nic", `devices "vf"`, devices["vf"])
}

// nearness checks how a task's devices lie to each other.
func (c *checker) nearness(r *berthv1.Resources, d *berthv1.DeviceAsk, path string) {
	near := d.GetNear()
	c.name(near, "near", path+".near")
	if near == "" {
		if w := d.GetWithin(); w != "" && w != "pcie" {
			c.add(path+".within", `name what it is to be close to: near = "gpu"`, "within says how close near is, and there is no near")
		}
		return
	}
	var others []string
	for _, o := range r.GetDevices() {
		if o != d {
			others = append(others, o.GetKind())
		}
	}
	switch {
	case near == d.GetKind():
		c.add(path+".near", `link keeps devices of one kind together: link = "pcie"`, "device %q is to be near devices of its own kind", clip(near))
	case !slices.Contains(others, near):
		remedy := didYouMean(near, others)
		if remedy == "" {
			remedy = fmt.Sprintf("ask for a device %q too", clip(near))
		}
		c.add(path+".near", remedy, "the task has no device %q to be near", clip(near))
	}
}
