package scheduler

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// churn is a fleet on which things come and go at random, every placement compared with
// what a full scan finds.
type churn struct {
	t     testing.TB
	rng   *rand.Rand
	w     *world
	asks  []*Ask
	alive []*berthv1.Alloc
	nodes int
	// crowds has groups be crowded as soon as they have an instance.
	crowds bool
	left   int // placements to go
	made   int
}

func newChurn(t testing.TB, seed uint64) *churn { return newChurnOf(t, seed, 2+int(seed%7)*10) }

func newChurnOf(t testing.TB, seed uint64, nodes int) *churn {
	c := &churn{t: t, nodes: nodes, rng: rand.New(rand.NewPCG(seed, 1))}
	c.w = &world{t: &testing.T{}, f: NewFleet(), nodes: map[string]*berthv1.Node{}}
	if c.rng.IntN(3) == 0 {
		c.w.f.SetStrategy(berthv1.SchedulerConfig_spread)
	}
	c.w.f.Verify(true)
	c.crowds = seed%3 == 0
	for i := range nodes {
		c.node(i)
	}
	for i := range 1 + c.rng.IntN(100) {
		o := c.shape()
		c.asks = append(c.asks, askOf(t, jobOf(t, fmt.Sprintf("job%d", i), o), o))
	}
	return c
}

func (c *churn) pick(from ...string) string { return from[c.rng.IntN(len(from))] }

func (c *churn) chance(n int) bool { return c.rng.IntN(n) == 0 }

// node makes a node, or makes it anew.
func (c *churn) node(i int) {
	o := options{"node.rack": {c.pick("a", "b", "c", "d", "e")}, "node.zone": {c.pick("x", "y")}, "disk": {c.pick("500", "5000")}}
	if c.chance(12) {
		o["status"] = []string{"down"}
	}
	if c.chance(6) {
		o["arch"] = []string{"arm64"}
	}
	c.w.node(fmt.Sprintf("n%d", i), o)
	if c.chance(10) {
		c.w.last.Taints = append(c.w.last.Taints, &berthv1.Taint{Key: "slow", Effect: berthv1.Taint_avoid})
	}
	threads := 1 + c.rng.IntN(2)
	for range 1 + c.rng.IntN(4) {
		o := options{"pages": {c.pick("0", "0", "64", "512")}}
		if c.chance(4) {
			o["reserved"] = []string{fmt.Sprint(c.w.cpu)}
		}
		c.w.cell(fmt.Sprintf("%dx%d", 1+c.rng.IntN(12), threads), c.pick("2000", "4000", "8000"), o)
	}
	if c.chance(3) {
		for g := range 1 + c.rng.IntN(4) {
			c.w.device(fmt.Sprintf("g%d", g), "gpu", options{"cell": {fmt.Sprint(g % len(c.w.last.Hardware.Cells))}, "model": {c.pick("a", "b")}, "shareable": {""}})
		}
	}
	n := c.w.last
	c.w.last = nil
	anew, err := c.w.f.UpsertNode(n)
	if err != nil {
		c.t.Fatal(err)
	}
	if anew {
		c.w.f.Regrant(n.GetId(), onNode(c.alive, n.GetId()))
	}
}

func (c *churn) shape() options {
	o := options{"mem": {fmt.Sprint(50 * (1 + c.rng.IntN(30)))}, "type": {c.pick("service", "batch")},
		"policy": {c.pick("none", "none", "single", "best-effort", "restricted")}}
	n := fmt.Sprint(1 + c.rng.IntN(4))
	switch c.rng.IntN(5) {
	case 0:
		o["cores"] = []string{n}
	case 1:
		o["threads"] = []string{n}
	default:
		o["cpu"] = []string{fmt.Sprint(100 * (1 + c.rng.IntN(40)))}
	}
	if c.chance(6) {
		o["device"] = []string{"gpu," + c.pick("1", "1", "2")}
		if c.chance(2) {
			o["share"] = []string{c.pick("250", "500")}
		}
		if c.chance(2) {
			o["model"] = []string{c.pick("a", "b")}
		}
	}
	if c.chance(8) {
		o["pages"] = []string{c.pick("8", "32")}
	}
	if c.chance(8) {
		o["port"] = []string{c.pick("8080", "8081", "0")}
	}
	if c.chance(10) {
		o["disk"] = []string{"100"}
	}
	c.wishes(o)
	return o
}

// wishes adds what a group says of nodes.
func (c *churn) wishes(o options) {
	if c.chance(3) {
		o["constraint"] = []string{c.pick("node.rack,=,a", "node.rack,!=,b", "node.zone,=,x")}
	}
	if c.chance(5) {
		o["affinity"] = []string{c.pick("node.rack,=,c,50", "node.zone,=,y,-20", "node.arch,=,arm64,100")}
	}
	switch c.rng.IntN(8) {
	case 0:
		o["spread"] = []string{c.pick("node.rack", "node.zone,x:70,y:30", "node.id")}
	case 1:
		o["distinct"] = []string{c.pick("", "node.rack", "node.zone", "node.zone,7")}
	case 2:
		o["constraint"] = append(o["constraint"], c.pick("node.rack,same_property", "node.zone,same_property", "node.id,same_property"))
	}
}

func (c *churn) run() {
	f := c.w.f
	for c.made < c.left {
		switch n := c.rng.IntN(100); {
		case n < 3:
			c.node(c.rng.IntN(c.nodes))
		case n < 4:
			c.remove()
		case n < 6:
			for how := range f.indexes {
				for _, x := range f.indexes[how] {
					if x != nil {
						x.sync()
						x.rebuild()
					}
				}
			}
		case n < 8:
			c.sound()
		case n < 45:
			c.release()
		default:
			c.place()
		}
	}
}

func (c *churn) remove() {
	names := sortedKeys(c.w.nodes)
	name := names[c.rng.IntN(len(names))]
	delete(c.w.nodes, name)
	c.w.f.RemoveNode("id-" + name)
	kept := c.alive[:0]
	for _, a := range c.alive {
		if a.GetNodeId() != "id-"+name {
			kept = append(kept, a)
		}
	}
	c.alive = kept
	if len(c.w.nodes) == 0 {
		c.node(0)
	}
}

func (c *churn) release() {
	if len(c.alive) == 0 {
		return
	}
	i := c.rng.IntN(len(c.alive))
	c.w.f.ChangeAlloc(c.alive[i], nil)
	c.alive[i] = c.alive[len(c.alive)-1]
	c.alive = c.alive[:len(c.alive)-1]
}

func (c *churn) place() {
	ask := *c.asks[c.rng.IntN(len(c.asks))]
	ask.Count, ask.Silent = 1, true
	if c.chance(4) {
		ask.Count = 1 + c.rng.IntN(20)
		if c.chance(8) {
			ask.Count = 200
		}
	}
	names := sortedKeys(c.w.nodes)
	if c.chance(10) {
		ask.Penalised = []string{"id-" + names[c.rng.IntN(len(names))]}
	}
	if c.chance(10) {
		ask.Excluded = []string{"id-" + names[c.rng.IntN(len(names))]}
	}
	for _, a := range c.alive {
		if a.GetJob() == ask.Group.Key.Job && c.chance(8) {
			ask.Leaving = append(ask.Leaving, a.GetNodeId())
		}
	}
	if own := c.w.f.groups[ask.Group.Key]; own != nil && c.crowds {
		own.crowded = true
	}
	placed, _ := Place(c.w.f, []*Ask{&ask})
	for _, p := range placed {
		c.made++
		g := ask.Group.Key
		c.alive = append(c.alive, &berthv1.Alloc{NodeId: p.NodeID, Namespace: g.Namespace, Job: g.Job, Group: g.Group, Assignment: p.Assignment})
	}
	c.made++ // also where nothing fits
	if n := c.w.f.Mismatches(); n > 0 {
		c.t.Fatalf("%d mismatches: %v of %s", n, placed, ask.Group.Key.Job)
	}
}

// sound holds the indexes to what they promise: each entry lies in the block that its
// place in the order belongs to, and no bit says no where the sums say yes.
func (c *churn) sound() {
	for how := range c.w.f.indexes {
		for _, x := range c.w.f.indexes[how] {
			if x == nil {
				continue
			}
			x.sync()
			entries := 0
			for r, w := range x.rows {
				for k := range w.blocks {
					entries += x.blocks[w.blocks[k]].len()
					c.soundBlock(x, r, k)
				}
			}
			held := 0
			for i := range x.entries {
				if x.entries[i].at >= 0 {
					held++
				}
				if e := &x.entries[i]; e.at == outside && x.shapes.fitting(&e.left) != 0 {
					c.t.Fatalf("entry %d is outside, and has room for %x", i, x.shapes.fitting(&e.left))
				}
			}
			if held != entries {
				c.t.Fatalf("%d entries in the blocks, %d with a position", entries, held)
			}
		}
	}
}

func (c *churn) soundBlock(x *index, r, k int) {
	block := x.rows[r].blocks[k]
	b := &x.blocks[block]
	for i := range b.ids {
		if b.taken>>i&1 == 0 {
			if b.fits[i] != 0 {
				c.t.Fatalf("row %d, block %d: bits %x of no entry", r, k, b.fits[i])
			}
			continue
		}
		id := b.ids[i]
		e, low := &x.entries[id], x.boundOf(id, b.keys[i])
		if row, at := x.locate(low.order, low.node); e.at != block*depth+int32(i) || row != r || at != k {
			c.t.Fatalf("entry %d lies in row %d, block %d, and belongs into %d, %d", id, r, k, row, at)
		}
		sums := x.shapes.fitting(&e.left)
		for s := range x.shapes.needs {
			if known := x.shapes.known>>s&1 != 0; known && sums>>s&1 != 0 != e.left.covers(&x.shapes.needs[s]) {
				c.t.Fatalf("the levels are wrong: %v of %v", e.left, x.shapes.needs[s])
			}
		}
		if b.fits[i]&^sums&b.valid != 0 {
			c.t.Fatalf("entry %d: bits %x beyond the sums' %x", id, b.fits[i], sums)
		}
		for l := range x.lanes {
			in := x.lanes[l].has(e.slot)
			if in != (e.in>>l&1 != 0) || e.in != b.in[i] {
				c.t.Fatalf("entry %d: lane %d is wrong", id, l)
			}
			if missing := b.fits[i] & b.valid &^ (x.rows[r].fits[l][k] & x.rowFits[l][r]); in && missing != 0 {
				c.t.Fatalf("entry %d: its block or row knows nothing of shapes %x in lane %d", id, missing, l)
			}
		}
	}
}

// Every placement is what a full scan finds: random fleets under random churn, indexes
// made anew in between. BERTH_PLACEMENTS says how many placements; a million take
// minutes.
func TestIndexAgreesWithScan(t *testing.T) {
	const each = 1000
	placements := 40 * each
	if text := os.Getenv("BERTH_PLACEMENTS"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil {
			t.Fatalf("BERTH_PLACEMENTS: %v", err)
		}
		placements = n
	} else if testing.Short() {
		placements = 5 * each
	}
	made := 0
	for seed := uint64(0); made < placements; seed++ {
		nodes := 2 + int(seed%7)*10
		switch {
		case seed%40 == 20:
			nodes = 3000
		case seed%8 == 4:
			nodes = 400
		}
		c := newChurnOf(t, seed, nodes)
		c.left = each
		if c.run(); t.Failed() {
			t.Fatalf("seed %d, %d nodes", seed, nodes)
		}
		made += c.made
	}
	t.Logf("%d placements, 0 mismatches", made)
}
