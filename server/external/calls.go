package external

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/server/plan"
)

var namePattern = regexp.MustCompile(`^[a-z0-9-]{1,64}$`)

// Register makes a scheduler known.
func (d *Desk) Register(q *berthv1.RegisterSchedulerRequest) (*berthv1.RegisterSchedulerResponse, error) {
	ttl := defaultTTL
	if q.GetTtl() != nil {
		ttl = q.GetTtl().AsDuration()
	}
	switch {
	case !namePattern.MatchString(q.GetName()):
		return nil, problem.New(problem.Invalid, "name", "%q is no name of a scheduler", q.GetName()).
			WithRemedy("use 1 to 64 lower-case letters, digits and hyphens")
	case q.GetName() == plan.BuiltIn:
		return nil, problem.New(problem.Invalid, "name", "%q is the scheduler of the servers", q.GetName()).WithRemedy("choose another name")
	case ttl < minTTL || ttl > maxTTL:
		return nil, problem.New(problem.Invalid, "ttl", "%s is not from %s to %s", ttl, minTTL, maxTTL)
	case len(q.GetDescription()) > maxText || len(q.GetInstance()) > maxText:
		return nil, problem.New(problem.Invalid, "description", "it has more than %d characters", maxText)
	case len(q.GetNamespaces()) > maxList || len(q.GetNodePools()) > maxList:
		return nil, problem.New(problem.Invalid, "namespaces", "more than %d are named", maxList).WithRemedy("name none, which takes all")
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return nil, errClosed()
	}
	if len(d.byLease) >= maxRegistered {
		return nil, problem.New(problem.Exhausted, "name", "%d schedulers are registered, more cannot be", maxRegistered)
	}
	now := time.Now()
	r := &registration{lease: newLease(), ttl: ttl, expires: now.Add(ttl), claims: map[*item]struct{}{}, registry: d.queue(q.GetName()),
		info: &berthv1.Scheduler{Name: q.GetName(), Instance: q.GetInstance(), Description: q.GetDescription(), Namespaces: q.GetNamespaces(),
			NodePools: q.GetNodePools(), RegisterTime: timestamp(now)}}
	d.byLease[r.lease] = r
	r.registry.registered[r] = struct{}{}
	return &berthv1.RegisterSchedulerResponse{Lease: r.lease, Ttl: durationpb.New(ttl), ExpireTime: timestamp(r.expires)}, nil
}

// holder finds the registration of a lease and renews it; d.mu is held.
func (d *Desk) holder(lease string) (*registration, error) {
	if d.closed {
		return nil, errClosed()
	}
	r := d.byLease[lease]
	if r == nil || r.waiting == 0 && !time.Now().Before(r.expires) {
		return nil, problem.New(problem.NotFound, "lease", "there is no such lease: it has run out, or another server leads now").
			WithRemedy("register again")
	}
	r.expires = time.Now().Add(r.ttl)
	return r, nil
}

// claim finds what a scheduler has claimed; d.mu is held.
func (d *Desk) claim(lease, evalID string) (*registration, *item, error) {
	r, err := d.holder(lease)
	if err != nil {
		return nil, nil, err
	}
	i := d.evals[evalID]
	if i == nil || i.holder != r || !time.Now().Before(i.expires) {
		return nil, nil, problem.New(problem.Conflict, "evaluation_id", "%s", d.whyNot(r, evalID)).
			WithRemedy("claim what there is, and drop what you have worked out for this one")
	}
	return r, i, nil
}

// whyNot says why an evaluation is not a scheduler's.
func (d *Desk) whyNot(r *registration, evalID string) string {
	i := d.evals[evalID]
	switch why, known := d.gone.why[claimKey{r.lease, evalID}]; {
	case known:
		return fmt.Sprintf("the claim on evaluation %q is lost: %s", evalID, why)
	case i == nil:
		return fmt.Sprintf("evaluation %q is not there to be placed", evalID)
	case i.holder == r:
		return fmt.Sprintf("the claim on evaluation %q is lost: its lease ran out at %s", evalID, stamp(i.expires))
	}
	return fmt.Sprintf("evaluation %q is not claimed by this scheduler", evalID)
}

// Deregister gives all back.
func (d *Desk) Deregister(q *berthv1.DeregisterSchedulerRequest) (*berthv1.DeregisterSchedulerResponse, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	r, err := d.holder(q.GetLease())
	if err != nil {
		return nil, err
	}
	return &berthv1.DeregisterSchedulerResponse{Released: d.forget(r, "the scheduler went away")}, nil
}

// Renew renews the registration and claims.
func (d *Desk) Renew(q *berthv1.RenewLeaseRequest) (*berthv1.RenewLeaseResponse, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	r, err := d.holder(q.GetLease())
	if err != nil {
		return nil, err
	}
	out := &berthv1.RenewLeaseResponse{ExpireTime: timestamp(r.expires)}
	ids := q.GetEvaluationIds()
	if q.GetAll() {
		for i := range r.claims {
			ids = append(ids, i.id())
		}
		slices.Sort(ids)
		ids = slices.Compact(ids)
	}
	for _, id := range ids {
		_, i, err := d.claim(q.GetLease(), id)
		if err != nil {
			out.Lost = append(out.Lost, &berthv1.LostClaim{EvaluationId: id, Reason: problem.From(err).Reason})
			continue
		}
		i.expires = r.expires
		out.Evaluations = append(out.Evaluations, i.message())
	}
	return out, nil
}

// message is an item as its holder gets it. What it is made of is not changed by anybody.
func (i *item) message() *berthv1.ClaimedEvaluation {
	e := i.Evaluation
	return &berthv1.ClaimedEvaluation{EvaluationId: e.GetEvaluationId(), Job: e.GetJob(), Revision: e.GetRevision(), Wanted: e.GetWanted(),
		More: e.GetMore(), Groups: e.GetGroups(), ExpireTime: timestamp(i.expires), Attempts: i.attempts - 1}
}

// Claim gives work, waiting for it as long as it is asked to.
func (d *Desk) Claim(ctx context.Context, q *berthv1.ClaimEvaluationsRequest) (*berthv1.ClaimEvaluationsResponse, error) {
	n := max(1, int(q.GetMax()))
	if n > maxClaim {
		return nil, problem.New(problem.Invalid, "max", "%d are too many at a time", n).WithRemedy("claim at most %d", maxClaim)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	r, err := d.holder(q.GetLease())
	if err != nil {
		return nil, err
	}
	over := time.NewTimer(min(q.GetWait().AsDuration(), maxWait))
	defer over.Stop()
	r.waiting++
	defer func() {
		r.waiting--
		r.expires = time.Now().Add(r.ttl)
	}()
	for {
		if _, err := d.holder(q.GetLease()); err != nil {
			return nil, err
		}
		if out := d.take(r, n); len(out) > 0 || q.GetWait().AsDuration() <= 0 {
			return &berthv1.ClaimEvaluationsResponse{Evaluations: out}, nil
		}
		changed := r.registry.changed
		d.mu.Unlock()
		expired := false
		select {
		case <-changed:
		case <-over.C:
			expired = true
		case <-ctx.Done():
		}
		d.mu.Lock()
		switch {
		case ctx.Err() != nil: // nobody is there to take anything
			return nil, problem.From(context.Cause(ctx))
		case expired:
			return &berthv1.ClaimEvaluationsResponse{Evaluations: d.take(r, n)}, nil
		}
	}
}

func (d *Desk) take(r *registration, n int) (out []*berthv1.ClaimedEvaluation) {
	now := time.Now()
	for _, i := range r.registry.take(r, n) {
		i.holder, i.claimed, i.expires = r, now, now.Add(r.ttl)
		i.attempts++
		d.claimed[i] = struct{}{}
		r.claims[i] = struct{}{}
		r.registry.lastClaim, r.info.ClaimTime = now, timestamp(now)
		out = append(out, i.message())
	}
	return out
}

// Release gives a claim back.
func (d *Desk) Release(ctx context.Context, q *berthv1.ReleaseEvaluationRequest) (*berthv1.ReleaseEvaluationResponse, error) {
	switch {
	case len(q.GetReason()) > maxText || len(strings.Join(q.GetRemedies(), "")) > maxText || len(q.GetRemedies()) > maxList:
		return nil, problem.New(problem.Invalid, "reason", "the reason and the remedies may have %d characters each", maxText)
	case q.GetReason() == "" && (len(q.GetRemedies()) > 0 || q.GetRetryAfter() != nil):
		return nil, problem.New(problem.Invalid, "reason", "remedies and retry_after go with a reason")
	}
	d.mu.Lock()
	_, i, err := d.claim(q.GetLease(), q.GetEvaluationId())
	if err != nil {
		d.mu.Unlock()
		return nil, err
	}
	name := i.holder.info.GetName()
	if q.GetReason() == "" {
		d.unclaim(i, "it was given back", time.Now())
		d.mu.Unlock()
		return &berthv1.ReleaseEvaluationResponse{}, nil
	}
	d.drop(i, "it was given back")
	i.resting, i.wake = true, time.Time{}
	if after := q.GetRetryAfter().AsDuration(); after > 0 {
		i.wake = time.Now().Add(after)
	}
	d.resting[i] = struct{}{}
	d.mu.Unlock()
	d.tell(ctx, i, &plan.Reason{Text: "scheduler " + name + ": " + q.GetReason(), Remedies: q.GetRemedies()})
	return &berthv1.ReleaseEvaluationResponse{}, nil
}

// Submit hands a plan to the loop.
func (d *Desk) Submit(ctx context.Context, q *berthv1.SubmitPlanRequest) (*berthv1.SubmitPlanResponse, error) {
	switch n := len(q.GetPlacements()); {
	case n > maxPlacements:
		return nil, problem.New(problem.Invalid, "placements", "%d placements are too many for one plan", n).WithRemedy("submit at most %d at a time", maxPlacements)
	case len(q.GetStops()) > maxStops:
		return nil, problem.New(problem.Invalid, "stops", "%d stops are too many for one plan", len(q.GetStops())).WithRemedy("submit at most %d at a time", maxStops)
	case n+len(q.GetStops()) == 0:
		return nil, problem.New(problem.Invalid, "placements", "the plan is empty").WithRemedy("to place nothing, release the evaluation with a reason")
	}
	d.mu.Lock()
	r, i, err := d.claim(q.GetLease(), q.GetEvaluationId())
	loop := d.loop
	d.mu.Unlock()
	if err != nil {
		return nil, err
	}
	if loop == nil {
		return nil, errClosed()
	}
	resp, err := loop.Submit(ctx, i.job.namespace, i.job.name, q.GetEvaluationId(), &plan.Plan{
		Scheduler: r.info.GetName(), Revision: q.GetRevision(), Placements: q.GetPlacements(), Stops: q.GetStops(), Atomic: q.GetAtomic(),
	})
	d.mu.Lock()
	defer d.mu.Unlock()
	if errors.Is(err, plan.ErrNotOffered) {
		return nil, problem.New(problem.Conflict, "evaluation_id", "%s", d.whyNot(r, q.GetEvaluationId())).WithRemedy("claim what there is")
	}
	if err != nil {
		return nil, err
	}
	for _, p := range resp.GetPlacements() {
		if p.GetConflict() != nil {
			r.info.Conflicts++
		} else {
			r.info.Placed++
		}
	}
	return resp, nil
}

// List lists the schedulers and what waits.
func (d *Desk) List(q *berthv1.ListSchedulersRequest) (*berthv1.ListSchedulersResponse, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return nil, errClosed()
	}
	out := &berthv1.ListSchedulersResponse{}
	for name, queue := range d.queues {
		if q.GetName() != "" && q.GetName() != name {
			continue
		}
		out.Queues = append(out.Queues, queue.count(d.jobs))
		for r := range queue.registered {
			out.Schedulers = append(out.Schedulers, r.message())
		}
	}
	slices.SortFunc(out.Queues, func(a, b *berthv1.SchedulerQueue) int { return strings.Compare(a.GetScheduler(), b.GetScheduler()) })
	slices.SortFunc(out.Schedulers, func(a, b *berthv1.Scheduler) int {
		if c := strings.Compare(a.GetName()+"\x00"+a.GetInstance(), b.GetName()+"\x00"+b.GetInstance()); c != 0 {
			return c
		}
		return a.GetRegisterTime().AsTime().Compare(b.GetRegisterTime().AsTime())
	})
	return out, nil
}

// message is a registration without its key.
func (r *registration) message() *berthv1.Scheduler {
	s := &berthv1.Scheduler{Name: r.info.GetName(), Instance: r.info.GetInstance(), Description: r.info.GetDescription(),
		Namespaces: r.info.GetNamespaces(), NodePools: r.info.GetNodePools(), RegisterTime: r.info.GetRegisterTime(),
		ExpireTime: timestamp(r.expires), ClaimTime: r.info.GetClaimTime(), Placed: r.info.GetPlaced(), Conflicts: r.info.GetConflicts()}
	for i := range r.claims {
		s.Claims = append(s.Claims, &berthv1.SchedulerClaim{EvaluationId: i.id(), Namespace: i.job.namespace, Job: i.job.name,
			Priority: i.Evaluation.GetJob().GetPriority(), ClaimTime: timestamp(i.claimed), ExpireTime: timestamp(i.expires), Left: uint32(i.Left)})
	}
	slices.SortFunc(s.Claims, func(a, b *berthv1.SchedulerClaim) int {
		return strings.Compare(a.GetEvaluationId(), b.GetEvaluationId())
	})
	return s
}

// timestamp is a time; nil for none.
func timestamp(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}
