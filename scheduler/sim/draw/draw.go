// Package draw makes a picture of a fleet: every node's cells with their cores, shared
// CPU, memory, hugepages and devices, coloured by who holds what. State in, SVG out: it is
// pure, and the same state gives the same bytes. The SVG has no scripts and no outside
// references; what things are stands in titles, which browsers show on hover, and its
// colours follow the reader's light or dark background. Its caller is `berth sim whatif`.
package draw

import (
	"cmp"
	"fmt"
	"slices"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// Fleet is what is drawn.
type Fleet struct {
	// Title is above the picture.
	Title string
	Nodes []Node
	// Allocs are what holds grants; those on nodes that are not drawn are left out.
	Allocs []Alloc
	// ByPriority colours by priority instead of by job.
	ByPriority bool
}

// Node is a node, and what is the matter with it.
type Node struct {
	*berthv1.Node
	Mark Mark
}

// Mark says what is changed about a node or an allocation.
type Mark uint8

// Marks; an unmarked one stays as it is.
const (
	Unmarked Mark = iota
	Added         // is not there yet
	Leaving       // is to go, or to be emptied
)

// Alloc is an allocation in the picture.
type Alloc struct {
	*berthv1.Alloc
	Priority uint32
	Mark     Mark
}

// name is how people see an allocation.
func (a *Alloc) name() string {
	return fmt.Sprintf("%s.%s[%d]", a.GetJob(), a.GetGroup(), a.GetIndex())
}

// SVG draws the fleet.
func SVG(f *Fleet) []byte {
	p := newPainter(f)
	boxes, width, height := p.layout()
	return render(f, p.legend(), boxes, width, height)
}

// box is a rectangle of the picture, in whole pixels. Boxes that share all but their
// place become one path.
type box struct {
	x, y, w, h int
	class      string // of the style sheet
	title      string
	text       string // written in it, from the left; the box has no colour then
}

// painter lays the fleet out.
type painter struct {
	f      *Fleet
	on     map[string][]*Alloc // by node id, in a stable order
	colour map[string]int      // by job
	size   size
	boxes  []box
}

// size is how large things are; it depends on how many nodes there are.
type size struct {
	core   int // side of a core's square
	gap    int // between parts
	text   int // font size
	labels bool
	width  int // of the whole picture, at least
}

// Sizes by how many nodes a picture has.
func sizeFor(nodes int) size {
	switch {
	case nodes <= 8:
		return size{core: 11, gap: 4, text: 12, labels: true, width: 1000}
	case nodes <= 40:
		return size{core: 7, gap: 3, text: 11, width: 1200}
	case nodes <= 400:
		return size{core: 4, gap: 2, text: 9, width: 1600}
	}
	return size{core: 2, gap: 1, text: 6, width: 2400}
}

// colours is how many the style sheet has for jobs.
const colours = 12

func newPainter(f *Fleet) *painter {
	p := &painter{f: f, on: map[string][]*Alloc{}, colour: map[string]int{}, size: sizeFor(len(f.Nodes))}
	var jobs []string
	for i := range f.Allocs {
		a := &f.Allocs[i]
		p.on[a.GetNodeId()] = append(p.on[a.GetNodeId()], a)
		jobs = append(jobs, a.GetNamespace()+"/"+a.GetJob())
	}
	slices.Sort(jobs)
	for i, job := range slices.Compact(jobs) {
		p.colour[job] = i % colours
	}
	for _, allocs := range p.on {
		slices.SortStableFunc(allocs, func(a, b *Alloc) int {
			return cmp.Or(cmp.Compare(b.Priority, a.Priority), cmp.Compare(a.GetNamespace(), b.GetNamespace()), cmp.Compare(a.GetJob(), b.GetJob()),
				cmp.Compare(a.GetGroup(), b.GetGroup()), cmp.Compare(a.GetIndex(), b.GetIndex()), cmp.Compare(a.GetId(), b.GetId()))
		})
	}
	return p
}

// class is the colour of what an allocation holds.
func (p *painter) class(a *Alloc) string {
	c := fmt.Sprintf("j%d", p.colour[a.GetNamespace()+"/"+a.GetJob()])
	if p.f.ByPriority {
		c = fmt.Sprintf("p%d", band(a.Priority))
	}
	switch a.Mark {
	case Added:
		return c + " new"
	case Leaving:
		return c + " old"
	}
	return c
}

// bands of priority that have a colour each: 0-24, 25-49, 50-74, from 75.
func band(priority uint32) int { return int(min(priority/25, 3)) }

func (p *painter) describe(a *Alloc, holds string) string {
	mark := map[Mark]string{Added: " (new)", Leaving: " (goes)"}[a.Mark]
	return fmt.Sprintf("%s%s, priority %d: %s", a.name(), mark, a.Priority, holds)
}

// entry is a line of the legend.
type entry struct{ class, text string }

// legend gives what the colours mean; of many jobs, those that hold most.
func (p *painter) legend() []entry {
	var out []entry
	marked := map[Mark]bool{}
	if p.f.ByPriority {
		for i, text := range []string{"priority below 25", "25 to 49", "50 to 74", "75 and more"} {
			out = append(out, entry{fmt.Sprintf("p%d", i), text})
		}
	}
	count := map[string]int{}
	for _, allocs := range p.on {
		for _, a := range allocs {
			count[a.GetNamespace()+"/"+a.GetJob()]++
			marked[a.Mark] = true
		}
	}
	if !p.f.ByPriority {
		const most = 12
		var jobs []string
		for job := range count {
			jobs = append(jobs, job)
		}
		slices.SortFunc(jobs, func(a, b string) int { return cmp.Or(cmp.Compare(count[b], count[a]), cmp.Compare(a, b)) })
		for _, job := range jobs[:min(len(jobs), most)] {
			out = append(out, entry{fmt.Sprintf("j%d", p.colour[job]), fmt.Sprintf("%s (%d)", job, count[job])})
		}
		if len(jobs) > most {
			out = append(out, entry{"", fmt.Sprintf("and %d more jobs", len(jobs)-most)})
		}
	}
	out = append(out, entry{"free", "free"}, entry{"reserved", "not granted to anyone"})
	if marked[Added] {
		out = append(out, entry{"free new", "new"})
	}
	if marked[Leaving] {
		out = append(out, entry{"free old", "goes"})
	}
	return out
}
