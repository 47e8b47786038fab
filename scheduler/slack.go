package scheduler

import (
	"fmt"
	"slices"

	"google.golang.org/protobuf/proto"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/topology"
)

// slack is a group that asks for a little less, to find out what is in the way where
// enough of everything is free on a node.
type slack struct {
	group *Group
	// check and detail are what a node fails that this would fit on; both empty: as without.
	check, detail string
	// words are what to write instead.
	words string
	nodes int // that it would fit on
	fits  int // instances that would fit there, up to those that are left
}

// loosen finds the least change of the group's topology that would do on a node.
func (e *explainer) loosen(slot int32, name, detail string, short []*berthv1.Shortfall) (string, string, []*berthv1.Shortfall) {
	if e.slack == nil {
		e.slack = e.run.g.slackened()
	}
	u := e.run.f.nodes[slot].usage
	for _, s := range e.slack {
		n := e.run.f.fitting(u, s.group, e.run.ask.wanted()-e.run.got-s.fits)
		if n == 0 {
			continue
		}
		s.nodes++
		s.fits += n
		if s.check != "" && name == "topology" {
			name, detail = s.check, s.detail
			short = append(short, &berthv1.Shortfall{Resource: s.check, Cell: topology.NodeWide, Text: detail})
		}
		break
	}
	return name, detail, short
}

// fitting is how many instances of a group fit on what is left of a node, up to most but
// at least looking for one.
func (f *Fleet) fitting(u *topology.Usage, g *Group, most int) (n int) {
	var grants []topology.Grant
	for n < max(most, 1) {
		choice, ok := f.scratch.fit.fit(u, g)
		if !ok {
			break
		}
		grants = append(grants, choice.grant.Clone())
		n++
	}
	for i := range grants {
		u.Remove(&grants[i])
	}
	return n
}

// slackened are the remedies: what to write instead, and how many that would place.
func (e *explainer) slackened() (out []string) {
	for _, s := range e.slack {
		if s.nodes == 0 {
			continue
		}
		left := e.run.ask.wanted() - e.run.got
		switch {
		case s.fits >= left && left > 1:
			out = append(out, fmt.Sprintf("%s would place all %d", s.words, e.run.ask.wanted()))
		default:
			out = append(out, fmt.Sprintf("%s would place %d more, on %s", s.words, s.fits, plural(uint64(s.nodes), "node")))
		}
	}
	return out
}

// slackened gives the group with less asked of its topology, the least change first.
func (g *Group) slackened() []*slack {
	var out []*slack
	add := func(check, detail, words string, change func(*berthv1.Group) bool) {
		spec := proto.Clone(g.spec).(*berthv1.Group)
		if !change(spec) {
			return
		}
		if compiled, err := Compile(g.job, spec); err == nil {
			out = append(out, &slack{group: compiled, check: check, detail: detail, words: words})
		}
	}
	devices := func(spec *berthv1.Group, change func(*berthv1.DeviceAsk) bool) (any bool) {
		for _, t := range spec.GetTasks() {
			for _, d := range t.GetResources().GetDevices() {
				any = change(d) || any
			}
		}
		return any
	}
	add("link", "devices free, but not linked", "devices without link", func(spec *berthv1.Group) bool {
		return devices(spec, func(d *berthv1.DeviceAsk) bool { had := d.GetLink() != ""; d.Link = ""; return had })
	})
	add("near", "devices free, but not near each other", "devices without near", func(spec *berthv1.Group) bool {
		return devices(spec, func(d *berthv1.DeviceAsk) bool { had := d.GetNear() != ""; d.Near, d.Within = "", ""; return had })
	})
	for _, name := range g.spec.GetTopology().GetAlign() {
		if name != "nic" && name != "gpu" && name != "hugepages" {
			continue
		}
		add("", "", fmt.Sprintf("align without %q", name), func(spec *berthv1.Group) bool {
			spec.Topology.Align = slices.DeleteFunc(spec.GetTopology().GetAlign(), func(a string) bool { return a == name })
			return g.policy != anywhere && len(spec.Topology.Align) > 0
		})
	}
	add("", "", "topology policy none", func(spec *berthv1.Group) bool {
		if spec.Topology == nil || g.policy == anywhere && spec.GetTopology().GetCells() == 0 {
			return false
		}
		spec.Topology.Policy, spec.Topology.Cells = "none", 0
		return true
	})
	return out
}
