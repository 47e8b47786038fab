package command

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/berthd/berth/client"
	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// drainWatch tells of a drain: a line for each allocation that goes, and one whenever
// something waits for something else than before.
type drainWatch struct {
	*app
	client *client.Client
	quiet  bool
	began  time.Time
	known  map[string]*berthv1.Alloc // what is on the node, by id
	until  time.Time                 // how long a look may wait for successors, all together
	told   map[string]bool           // what was said of what waits
	jobs   map[string]*berthv1.Job   // by namespace and name
	tally  struct{ moved, stopped, ended, lost, homeless int }
}

// drainLook is the longest time between two looks: the node and the jobs may change
// though its allocations do not.
const drainLook = 2 * time.Second

func (w *drainWatch) say(format string, args ...any) {
	if !w.quiet {
		w.printf(format, args...)
	}
}

// begin notes what is on the node.
func (w *drainWatch) begin(ctx context.Context, n *berthv1.Node) error {
	w.began = time.Now()
	allocs, _, err := w.allocs(ctx, n, 0)
	for _, a := range allocs {
		if !a.Terminal() {
			w.known[a.GetId()] = a
		}
	}
	return err
}

// run watches until the drain is done or ended, and gives the node as it is then.
func (w *drainWatch) run(ctx context.Context, n *berthv1.Node) (*berthv1.Node, error) {
	name := nodeWord(n.GetName(), n.GetId())
	if n.GetDrain() == nil {
		return n, problem.New(problem.Conflict, name, "the node is not drained").WithRemedy("berth node drain %s", name)
	}
	w.say("%s is being drained, %s: %s on it\n", name, deadlineWords(n.GetDrain(), time.Now()), count(len(w.known), "allocation"))
	var index uint64
	for {
		allocs, next, err := w.allocs(ctx, n, index)
		index = next
		if err == nil {
			err = w.gone(ctx, allocs)
		}
		var now *berthv1.Node
		if err == nil {
			now, err = w.client.Nodes.GetNode(ctx, &berthv1.GetNodeRequest{NodeId: n.GetId()})
		}
		if ctx.Err() != nil {
			w.say("Stopped watching; the drain goes on. berth node drain -monitor %s\n", name)
			return nil, &exitStatus{code: exitInterrupted}
		}
		if err != nil {
			return nil, err
		}
		n = now
		switch {
		case n.GetDrain() == nil:
			return n, problem.New(problem.Conflict, name, "somebody has ended the drain; %s left on the node", count(len(w.known), "allocation"))
		case n.GetDrain().GetDoneTime() != nil:
			return n, w.done(ctx, n)
		}
		if err := w.waits(ctx, n); err != nil {
			return nil, err
		}
	}
}

// allocs gives the node's allocations when they have changed since index, or after a while.
func (w *drainWatch) allocs(ctx context.Context, n *berthv1.Node, index uint64) (all []*berthv1.Alloc, next uint64, err error) {
	all, err = collect(func(token string) ([]*berthv1.Alloc, string, error) {
		req := &berthv1.ListAllocsRequest{Namespace: "*", NodeId: n.GetId(), PageToken: token}
		if token == "" && index > 0 {
			req.Index, req.Wait = index, durationpb.New(drainLook)
		}
		var header metadata.MD
		r, err := w.client.Allocs.ListAllocs(ctx, req, grpc.Header(&header))
		if token == "" {
			next = client.FreshnessOf(header).Index
		}
		return r.GetAllocs(), r.GetNextPageToken(), err
	})
	return all, next, err
}

// gone tells of what has gone since the last look.
func (w *drainWatch) gone(ctx context.Context, allocs []*berthv1.Alloc) error {
	w.until = time.Now().Add(drainLook)
	now := map[string]*berthv1.Alloc{}
	for _, a := range allocs {
		now[a.GetId()] = a
	}
	for _, id := range slices.Sorted(maps.Keys(w.known)) {
		a := now[id]
		if a != nil && !a.Terminal() {
			w.known[id] = a
			continue
		}
		if a == nil { // over and forgotten meanwhile
			a = w.known[id]
		}
		delete(w.known, id)
		if err := w.went(ctx, a); err != nil {
			return err
		}
	}
	for id, a := range now { // placed just before the drain began
		if !a.Terminal() {
			w.known[id] = a
		}
	}
	return nil
}

// went tells what has become of an allocation that is not on the node any more.
func (w *drainWatch) went(ctx context.Context, a *berthv1.Alloc) error {
	what, how := "stopped", ""
	job, err := w.job(ctx, a)
	if err != nil {
		return err
	}
	next, err := w.successor(ctx, a)
	switch {
	case err != nil:
		return err
	case next != nil:
		what, how = "moved", fmt.Sprintf("to %s as %s", nodeWord(next.GetNodeName(), next.GetNodeId()), shortID(next.GetId()))
		w.tally.moved++
	case a.GetStatus() == berthv1.Alloc_lost:
		what, how = "lost", or(oneLine(a.GetStatusReason()), "its node does not answer")
		w.tally.lost++
	case a.Wanted():
		what, how = "ended", a.GetStatus().String()
		w.tally.ended++
	case job.GetType() == berthv1.Job_service || job.GetType() == berthv1.Job_batch:
		how = "its successor has no place yet: berth job status " + a.GetJob()
		w.tally.homeless++
	default:
		w.tally.stopped++
	}
	w.say("  %-8s %-30s  %s  %s\n", what, a.Name()+" "+shortID(a.GetId()), seconds(time.Since(w.began)), how)
	return nil
}

// successor gives what was placed in an allocation's stead; nil: nothing.
func (w *drainWatch) successor(ctx context.Context, a *berthv1.Alloc) (*berthv1.Alloc, error) {
	for { // it may be a moment behind the end of what it replaces
		if id := a.GetNextAlloc(); id != "" {
			next, err := w.client.Allocs.GetAlloc(ctx, &berthv1.GetAllocRequest{AllocId: id})
			if problem.Is(err, problem.NotFound) {
				return nil, nil
			}
			return next, err
		}
		left := time.Until(w.until)
		if a.Wanted() || left <= 0 {
			return nil, nil
		}
		now, err := w.client.Allocs.GetAlloc(ctx, &berthv1.GetAllocRequest{AllocId: a.GetId(), Index: a.GetModifyRevision(), Wait: durationpb.New(left)})
		if err != nil {
			if problem.Is(err, problem.NotFound) {
				return nil, nil
			}
			return nil, err
		}
		a = now
	}
}

func (w *drainWatch) job(ctx context.Context, a *berthv1.Alloc) (*berthv1.Job, error) {
	key := a.GetNamespace() + "/" + a.GetJob()
	if w.jobs[key] == nil {
		job, err := w.client.Jobs.GetJob(ctx, &berthv1.GetJobRequest{Namespace: a.GetNamespace(), Job: a.GetJob()})
		if err != nil && !problem.Is(err, problem.NotFound) {
			return nil, err
		}
		w.jobs[key] = job
	}
	return w.jobs[key], nil
}

// waits tells what is left, and what it waits for, where that was not said yet.
func (w *drainWatch) waits(ctx context.Context, n *berthv1.Node) error {
	if w.quiet {
		return nil
	}
	left := map[string][]*berthv1.Alloc{}
	for _, id := range slices.Sorted(maps.Keys(w.known)) {
		a := w.known[id]
		key := a.GetNamespace() + "/" + a.GetJob() + "/" + a.GetGroup()
		left[key] = append(left[key], a)
	}
	others := false
	for _, key := range slices.Sorted(maps.Keys(left)) {
		job, err := w.job(ctx, left[key][0])
		if err != nil {
			return err
		}
		others = others || job.GetType() != berthv1.Job_system
	}
	for _, key := range slices.Sorted(maps.Keys(left)) {
		why, explanation, err := w.why(ctx, n, left[key], others)
		if err != nil {
			return err
		}
		if why == "" || w.told[key+why] {
			continue
		}
		w.told[key+why] = true
		w.say("  %-8s %s of %s: %s\n", "waits", count(len(left[key]), "instance"), strings.TrimPrefix(key, "default/"), why)
		if explanation != nil {
			w.printExplanation(explanation)
		}
	}
	return nil
}

// why says what the instances of a group wait for; "": nothing, or nobody needs to know.
func (w *drainWatch) why(ctx context.Context, n *berthv1.Node, left []*berthv1.Alloc, others bool) (string, *berthv1.Explanation, error) {
	if !slices.ContainsFunc(left, (*berthv1.Alloc).Wanted) {
		return "", nil, nil // they are stopping
	}
	job, err := w.job(ctx, left[0])
	if err != nil {
		return "", nil, err
	}
	switch job.GetType() {
	case berthv1.Job_system:
		switch {
		case n.GetDrain().GetIgnoreSystem():
			return "", nil, nil
		case others:
			return "a system job goes when nothing else is left", nil, nil
		}
		return "", nil, nil
	case berthv1.Job_batch, berthv1.Job_sysbatch:
		return "left to finish, " + deadlineWords(n.GetDrain(), n.GetDrain().GetStartTime().AsTime()), nil, nil
	}
	s, err := w.client.Jobs.GetJobStatus(ctx, &berthv1.GetJobStatusRequest{Namespace: left[0].GetNamespace(), Job: left[0].GetJob()})
	if err != nil {
		if problem.Is(err, problem.NotFound) {
			return "", nil, nil
		}
		return "", nil, err
	}
	if e := s.GetEvaluation(); e.GetStatus() == berthv1.Evaluation_blocked {
		for _, g := range e.GetGroups() {
			if g.GetGroup() == left[0].GetGroup() && g.GetExplanation() != nil {
				return "no other node has room", g.GetExplanation(), nil
			}
		}
	}
	if !slices.ContainsFunc(left, func(a *berthv1.Alloc) bool { return a.Wanted() && a.GetStatus() == berthv1.Alloc_running }) {
		return "", nil, nil
	}
	return "their turn, " + budgetWords(job, left[0].GetGroup()), nil, nil
}

// budgetWords is how many of a group may be missing at a time.
func budgetWords(job *berthv1.Job, group string) string {
	for _, g := range job.GetGroups() {
		switch {
		case g.GetName() != group:
		case g.GetStateful() != nil:
			return "one after the other"
		case g.GetDisruption() == nil:
			return "a quarter of the group may be missing at a time"
		case g.GetDisruption().GetMaxUnavailable() == "0":
			return "but none may be missing (max_unavailable = 0)"
		default:
			return or(g.GetDisruption().GetMaxUnavailable(), "100%") + " of the group may be missing at a time (max_unavailable)"
		}
	}
	return "within the disruption budget"
}

// done takes a last look, and sums up.
func (w *drainWatch) done(ctx context.Context, n *berthv1.Node) error {
	allocs, _, err := w.allocs(ctx, n, 0) // the last ones may have gone since
	if err == nil {
		err = w.gone(ctx, allocs)
	}
	if err != nil {
		return err
	}
	var parts []string
	for _, p := range []struct {
		n    int
		what string
	}{{w.tally.moved, "moved"}, {w.tally.homeless, "stopped without another place"}, {w.tally.ended, "ended"}, {w.tally.stopped, "stopped"}, {w.tally.lost, "lost"}} {
		if p.n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", p.n, p.what))
		}
	}
	if n := len(w.known); n > 0 {
		parts = append(parts, fmt.Sprintf("%d left on it", n))
	}
	w.say("%s is drained after %s: %s.\n", nodeWord(n.GetName(), n.GetId()), seconds(time.Since(w.began)), or(strings.Join(parts, ", "), "nothing was on it"))
	if w.tally.homeless > 0 {
		return &exitStatus{code: exitNotPlaced}
	}
	return nil
}
