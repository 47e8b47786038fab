package external

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/server/plan"
)

// fakeLoop commits everything, and remembers what it was told.
type fakeLoop struct {
	desk   *Desk
	refuse error

	mu   sync.Mutex
	told []string
}

// reasons is what people were told.
func (l *fakeLoop) reasons() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.told)
}

func (l *fakeLoop) Submit(_ context.Context, namespace, job, _ string, _ *plan.Plan) (*berthv1.SubmitPlanResponse, error) {
	if l.refuse != nil {
		return nil, l.refuse
	}
	l.desk.Withdraw(namespace, job, "everything is placed")
	return &berthv1.SubmitPlanResponse{Done: true, Placements: []*berthv1.PlacementResult{{}}}, nil
}

func (l *fakeLoop) Explain(_ context.Context, _, job, _ string, why *plan.Reason) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.told = append(l.told, job+": "+why.Text)
	return nil
}

type bench struct {
	*Desk
	t    *testing.T
	loop *fakeLoop
}

// desk runs a desk in a bubble.
func desk(t *testing.T, test func(b *bench)) {
	synctest.Test(t, func(t *testing.T) {
		d := New(slog.New(slog.DiscardHandler))
		b := &bench{d, t, &fakeLoop{desk: d}}
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error)
		go func() { done <- d.Run(ctx, b.loop) }()
		synctest.Wait()
		defer func() {
			cancel()
			<-done
		}()
		test(b)
	})
}

func (b *bench) offer(scheduler, job string, priority uint32) {
	b.Offer(plan.Offer{Scheduler: scheduler, Left: 1, Evaluation: &berthv1.ClaimedEvaluation{EvaluationId: "eval-" + job,
		Job: &berthv1.Job{Namespace: "default", Name: job, Priority: priority, Scheduler: scheduler}}})
}

func (b *bench) register(name string, ttl time.Duration) string {
	b.t.Helper()
	r, err := b.Register(&berthv1.RegisterSchedulerRequest{Name: name, Ttl: durationpb.New(ttl)})
	if err != nil {
		b.t.Fatal(err)
	}
	return r.GetLease()
}

// claims gives the jobs that a claim brings, and how long it took.
func (b *bench) claims(lease string, n uint32, wait time.Duration) (string, time.Duration) {
	b.t.Helper()
	began := time.Now()
	r, err := b.Claim(context.Background(), &berthv1.ClaimEvaluationsRequest{Lease: lease, Max: n, Wait: durationpb.New(wait)})
	if err != nil {
		b.t.Fatal(err)
	}
	var jobs []string
	for _, e := range r.GetEvaluations() {
		jobs = append(jobs, e.GetJob().GetName())
	}
	return strings.Join(jobs, " "), time.Since(began)
}

func (b *bench) wantClaim(lease string, n uint32, want string) {
	b.t.Helper()
	if got, _ := b.claims(lease, n, 0); got != want {
		b.t.Fatalf("claimed %q, want %q", got, want)
	}
}

func (b *bench) submit(lease, job string) error {
	_, err := b.Submit(context.Background(), &berthv1.SubmitPlanRequest{Lease: lease, EvaluationId: "eval-" + job,
		Placements: []*berthv1.PlannedInstance{{Group: "g"}}})
	return err
}

func (b *bench) wantError(err error, kind problem.Kind, says string) {
	b.t.Helper()
	if !problem.Is(err, kind) || !strings.Contains(err.Error(), says) {
		b.t.Fatalf("%v, want %s with %q", err, kind, says)
	}
}

func TestTheMostUrgentFirst(t *testing.T) {
	desk(t, func(b *bench) {
		mine, other := b.register("mine", time.Minute), b.register("other", time.Minute)
		b.offer("mine", "low", 10)
		b.offer("mine", "first", 50)
		b.offer("mine", "second", 50)
		b.offer("mine", "high", 90)
		b.offer("other", "theirs", 99)
		b.wantClaim(mine, 3, "high first second")
		b.wantClaim(mine, 3, "low")
		b.wantClaim(mine, 3, "")
		b.wantClaim(other, 3, "theirs")
	})
}

func TestAClaimWaits(t *testing.T) {
	desk(t, func(b *bench) {
		lease := b.register("mine", 2*time.Second)
		time.AfterFunc(30*time.Second, func() { b.offer("mine", "web", 50) })
		if jobs, took := b.claims(lease, 1, 40*time.Second); jobs != "web" || took != 30*time.Second {
			t.Fatalf("%q after %s; waiting keeps the registration alive", jobs, took)
		}
		b.Withdraw("default", "web", "it is placed")
		if jobs, took := b.claims(lease, 1, time.Hour); jobs != "" || took != maxWait {
			t.Fatalf("%q after %s, want nothing after %s", jobs, took, maxWait)
		}
	})
}

// TestADeadSchedulersWorkGoesToAnother: the claim outlives its holder by its lease, and
// no longer.
func TestADeadSchedulersWorkGoesToAnother(t *testing.T) {
	desk(t, func(b *bench) {
		b.offer("mine", "web", 50)
		dead := b.register("mine", 10*time.Second)
		b.wantClaim(dead, 1, "web")
		next := b.register("mine", time.Minute)
		if jobs, took := b.claims(next, 1, 40*time.Second); jobs != "web" || took < 10*time.Second || took > 11*time.Second {
			t.Fatalf("%q after %s", jobs, took)
		}
		b.wantError(b.submit(dead, "web"), problem.NotFound, "no such lease")
		if err := b.submit(next, "web"); err != nil {
			t.Fatal(err)
		}
		b.wantError(b.submit(next, "web"), problem.Conflict, "everything is placed")
	})
}

func TestRenewal(t *testing.T) {
	desk(t, func(b *bench) {
		b.offer("mine", "web", 50)
		b.offer("mine", "db", 50)
		lease := b.register("mine", 10*time.Second)
		b.wantClaim(lease, 2, "web db")
		for range 5 { // only one of them is renewed
			time.Sleep(6 * time.Second)
			r, err := b.Renew(&berthv1.RenewLeaseRequest{Lease: lease, EvaluationIds: []string{"eval-web"}})
			if err != nil || len(r.GetEvaluations()) != 1 {
				t.Fatal(r, err)
			}
		}
		r, err := b.Renew(&berthv1.RenewLeaseRequest{Lease: lease, EvaluationIds: []string{"eval-web", "eval-db", "nonsense"}})
		if err != nil || len(r.GetEvaluations()) != 1 || len(r.GetLost()) != 2 || !strings.Contains(r.GetLost()[0].GetReason(), "ran out") {
			t.Fatal(r, err)
		}
		if r, err := b.Renew(&berthv1.RenewLeaseRequest{Lease: lease, All: true}); err != nil || len(r.GetEvaluations()) != 1 || len(r.GetLost()) != 0 {
			t.Fatal(r, err)
		}
		b.wantError(b.submit(lease, "db"), problem.Conflict, "ran out")
		time.Sleep(10 * time.Second)
		_, err = b.Renew(&berthv1.RenewLeaseRequest{Lease: lease})
		b.wantError(err, problem.NotFound, "no such lease")
	})
}

func TestReleased(t *testing.T) {
	desk(t, func(b *bench) {
		b.offer("mine", "web", 50)
		lease := b.register("mine", time.Minute)
		release := func(q *berthv1.ReleaseEvaluationRequest) error {
			q.Lease, q.EvaluationId = lease, "eval-web"
			_, err := b.Release(context.Background(), q)
			return err
		}
		b.wantClaim(lease, 1, "web")
		if err := release(&berthv1.ReleaseEvaluationRequest{}); err != nil {
			t.Fatal(err)
		}
		b.wantClaim(lease, 1, "web") // without a reason: at once
		if err := release(&berthv1.ReleaseEvaluationRequest{Reason: "no rack is cool enough"}); err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprint(b.loop.reasons()); got != "[web: scheduler mine: no rack is cool enough]" {
			t.Fatal(got)
		}
		b.wantError(release(&berthv1.ReleaseEvaluationRequest{}), problem.Conflict, "given back")
		time.Sleep(time.Minute / 2)
		b.wantClaim(lease, 1, "")
		b.Stirred() // something was freed
		b.wantClaim(lease, 1, "web")
		if err := release(&berthv1.ReleaseEvaluationRequest{Reason: "later", RetryAfter: durationpb.New(20 * time.Second)}); err != nil {
			t.Fatal(err)
		}
		if jobs, took := b.claims(lease, 1, 40*time.Second); jobs != "web" || took < 20*time.Second || took > 21*time.Second {
			t.Fatalf("%q after %s", jobs, took)
		}
		b.wantError(release(&berthv1.ReleaseEvaluationRequest{Remedies: []string{"x"}}), problem.Invalid, "reason")
	})
}

func TestSupersededAndWithdrawn(t *testing.T) {
	desk(t, func(b *bench) {
		lease := b.register("mine", time.Minute)
		b.offer("mine", "web", 50)
		b.wantClaim(lease, 1, "web")
		b.offer("mine", "web", 50) // the same evaluation: still claimed
		b.wantClaim(lease, 1, "")
		b.Offer(plan.Offer{Scheduler: "mine", Evaluation: &berthv1.ClaimedEvaluation{EvaluationId: "newer", Job: &berthv1.Job{Namespace: "default", Name: "web"}}})
		b.wantError(b.submit(lease, "web"), problem.Conflict, "evaluation newer of the job took over")
		b.wantClaim(lease, 1, "web")
		b.Withdraw("default", "web", "the job is gone")
		_, err := b.Release(context.Background(), &berthv1.ReleaseEvaluationRequest{Lease: lease, EvaluationId: "newer"})
		b.wantError(err, problem.Conflict, "the job is gone")
		b.offer("mine", "db", 50)
		b.loop.refuse = plan.ErrNotOffered // the loop knows better
		b.wantClaim(lease, 1, "db")
		b.wantError(b.submit(lease, "db"), problem.Conflict, "db")
		b.Reset()
		b.loop.refuse = nil
		b.wantError(b.submit(lease, "db"), problem.Conflict, "read anew")
	})
}

func TestPeopleAreToldThatNobodyComes(t *testing.T) {
	desk(t, func(b *bench) {
		b.offer("mine", "web", 50)
		time.Sleep(Overdue + time.Second)
		if got := fmt.Sprint(b.loop.reasons()); !strings.Contains(got, "scheduler mine has claimed nothing since this leader came, at 00:00:00 UTC; nobody is registered") {
			t.Fatal(got)
		}
		time.Sleep(time.Hour)
		if len(b.loop.reasons()) != 1 {
			t.Fatal("told more than once", b.loop.reasons())
		}
		lease := b.register("mine", time.Minute)
		b.wantClaim(lease, 1, "web")
		time.Sleep(3 * time.Minute) // it dies
		if len(b.loop.reasons()) != 2 || !strings.Contains(b.loop.reasons()[1], "since 01:00:1") {
			t.Fatal(b.loop.reasons())
		}
		if _, err := b.Register(&berthv1.RegisterSchedulerRequest{Name: "mine", Namespaces: []string{"other"}, Ttl: durationpb.New(10 * time.Minute)}); err != nil {
			t.Fatal(err)
		}
		b.Offer(plan.Offer{Scheduler: "mine", Evaluation: &berthv1.ClaimedEvaluation{EvaluationId: "e2", Job: &berthv1.Job{Namespace: "default", Name: "web"}}})
		time.Sleep(Overdue + time.Second)
		if got := b.loop.reasons()[len(b.loop.reasons())-1]; !strings.Contains(got, "takes jobs of this namespace") {
			t.Fatal(got)
		}
	})
}

func TestWhatASchedulerTakes(t *testing.T) {
	desk(t, func(b *bench) {
		r, err := b.Register(&berthv1.RegisterSchedulerRequest{Name: "mine", Namespaces: []string{"a"}, NodePools: []string{"gpu"}})
		if err != nil {
			t.Fatal(err)
		}
		for _, j := range []*berthv1.Job{{Namespace: "a", Name: "1", NodePool: "gpu"}, {Namespace: "b", Name: "2", NodePool: "gpu"}, {Namespace: "a", Name: "3"}} {
			b.Offer(plan.Offer{Scheduler: "mine", Evaluation: &berthv1.ClaimedEvaluation{EvaluationId: "eval-" + j.GetName(), Job: j}})
		}
		b.wantClaim(r.GetLease(), 9, "1")
		b.wantClaim(b.register("mine", time.Minute), 9, "2 3")
	})
}

func TestListAndDeregister(t *testing.T) {
	desk(t, func(b *bench) {
		b.offer("mine", "web", 50)
		b.offer("mine", "db", 50)
		b.offer("nobody", "x", 50)
		lease := b.register("mine", time.Minute)
		b.wantClaim(lease, 1, "web")
		r, err := b.List(&berthv1.ListSchedulersRequest{})
		if err != nil || len(r.GetSchedulers()) != 1 || len(r.GetQueues()) != 2 {
			t.Fatal(r, err)
		}
		if q := r.GetQueues()[0]; q.GetOpen() != 1 || q.GetClaimed() != 1 || q.GetRegistered() != 1 {
			t.Error(q)
		}
		if q := r.GetQueues()[1]; q.GetScheduler() != "nobody" || q.GetOpen() != 1 || q.GetRegistered() != 0 {
			t.Error(q)
		}
		if c := r.GetSchedulers()[0].GetClaims(); len(c) != 1 || c[0].GetJob() != "web" {
			t.Error(c)
		}
		if text := fmt.Sprint(r); strings.Contains(text, lease) {
			t.Error("the list shows a lease:", text)
		}
		if r, err := b.Deregister(&berthv1.DeregisterSchedulerRequest{Lease: lease}); err != nil || r.GetReleased() != 1 {
			t.Fatal(r, err)
		}
		_, err = b.Deregister(&berthv1.DeregisterSchedulerRequest{Lease: lease})
		b.wantError(err, problem.NotFound, "lease")
		b.wantClaim(b.register("mine", time.Minute), 9, "web db")
	})
}

func TestGarbage(t *testing.T) {
	desk(t, func(b *bench) {
		for _, q := range []*berthv1.RegisterSchedulerRequest{
			{}, {Name: "Mine"}, {Name: "berth"}, {Name: strings.Repeat("a", 65)},
			{Name: "a", Ttl: durationpb.New(time.Millisecond)}, {Name: "a", Ttl: durationpb.New(time.Hour)},
			{Name: "a", Description: strings.Repeat("x", 2000)}, {Name: "a", Namespaces: make([]string, 100)},
		} {
			_, err := b.Register(q)
			b.wantError(err, problem.Invalid, "")
		}
		lease := b.register("mine", time.Minute)
		_, err := b.Claim(context.Background(), &berthv1.ClaimEvaluationsRequest{Lease: lease, Max: 1000})
		b.wantError(err, problem.Invalid, "too many")
		for _, q := range []*berthv1.SubmitPlanRequest{{}, {Lease: lease}, {Lease: lease, Stops: make([]string, 600)}, {Lease: lease, Placements: make([]*berthv1.PlannedInstance, 600)}} {
			_, err := b.Submit(context.Background(), q)
			b.wantError(err, problem.Invalid, "plan")
		}
		b.wantError(b.submit("nonsense", "web"), problem.NotFound, "lease")
		b.wantError(b.submit(lease, "web"), problem.Conflict, "not there")
		b.offer("mine", "web", 50)
		b.wantError(b.submit(lease, "web"), problem.Conflict, "not claimed by this scheduler")
	})
}

func TestWhoWaitsIsToldThatTheTermIsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := New(slog.New(slog.DiscardHandler))
		ctx, cancel := context.WithCancel(context.Background())
		go func() { _ = d.Run(ctx, &fakeLoop{desk: d}) }()
		r, err := d.Register(&berthv1.RegisterSchedulerRequest{Name: "mine"})
		if err != nil {
			t.Fatal(err)
		}
		time.AfterFunc(time.Second, cancel)
		began := time.Now()
		_, err = d.Claim(context.Background(), &berthv1.ClaimEvaluationsRequest{Lease: r.GetLease(), Wait: durationpb.New(40 * time.Second)})
		if err == nil || time.Since(began) != time.Second {
			t.Fatal(err, time.Since(began))
		}
		if _, err := d.Register(&berthv1.RegisterSchedulerRequest{Name: "mine"}); err == nil {
			t.Fatal("registered after the end")
		}
	})
}
