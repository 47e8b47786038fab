package replay

// scored places by a rule. Scores are kept, by shape and node, until something is placed
// on the node: a placement changes one node.
type scored struct {
	c      *cluster
	shapes []shape
	rule   rule
	known  [][]entry // by shape, then node
}

// entry is a score as of a version of its node.
type entry struct {
	version int32 // plus 1; 0: never looked at
	score   int32 // below 0: does not fit
	gpu     int32
}

func newScored(c *cluster, shapes []shape, r rule) *scored {
	return &scored{c: c, shapes: shapes, rule: r, known: make([][]entry, len(shapes))}
}

func (p *scored) offer(at int) (grant, bool) {
	s := &p.shapes[at]
	if p.known[at] == nil {
		p.known[at] = make([]entry, len(p.c.nodes))
	}
	best := int32(-1)
	var chosen int
	for i := range p.known[at] {
		e, n := &p.known[at][i], &p.c.nodes[i]
		if e.version != n.version+1 {
			e.version, e.score = n.version+1, -1
			if n.fits(s) {
				score, gpu := p.rule.score(n, s)
				e.score, e.gpu = int32(score), int32(gpu)
			}
		}
		if e.score > best {
			best, chosen = e.score, i
		}
	}
	if best < 0 {
		return grant{}, false
	}
	n, gpu := &p.c.nodes[chosen], int(p.known[at][chosen].gpu)
	if gpu < 0 && s.shared() {
		gpu = n.tightest(s.milli)
	}
	g := grant{p.c.order[chosen], n.choose(s, gpu)}
	n.place(s, g.gpus)
	return g, true
}

// random takes any node that fits, and any GPU there.
type random struct {
	c      *cluster
	shapes []shape
	intn   func(n int) int
	fit    []int
}

func (p *random) offer(at int) (grant, bool) {
	s := &p.shapes[at]
	p.fit = p.fit[:0]
	for i := range p.c.nodes {
		if p.c.nodes[i].fits(s) {
			p.fit = append(p.fit, i)
		}
	}
	if len(p.fit) == 0 {
		return grant{}, false
	}
	chosen := p.fit[p.intn(len(p.fit))]
	n, gpu := &p.c.nodes[chosen], -1
	if s.shared() {
		p.fit = p.fit[:0]
		for i, left := range n.left {
			if int(left) >= s.milli {
				p.fit = append(p.fit, i)
			}
		}
		gpu = p.fit[p.intn(len(p.fit))]
	}
	g := grant{p.c.order[chosen], n.choose(s, gpu)}
	n.place(s, g.gpus)
	return g, true
}
