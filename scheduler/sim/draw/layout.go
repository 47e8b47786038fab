package draw

import (
	"cmp"
	"fmt"
	"slices"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// layout puts the nodes on shelves: side by side while there is room, then below. Nodes
// come by name, numbers in names by their value.
func (p *painter) layout() (boxes []box, width, height int) {
	nodes := slices.Clone(p.f.Nodes)
	slices.SortStableFunc(nodes, func(a, b Node) int {
		return cmp.Or(compareNames(a.GetName(), b.GetName()), cmp.Compare(a.GetId(), b.GetId()))
	})
	margin := 2 * p.size.gap
	x, y, shelf, right := margin, margin, 0, p.size.width
	for i := range nodes {
		first := len(p.boxes)
		w, h := p.node(&nodes[i])
		if x > margin && x+w+margin > p.size.width {
			x, y, shelf = margin, y+shelf+margin, 0
		}
		for k := first; k < len(p.boxes); k++ {
			p.boxes[k].x += x
			p.boxes[k].y += y
		}
		x, shelf, right = x+w+margin, max(shelf, h), max(right, x+w+margin)
	}
	return p.boxes, right, y + shelf + margin
}

// compareNames orders n2 before n10.
func compareNames(a, b string) int {
	digits := func(s string) (string, string) {
		i := len(s)
		for i > 0 && s[i-1] >= '0' && s[i-1] <= '9' {
			i--
		}
		return s[:i], s[i:]
	}
	aText, aNumber := digits(a)
	bText, bNumber := digits(b)
	return cmp.Or(cmp.Compare(aText, bText), cmp.Compare(len(aNumber), len(bNumber)), cmp.Compare(aNumber, bNumber))
}

// perRow is how many cores stand side by side.
const perRow = 16

// inner is the width of what a cell shows.
func (p *painter) inner() int { return perRow * p.size.core }

// line is the height of a line of text.
func (p *painter) line() int { return p.size.text + p.size.gap }

// node lays a node out at 0, 0: a frame, its name, its cells two abreast, and the
// devices that are attached to none.
func (p *painter) node(n *Node) (width, height int) {
	frame := len(p.boxes)
	p.boxes = append(p.boxes, box{}) // filled in at the end
	pad := p.size.gap
	allocs := p.on[n.GetId()]
	hold := holdings(n.GetHardware(), allocs)
	cells := hold.cells
	columns := min(max(len(cells), 1), 2)
	width = columns*p.inner() + (columns+1)*pad
	p.boxes = append(p.boxes, box{pad, pad, width - 2*pad, p.line(), "name", n.title(len(allocs)), n.GetName()})
	y := pad + p.line()
	for i := 0; i < len(cells); i += columns {
		tallest := 0
		for k := i; k < min(i+columns, len(cells)); k++ {
			first := len(p.boxes)
			h := p.cell(&cells[k])
			for b := first; b < len(p.boxes); b++ {
				p.boxes[b].x += pad + (k-i)*(p.inner()+pad)
				p.boxes[b].y += y
			}
			tallest = max(tallest, h)
		}
		y += tallest + pad
	}
	if len(hold.loose) > 0 {
		y += p.devices(hold.loose, pad, y, width-2*pad) + pad
	}
	class := [...]string{"node", "node new", "node old"}[n.Mark]
	p.boxes[frame] = box{0, 0, width, y, class, "", ""}
	return width, y
}

func (n *Node) title(allocs int) string {
	mark := [...]string{"", ", new", ", leaving"}[n.Mark]
	words := fmt.Sprintf("%s%s: %s, %s", n.GetName(), mark, n.GetStatus(), n.GetArch())
	if n.GetEligibility() != berthv1.Node_eligible {
		words += ", not eligible"
	}
	return fmt.Sprintf("%s, %d allocations", words, allocs)
}

// cell lays a cell out at 0, 0 and gives its height.
func (p *painter) cell(c *cellHolding) int {
	y := 0
	if p.size.labels {
		p.boxes = append(p.boxes, box{0, 0, p.inner(), p.line(), "label", "", fmt.Sprintf("cell %d", c.id)})
		y += p.line()
	}
	y += p.cores(c, y)
	for _, b := range c.bars {
		y += p.bar(&b, y) + max(p.size.gap/2, 1)
	}
	if len(c.devices) > 0 {
		y += p.devices(c.devices, 0, y, p.inner())
	}
	return y
}

// cores lays out a square a core; one whose threads have different holders is divided.
func (p *painter) cores(c *cellHolding, y int) int {
	s := p.size.core
	side := max(s-1, 1)
	for i, threads := range c.cores {
		x, top := i%perRow*s, y+i/perRow*s
		if same(threads) || side < len(threads) {
			p.boxes = append(p.boxes, p.part(box{x: x, y: top, w: side, h: side}, c, threads[0]))
			continue
		}
		for k, t := range threads {
			from, to := k*side/len(threads), (k+1)*side/len(threads)
			p.boxes = append(p.boxes, p.part(box{x: x + from, y: top, w: to - from, h: side}, c, t))
		}
	}
	return (len(c.cores)+perRow-1)/perRow*s + max(p.size.gap/2, 1)
}

func same(threads []thread) bool {
	for _, t := range threads {
		if t != threads[0] {
			return false
		}
	}
	return true
}

// part colours a core, or a part of one.
func (p *painter) part(b box, c *cellHolding, t thread) box {
	switch {
	case t.holder != nil:
		b.class, b.title = p.class(t.holder), p.describe(t.holder, fmt.Sprintf("CPUs %s of cell %d", c.cpusOf(t.holder), c.id))
	case t.reserved:
		b.class, b.title = "reserved", fmt.Sprintf("cell %d: reserved CPUs", c.id)
	default:
		b.class, b.title = "free", fmt.Sprintf("cell %d: %d of %d CPUs not pinned by anyone", c.id, c.freeCPUs, c.cpus)
	}
	return b
}

// bar lays out who holds how much of something, over the cell's width.
func (p *painter) bar(b *bar, y int) int {
	h := max(p.size.core*2/3, 2)
	at := uint64(0)
	x := 0
	for _, part := range b.parts {
		at += part.amount
		to := min(int(float64(at)/float64(max(b.all, 1))*float64(p.inner())), p.inner())
		if to > x {
			p.boxes = append(p.boxes, box{x, y, to - x, h, p.class(part.holder), p.describe(part.holder, b.words(part.amount)), ""})
			x = to
		}
	}
	if x < p.inner() {
		p.boxes = append(p.boxes, box{x, y, p.inner() - x, h, "free", fmt.Sprintf("%s free of %s", b.words(b.all-min(at, b.all)), b.words(b.all)), ""})
	}
	return h
}

// devices lays out a square a device, as many in a row as there is room for.
func (p *painter) devices(list []deviceHolding, x, y, width int) int {
	side := 2 * p.size.core
	gap := max(p.size.gap/2, 1)
	row := max(width/(side+gap), 1)
	for i := range list {
		d := &list[i]
		left, top := x+i%row*(side+gap), y+i/row*(side+gap)
		at, from := uint32(0), 0
		for _, part := range d.parts {
			at += uint32(part.amount)
			to := min(int(at)*side/1000, side)
			if to > from {
				p.boxes = append(p.boxes, box{left + from, top, to - from, side, p.class(part.holder), p.describe(part.holder, d.words(part.amount)), ""})
				from = to
			}
		}
		if from < side {
			class, state := "free", "free"
			if !d.healthy {
				class, state = "reserved", "not healthy"
			} else if from > 0 {
				state = fmt.Sprintf("%d of 1000 free", 1000-at)
			}
			p.boxes = append(p.boxes, box{left + from, top, side - from, side, class + " device", fmt.Sprintf("%s: %s", d.name, state), ""})
		}
	}
	return (len(list) + row - 1) / row * (side + gap)
}
