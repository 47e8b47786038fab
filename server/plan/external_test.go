package plan

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/server/consensus"
)

// board is External: it keeps the newest offer of each job.
type board struct {
	mu        sync.Mutex
	offers    map[string]Offer
	withdrawn map[string]string
	stirred   int
}

func (b *board) Offer(o Offer) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.offers[o.Evaluation.GetJob().GetName()] = o
	delete(b.withdrawn, o.Evaluation.GetJob().GetName())
}

func (b *board) Withdraw(_, job, reason string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.offers, job)
	b.withdrawn[job] = reason
}

func (b *board) Stirred() { b.mu.Lock(); b.stirred++; b.mu.Unlock() }
func (b *board) Reset()   { b.mu.Lock(); clear(b.offers); b.mu.Unlock() }

func (b *board) offer(t testing.TB, job string) Offer {
	t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	o, ok := b.offers[job]
	if !ok {
		t.Fatalf("nothing is offered of %s (withdrawn: %q)", job, b.withdrawn[job])
	}
	return o
}

// outside runs a loop with a board.
func outside(t *testing.T, test func(c *cluster, b *board)) {
	synctest.Test(t, func(t *testing.T) {
		c, b := newCluster(t), &board{offers: map[string]Offer{}, withdrawn: map[string]string{}}
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan struct{})
		c.loop = New(Config{Store: c.store, Proposer: c, External: b, Logger: slog.New(slog.DiscardHandler)})
		go func() {
			defer close(done)
			_ = c.loop.Run(ctx)
		}()
		defer func() {
			cancel()
			<-done
		}()
		test(c, b)
	})
}

func mine(amend ...func(*berthv1.Job)) func(*berthv1.Job) {
	return func(j *berthv1.Job) {
		j.Scheduler = "mine"
		for _, a := range amend {
			a(j)
		}
	}
}

func (c *cluster) submit(b *board, job string, p *Plan) *berthv1.SubmitPlanResponse {
	c.t.Helper()
	resp, err := c.loop.Submit(context.Background(), "default", job, b.offer(c.t, job).Evaluation.GetEvaluationId(), p)
	if err != nil {
		c.t.Fatal(err)
	}
	return resp
}

func at(index uint32, node string) *berthv1.PlannedInstance {
	p := &berthv1.PlannedInstance{Group: "g", Index: index}
	if node != "" {
		p.NodeId = nodeID(node)
	}
	return p
}

// words of what became of a plan: the nodes, or the reasons.
func became(r *berthv1.SubmitPlanResponse) string {
	var out []string
	for _, p := range r.GetPlacements() {
		if x := p.GetConflict(); x != nil {
			out = append(out, x.GetReason().String())
		} else {
			out = append(out, p.GetCommitted().GetNodeName())
		}
	}
	for _, s := range r.GetStops() {
		if x := s.GetConflict(); x != nil {
			out = append(out, "stop:"+x.GetReason().String())
		} else {
			out = append(out, "stop")
		}
	}
	if r.GetDone() {
		out = append(out, "done")
	}
	return fmt.Sprint(out)
}

func (c *cluster) wantBecame(r *berthv1.SubmitPlanResponse, want string) {
	c.t.Helper()
	if got := became(r); got != want {
		c.t.Fatalf("%s, want %s: %v", got, want, r)
	}
}

func TestExternalJobIsOfferedAndPlaced(t *testing.T) {
	outside(t, func(c *cluster, b *board) {
		c.node("n1", 4000, 4000)
		c.node("n2", 4000, 4000)
		eval := c.register(newJob("web", 3, 500, mine()))
		c.settle(time.Second)
		c.wantRunning("web", 0)
		c.wantEval(eval, berthv1.Evaluation_pending)
		o := b.offer(t, "web")
		w := o.Evaluation.GetWanted()
		if o.Scheduler != "mine" || o.Left != 3 || len(w) != 1 || w[0].GetCount() != 3 || o.Evaluation.GetEvaluationId() != eval {
			t.Fatalf("offered %v", o)
		}
		c.wantBecame(c.submit(b, "web", &Plan{Scheduler: "mine", Placements: []*berthv1.PlannedInstance{at(1, "n2")}}), "[n2]")
		if o := b.offer(t, "web"); o.Left != 2 || len(o.Evaluation.GetWanted()) != 2 {
			t.Fatalf("left %v", o)
		}
		exact := at(2, "n1")
		exact.Assignment = &berthv1.Assignment{Tasks: []*berthv1.TaskGrant{{Task: "main", Cells: []*berthv1.CellGrant{{CpuMilli: 500, MemoryMib: 64}}}}}
		r := c.submit(b, "web", &Plan{Scheduler: "mine", Placements: []*berthv1.PlannedInstance{at(0, ""), exact, at(1, "n1"), at(7, "")}})
		if !r.GetDone() || r.GetRevision() == 0 || r.GetPlacements()[2].GetConflict().GetReason() != berthv1.PlanConflict_not_wanted {
			t.Fatal(r)
		}
		c.settle(time.Second)
		c.wantRunning("web", 3)
		c.wantStatus("web", berthv1.Job_running)
		if e := c.wantEval(eval, berthv1.Evaluation_complete); e.GetGroups()[0].GetPlaced() != 3 {
			t.Error(e)
		}
		if b.withdrawn["web"] == "" || c.refused != 0 {
			t.Error(b.withdrawn, c.refused)
		}
		_, err := c.loop.Submit(context.Background(), "default", "web", eval, &Plan{Placements: []*berthv1.PlannedInstance{at(0, "n1")}})
		if !errors.Is(err, ErrNotOffered) {
			t.Errorf("after the end: %v", err)
		}
	})
}

func TestExternalJobIsStillReconciled(t *testing.T) {
	outside(t, func(c *cluster, b *board) {
		c.node("n1", 4000, 4000)
		c.node("n2", 4000, 4000)
		c.register(newJob("web", 2, 500, mine()))
		c.settle(time.Second)
		c.submit(b, "web", &Plan{Placements: []*berthv1.PlannedInstance{at(0, "n1"), at(1, "n2")}})
		c.settle(time.Second)
		c.setNode("n2", berthv1.Node_down) // lost: its successor is offered
		c.settle(time.Second)
		o := b.offer(t, "web")
		if w := o.Evaluation.GetWanted(); len(w) != 1 || w[0].GetIndex() != 1 || w[0].GetReason() != berthv1.WantedInstances_replacement || w[0].GetPreviousNodeId() != nodeID("n2") {
			t.Fatal(w)
		}
		c.wantBecame(c.submit(b, "web", &Plan{Placements: []*berthv1.PlannedInstance{at(1, "n2")}}), "[node_gone]")
		c.wantBecame(c.submit(b, "web", &Plan{Placements: []*berthv1.PlannedInstance{at(1, "n1")}}), "[n1 done]")
		c.settle(time.Second)
		c.wantRunning("web", 2)
		c.register(newJob("web", 1, 600, mine())) // a stop, and an update
		c.settle(time.Second)
		if w := b.offer(t, "web").Evaluation.GetWanted(); len(w) != 1 || w[0].GetReason() != berthv1.WantedInstances_update {
			t.Fatal(w)
		}
		c.wantRunning("web", 1)
		c.submit(b, "web", &Plan{Placements: []*berthv1.PlannedInstance{at(0, "n1")}})
		c.settle(time.Second)
		c.wantRunning("web", 1)
		if a := c.allocs("web"); !a[len(a)-1].Wanted() && !a[1].Wanted() {
			t.Errorf("\n%s", c.words("web"))
		}
		c.register(newJob("web", 2, 600)) // from now on Berth's
		c.settle(time.Second)
		c.wantRunning("web", 2)
		c.register(newJob("db", 1, 600, mine()))
		c.settle(time.Second)
		b.offer(t, "db")
		c.stop("db", true)
		c.settle(time.Second)
		if _, ok := b.offers["db"]; ok {
			t.Error("a job that is gone is still offered")
		}
	})
}

func TestExternalConflicts(t *testing.T) {
	outside(t, func(c *cluster, b *board) {
		c.node("n1", 4000, 4000)
		c.node("n2", 4000, 4000, func(n *berthv1.Node) { n.Drivers = nil })
		pinned := func(j *berthv1.Job) { j.Groups[0].Tasks[0].Resources = &berthv1.Resources{Cores: 3, MemoryMib: 64} }
		c.register(newJob("a", 1, 0, mine(pinned)))
		c.register(newJob("b", 1, 0, mine(pinned)))
		c.settle(time.Second)
		grant := at(0, "n1")
		grant.Assignment = &berthv1.Assignment{Tasks: []*berthv1.TaskGrant{{Task: "main", Cells: []*berthv1.CellGrant{{Cpus: "0-2", MemoryMib: 64}}}}}
		one := func(p *berthv1.PlannedInstance) *Plan { return &Plan{Placements: []*berthv1.PlannedInstance{p}} }
		c.wantBecame(c.submit(b, "a", one(grant)), "[n1 done]")
		r := c.submit(b, "b", one(grant))
		c.wantBecame(r, "[held]")
		if held := r.GetPlacements()[0].GetConflict().GetHeldBy(); len(held) != 1 || held[0] != c.allocs("a")[0].GetId() {
			t.Error(r)
		}
		c.wantBecame(c.submit(b, "b", one(at(0, "n1"))), "[no_room]")
		c.wantBecame(c.submit(b, "b", one(at(0, ""))), "[no_room]")
		c.wantBecame(c.submit(b, "b", one(at(0, "n2"))), "[not_allowed]")
		c.wantBecame(c.submit(b, "b", one(at(0, "n3"))), "[node_gone]")
		c.wantBecame(c.submit(b, "b", one(at(9, "n1"))), "[not_wanted]")
		wrong := proto.CloneOf(grant)
		wrong.Assignment.Tasks[0].Cells[0].Cpus = "0-3"
		c.wantBecame(c.submit(b, "b", one(wrong)), "[wrong_grant]")
		wrong.NodeId = ""
		c.wantBecame(c.submit(b, "b", one(wrong)), "[wrong_grant]")
		c.wantBecame(c.submit(b, "b", &Plan{Revision: 1 << 40, Placements: []*berthv1.PlannedInstance{at(0, "n1")}}), "[stale_revision]")
		c.wantBecame(c.submit(b, "b", &Plan{Revision: 1, Placements: []*berthv1.PlannedInstance{grant}}), "[stale_revision]")
		c.wantRunning("b", 0)
		if c.loop.Stats().Refused != 0 || c.refused != 0 {
			t.Error("the log had to refuse something")
		}
	})
}

func TestExternalGangsAndAtomicPlans(t *testing.T) {
	outside(t, func(c *cluster, b *board) {
		c.node("n1", 4000, 4000)
		c.register(newJob("gang", 3, 1000, mine(func(j *berthv1.Job) { j.Groups[0].Gang = true })))
		c.register(newJob("web", 3, 1000, mine()))
		c.settle(time.Second)
		three := func(n ...string) (out []*berthv1.PlannedInstance) {
			for i, node := range n {
				out = append(out, at(uint32(i), node))
			}
			return out
		}
		c.wantBecame(c.submit(b, "gang", &Plan{Placements: three("n1", "n1")}), "[together together]")
		c.wantBecame(c.submit(b, "gang", &Plan{Placements: three("n1", "n1", "n9")}), "[together together node_gone]")
		c.wantBecame(c.submit(b, "gang", &Plan{Placements: three("n1", "", "n1")}), "[n1 n1 n1 done]")
		c.wantBecame(c.submit(b, "web", &Plan{Atomic: true, Placements: three("n1", "n1")}), "[together no_room]")
		c.wantBecame(c.submit(b, "web", &Plan{Placements: three("n1", "n1")}), "[n1 no_room]")
		c.settle(time.Second)
		c.wantRunning("gang", 3)
		c.wantRunning("web", 1)
	})
}

func TestExternalStopsFollowTheRulesOfPreemption(t *testing.T) {
	outside(t, func(c *cluster, b *board) {
		c.node("n1", 4000, 4000)
		prio := func(n uint32) func(*berthv1.Job) { return func(j *berthv1.Job) { j.Priority = n } }
		c.register(newJob("low", 3, 1000, prio(10)))
		c.register(newJob("same", 1, 1000, prio(60)))
		c.settle(time.Second)
		c.register(newJob("vip", 1, 1000, mine(prio(60))))
		c.settle(time.Second)
		low, same := c.allocs("low")[0].GetId(), c.allocs("same")[0].GetId()
		c.wantBecame(c.submit(b, "vip", &Plan{Scheduler: "mine", Stops: []string{same, "nonsense", low, low}}),
			"[stop:not_preemptable stop:not_wanted stop stop:not_wanted]")
		c.settle(time.Second)
		if a := c.store.View().Alloc(low); a.GetDesired() != berthv1.Alloc_evict || a.GetPreemptedBy() != "default/vip/g" {
			t.Fatal(a)
		}
		if b.stirred == 0 {
			t.Error("nobody was told that it has ended")
		}
		c.wantRunning("same", 1)
	})
}

func TestExternalStopsLeaveNoPartOfAGang(t *testing.T) {
	outside(t, func(c *cluster, b *board) {
		c.node("n1", 3000, 4000)
		c.register(newJob("gang", 2, 1000, func(j *berthv1.Job) { j.Priority, j.Groups[0].Gang = 10, true }))
		c.settle(time.Second)
		c.register(newJob("vip", 2, 1000, mine(func(j *berthv1.Job) { j.Priority = 60 })))
		c.settle(time.Second)
		one, other := c.allocs("gang")[0].GetId(), c.allocs("gang")[1].GetId()
		c.wantBecame(c.submit(b, "vip", &Plan{Scheduler: "mine", Stops: []string{one}}), "[stop:together]")
		c.wantRunning("gang", 2)
		c.wantBecame(c.submit(b, "vip", &Plan{Scheduler: "mine", Stops: []string{one, other}}), "[stop stop]")
	})
}

func TestExternalReasonsAreShown(t *testing.T) {
	outside(t, func(c *cluster, b *board) {
		c.node("n1", 4000, 4000)
		eval := c.register(newJob("web", 1, 500, mine()))
		c.settle(time.Second)
		why := &Reason{Text: "scheduler mine: no rack is cool enough", Remedies: []string{"wait for the night"}}
		for range 2 {
			if err := c.loop.Explain(context.Background(), "default", "web", eval, why); err != nil {
				t.Fatal(err)
			}
			c.settle(time.Second)
		}
		e := c.wantEval(eval, berthv1.Evaluation_blocked)
		x := e.GetGroups()[0].GetExplanation()
		if e.GetStatusReason() != why.Text || x.GetRemedies()[0] != "wait for the night" || x.GetFailed()[0].GetDetail() != why.Text {
			t.Fatal(e)
		}
		if o := b.offer(t, "web"); o.Evaluation.GetEvaluationId() != eval {
			t.Fatal(o)
		}
		c.wantBecame(c.submit(b, "web", &Plan{Placements: []*berthv1.PlannedInstance{at(0, "")}}), "[n1 done]")
		c.settle(time.Second)
		c.wantEval(eval, berthv1.Evaluation_complete)
	})
}

func TestExternalTwoGroups(t *testing.T) {
	outside(t, func(c *cluster, b *board) {
		c.node("n1", 4000, 4000)
		eval := c.register(newJob("web", 1, 500, mine(func(j *berthv1.Job) {
			second := proto.CloneOf(j.Groups[0])
			second.Name, second.Gang, second.Count = "h", true, proto.Uint32(2)
			j.Groups = append(j.Groups, second)
		})))
		c.settle(time.Second)
		c.wantBecame(c.submit(b, "web", &Plan{Placements: []*berthv1.PlannedInstance{at(0, "")}}), "[n1]")
		if err := c.loop.Explain(context.Background(), "default", "web", eval, &Reason{Text: "wait"}); err != nil {
			t.Fatal(err)
		}
		h := func(i uint32) *berthv1.PlannedInstance { return &berthv1.PlannedInstance{Group: "h", Index: i} }
		c.wantBecame(c.submit(b, "web", &Plan{Placements: []*berthv1.PlannedInstance{h(0)}}), "[together]")
		c.wantBecame(c.submit(b, "web", &Plan{Placements: []*berthv1.PlannedInstance{h(1), h(0)}}), "[n1 n1 done]")
		c.settle(time.Second)
		c.wantRunning("web", 3)
	})
}

func TestExternalSystemJob(t *testing.T) {
	outside(t, func(c *cluster, b *board) {
		c.node("n1", 4000, 4000)
		c.node("n2", 4000, 4000)
		c.register(newJob("sys", 1, 500, mine(func(j *berthv1.Job) { j.Type = berthv1.Job_system })))
		c.settle(time.Second)
		if w := b.offer(t, "sys").Evaluation.GetWanted(); len(w) != 2 || w[0].GetNodeId() == "" {
			t.Fatal(w)
		}
		c.wantBecame(c.submit(b, "sys", &Plan{Placements: []*berthv1.PlannedInstance{at(0, "n1"), at(0, "n2"), at(0, "n1")}}), "[n1 n2 not_wanted done]")
	})
}

// TestExternalAndBuiltInShareTheFleet: whatever external schedulers and the built-in one
// place at the same time, nothing is granted twice: the log refuses nothing.
func TestExternalAndBuiltInShareTheFleet(t *testing.T) {
	outside(t, func(c *cluster, b *board) {
		rnd := rand.New(rand.NewPCG(3, 5))
		for i := range 6 {
			c.node(fmt.Sprint("n", i), 8000, 8000)
		}
		for round := range 30 {
			c.register(newJob(fmt.Sprint("in", round), uint32(1+rnd.IntN(4)), 700))
			name := fmt.Sprint("out", round)
			c.register(newJob(name, uint32(1+rnd.IntN(4)), 700, mine()))
			time.Sleep(time.Duration(rnd.IntN(30)) * time.Millisecond)
			synctest.Wait()
			b.mu.Lock()
			o, ok := b.offers[name]
			b.mu.Unlock()
			if !ok {
				continue
			}
			p := &Plan{Atomic: rnd.IntN(4) == 0}
			for i := range uint32(o.Left + rnd.IntN(2)) {
				p.Placements = append(p.Placements, at(i, fmt.Sprint("n", rnd.IntN(7))))
			}
			var wg sync.WaitGroup
			for range 2 { // twice at the same time
				wg.Go(func() {
					_, _ = c.loop.Submit(context.Background(), "default", name, o.Evaluation.GetEvaluationId(), p)
				})
			}
			wg.Wait()
			if rnd.IntN(3) == 0 {
				c.stop(fmt.Sprint("in", rnd.IntN(round+1)), false)
			}
			c.settle(50 * time.Millisecond)
		}
		c.settle(2 * time.Second)
		if c.refused != 0 {
			t.Errorf("%d placements were refused by the log", c.refused)
		}
	})
}

// TestExternalPlanWhenTheTermEnds: nobody waits for a loop that is over.
func TestExternalPlanWhenTheTermEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, b := newCluster(t), &board{offers: map[string]Offer{}, withdrawn: map[string]string{}}
		ctx, cancel := context.WithCancel(context.Background())
		c.loop = New(Config{Store: c.store, Proposer: c, External: b, Logger: slog.New(slog.DiscardHandler)})
		done := make(chan error)
		go func() { done <- c.loop.Run(ctx) }()
		c.node("n1", 4000, 4000)
		eval := c.register(newJob("web", 1, 500, mine()))
		c.settle(time.Second)
		p := &Plan{Placements: []*berthv1.PlannedInstance{at(0, "n1")}}
		time.AfterFunc(logDelay/2, cancel) // while the plan is on its way
		if _, err := c.loop.Submit(context.Background(), "default", "web", eval, p); !problem.Is(err, problem.Unavailable) {
			t.Errorf("in the middle: %v", err)
		}
		<-done
		if _, err := c.loop.Submit(context.Background(), "default", "web", eval, p); !errors.Is(err, consensus.ErrNotLeader) {
			t.Errorf("after the end: %v", err)
		}
	})
}
