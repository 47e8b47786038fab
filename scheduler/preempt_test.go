package scheduler

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/topology"
)

func (w *world) know(job *berthv1.Job) {
	if w.jobs == nil {
		w.jobs = map[string]*berthv1.Job{}
	}
	w.jobs[job.GetName()] = job
}

// stop tells an instance to stop; it holds its grant on.
func (w *world) stop(job, node string) {
	w.name()
	i := slices.IndexFunc(w.placed, func(a *berthv1.Alloc) bool { return a.GetJob() == job && a.GetNodeId() == "id-"+node && a.Wanted() })
	if i < 0 {
		w.t.Fatalf("%s is not on %s", job, node)
	}
	stopped := proto.Clone(w.placed[i]).(*berthv1.Alloc)
	stopped.Desired = berthv1.Alloc_stop
	w.f.ChangeAlloc(w.placed[i], stopped)
	w.placed[i] = stopped
}

// name numbers the allocations in the order in which they were placed.
func (w *world) name() {
	for i, a := range w.placed {
		if a.GetId() == "" {
			a.Id, a.CreateRevision, a.Index, a.Status = fmt.Sprintf("%s-%02d", a.GetJob(), i), uint64(i+1), uint32(i), berthv1.Alloc_running
		}
	}
}

// holders are what is placed on a node. Jobs whose name begins with "gang" are gangs.
func (w *world) holders(bounded string) func(string) []Holder {
	w.name()
	return func(node string) (out []Holder) {
		for _, a := range w.placed {
			if a.GetNodeId() != node {
				continue
			}
			h := HolderOf(a, w.jobs[a.GetJob()].GetPriority())
			if strings.HasPrefix(a.GetJob(), "gang") {
				h.Gang, h.GangSize = a.GetJob(), 0
				for _, b := range w.placed {
					if b.GetJob() == a.GetJob() {
						h.GangSize++
					}
				}
			}
			h.Bounded = a.GetJob() == bounded
			out = append(out, h)
		}
		return out
	}
}

func (w *world) preempt(name string, o options) {
	w.flush()
	ask := askOf(w.t, jobOf(w.t, name, o), o)
	bounded, left, _ := strings.Cut(o.text("bounded", ""), ":")
	trial := NewTrial(w.f, w.holders(bounded), func(GroupKey) int { n, _ := strconv.Atoi(left); return n })
	ways := trial.Preempt(ask, uint32(o.number(w.t, "below", int(ask.Group.Priority))))
	for _, way := range ways {
		var words []string
		for _, v := range way.Victims {
			words = append(words, fmt.Sprintf("%s (%d)", v.Alloc.GetId(), v.Priority))
		}
		slices.Sort(words)
		if len(words) == 0 {
			words = []string{"waits"}
		}
		fmt.Fprintf(&w.out, "%s  %s\n", way.NodeName, strings.Join(words, ", "))
	}
	if n := ask.wanted() - len(ways); n > 0 {
		fmt.Fprintf(&w.out, "%d cannot\n", n)
	}
	trial.Undo()
}

// drawCrowd draws a tiny fleet that is rather full, with allocations of some priorities.
func drawCrowd(t *rapid.T) *world {
	w := drawFleet(t)
	for i := range rapid.IntRange(2, 10).Draw(t, "crowd") {
		o := drawAsk(t)
		if rapid.IntRange(0, 2).Draw(t, "small") > 0 {
			o = options{"cpu": {fmt.Sprint(rapid.IntRange(1, 4).Draw(t, "milli") * 250)}, "mem": {"50"}}
		}
		o["prio"] = []string{fmt.Sprint(rapid.IntRange(1, 3).Draw(t, "priority") * 10)}
		kind := rapid.SampledFrom([]string{"gang0", "job", "job"}).Draw(t, "name")
		if kind == "job" {
			kind += fmt.Sprint(i)
		} else if known := w.jobs[kind]; known != nil {
			o["prio"] = []string{fmt.Sprint(known.GetPriority())}
		}
		w.ask(kind, o)
		if len(w.placed) > 0 && rapid.IntRange(0, 7).Draw(t, "stop") == 0 {
			if a := w.placed[len(w.placed)-1]; a.Wanted() {
				w.stop(a.GetJob(), strings.TrimPrefix(a.GetNodeId(), "id-"))
			}
		}
	}
	return w
}

// bruteBest looks at every set of victims on every node.
func bruteBest(w *world, ask *Ask) (node string, best *cost, none bool) {
	on := w.holders("")
	none = true
	for slot := range w.f.nodes {
		n := &w.f.nodes[slot]
		var grants []topology.Grant
		var cands []Holder
		ending := 0
		for _, h := range on(n.node.GetId()) {
			g, _ := GrantOf(h.Alloc.GetAssignment())
			if h.Ending {
				n.usage.Remove(&g)
				defer n.usage.Force(&g)
				ending++
			} else if h.Priority < ask.Group.Priority {
				cands, grants = append(cands, h), append(grants, g)
			}
		}
		for mask := range 1 << len(cands) {
			var set []Holder
			for i := range cands {
				if mask&(1<<i) != 0 {
					set = append(set, cands[i])
					n.usage.Remove(&grants[i])
				}
			}
			fits := bruteFits(n.usage, ask.Group)
			for i := range cands {
				if mask&(1<<i) != 0 {
					n.usage.Force(&grants[i])
				}
			}
			if !fits || mask == 0 && ending == 0 {
				continue
			}
			c := bruteCost(set)
			if best == nil || c.compare(best) < 0 {
				node, best, none = n.node.GetId(), &c, false
			}
		}
	}
	return node, best, none
}

// bruteCost adds up what a set costs, from the words of the order.
func bruteCost(set []Holder) cost {
	c := cost{oldest: ^uint64(0), taken: len(set)}
	gangs := map[string]Holder{}
	for _, h := range set {
		c.highest = max(c.highest, h.Priority)
		c.oldest = min(c.oldest, h.Alloc.GetCreateRevision())
		c.freed += 4*h.milli + h.memory
		if h.Gang != "" {
			gangs[h.Gang] = h
			continue
		}
		c.lost++
		c.sum += uint64(h.Priority)
	}
	for _, h := range gangs {
		c.lost += h.GangSize
		c.sum += uint64(h.GangSize) * uint64(h.Priority)
	}
	if len(set) == 0 {
		c.oldest = 0
	}
	return c
}

// On tiny fleets the victims cost what the cheapest of all sets costs, and none of them
// could be spared.
func TestVictimsAreTheCheapest(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := drawCrowd(t)
		o := drawAsk(t)
		o["prio"] = []string{"25"}
		ask := askOf(w.t, jobOf(w.t, "high", o), o)
		if placed, _ := Place(w.f, []*Ask{ask.loose()}); len(placed) > 0 {
			w.f.Undo(ask.Group, placed[0])
			return
		}
		before := fleetWords(w)
		_, best, none := bruteBest(w, ask)
		trial := NewTrial(w.f, w.holders(""), nil)
		ways := trial.Preempt(ask, ask.Group.Priority)
		if len(ways) == 0 != none {
			t.Fatalf("%d ways, and the oracle has %v\n%s", len(ways), best, before)
		}
		if none {
			return
		}
		if got := bruteCost(ways[0].Victims); got.compare(best) != 0 {
			t.Fatalf("victims %v on %s cost %+v, the cheapest %+v\n%s", ways[0].Victims, ways[0].NodeName, got, *best, before)
		}
		trial.Undo()
		if after := fleetWords(w); after != before {
			t.Fatalf("not undone:\n%s\nbefore:\n%s", after, before)
		}
		requireMinimal(t, w, ask, ways[0])
	})
}

func fleetWords(w *world) string {
	w.out.Reset()
	w.draw()
	return w.out.String()
}

// requireMinimal says that without any one of the victims the ask would not fit.
func requireMinimal(t *rapid.T, w *world, ask *Ask, way Way) {
	n := &w.f.nodes[w.f.slots[way.NodeID]]
	remove := func(a *berthv1.Alloc) func() {
		g, _ := GrantOf(a.GetAssignment())
		n.usage.Remove(&g)
		return func() { n.usage.Force(&g) }
	}
	for _, h := range w.holders("")(way.NodeID) {
		if h.Ending {
			defer remove(h.Alloc)()
		}
	}
	for spared := range way.Victims {
		var back []func()
		for i, v := range way.Victims {
			if i != spared {
				back = append(back, remove(v.Alloc))
			}
		}
		if bruteFits(n.usage, ask.Group) {
			t.Fatalf("%s could have been spared", way.Victims[spared].Alloc.GetId())
		}
		for _, b := range back {
			b()
		}
	}
}

// With many on a node the search is greedy: still nobody goes for nothing, and the
// highest priority that goes is the lowest possible.
func TestManyVictimsAreMinimal(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := &world{t: &testing.T{}, f: NewFleet(), nodes: map[string]*berthv1.Node{}}
		for i := range 2 {
			w.node(fmt.Sprintf("n%d", i), options{})
			w.cell("8x2", "4000", options{})
			w.cell("8x2", "4000", options{})
		}
		w.flush()
		for i := range 60 {
			o := options{"mem": {fmt.Sprint(rapid.IntRange(1, 5).Draw(t, "mem") * 100)}, "prio": {fmt.Sprint(rapid.IntRange(1, 4).Draw(t, "prio") * 10)}}
			o[rapid.SampledFrom([]string{"cores", "threads"}).Draw(t, "what")] = []string{fmt.Sprint(rapid.IntRange(1, 2).Draw(t, "n"))}
			w.ask(fmt.Sprint("job", i), o)
		}
		o := options{"cores": {fmt.Sprint(rapid.IntRange(1, 8).Draw(t, "cores"))}, "mem": {"500"}, "policy": {"single"}, "prio": {"60"}}
		ask := askOf(w.t, jobOf(w.t, "high", o), o)
		trial := NewTrial(w.f, w.holders(""), nil)
		ways := trial.Preempt(ask, 60)
		trial.Undo()
		if len(ways) == 0 {
			t.Fatal("no way, though everything may go")
		}
		requireMinimal(t, w, ask, ways[0])
		lower := NewTrial(w.f, w.holders(""), nil)
		if cheaper := lower.Preempt(ask, bruteCost(ways[0].Victims).highest); len(cheaper) > 0 && len(ways[0].Victims) > 0 {
			t.Fatalf("%v would do instead of %v", cheaper[0].Victims, ways[0].Victims)
		}
		lower.Undo()
	})
}

// The answer depends on the set of holders and nodes, not on their order.
func TestVictimsAreIndependentOfOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := drawCrowd(t)
		o := drawAsk(t)
		o["prio"] = []string{"35"}
		o["count"] = []string{"3"}
		ask := askOf(w.t, jobOf(w.t, "high", o), o)
		ways := func(on func(string) []Holder) string {
			trial := NewTrial(w.f, on, nil)
			defer trial.Undo()
			var b strings.Builder
			for _, way := range trial.Preempt(ask, 35) {
				ids := []string{}
				for _, v := range way.Victims {
					ids = append(ids, v.Alloc.GetId())
				}
				slices.Sort(ids)
				fmt.Fprintln(&b, way.NodeID, ids)
			}
			return b.String()
		}
		on := w.holders("")
		turned := func(node string) []Holder {
			hs := on(node)
			slices.Reverse(hs)
			return hs
		}
		if a, b := ways(on), ways(turned); a != b {
			t.Fatalf("%s\nturned around:\n%s", a, b)
		}
	})
}

func (w *world) why(name string, o options) {
	w.flush()
	ask := askOf(w.t, jobOf(w.t, name, o), o)
	placed, unplaced := Place(w.f, []*Ask{ask})
	for _, u := range unplaced {
		NameHolders(w.f, u.Explanation, w.holders(""))
		fmt.Fprintf(&w.out, "%d of %d not placed\n", u.Count, ask.wanted())
		for _, f := range u.Explanation.GetFailed() {
			fmt.Fprintf(&w.out, "  %4d  %s: %s\n", f.GetNodes(), f.GetCheck(), f.GetDetail())
		}
		for _, n := range u.Explanation.GetNearest() {
			for _, s := range n.GetShortfalls() {
				fmt.Fprintf(&w.out, "  near  %s: %s -> %s\n", n.GetNode(), s.GetText(), strings.Join(s.GetHeldBy(), ", "))
			}
		}
		for _, r := range u.Explanation.GetRemedies() {
			fmt.Fprintf(&w.out, "  try   %s\n", r)
		}
	}
	for _, p := range placed {
		w.f.Undo(ask.Group, p)
	}
}
