package server

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/server/external"
	"github.com/berthd/berth/server/fsm"
	"github.com/berthd/berth/server/plan"
	"github.com/berthd/berth/server/schedule"
)

// leader is what only the leader does: it names the cluster, places, runs schedules, finds
// late nodes, collects what is over.
type leader struct {
	server *Server
	loop   atomic.Pointer[plan.Loop] // of the newest term; nil before the first
	// schedulers is where external ones are looked after; nil while others lead.
	schedulers atomic.Pointer[external.Desk]
}

func newLeader(s *Server) *leader { return &leader{server: s} }

// reign runs until ctx ends, which it does when this server leads no longer.
func (l *leader) reign(ctx context.Context, term uint64) {
	s := l.server
	log := s.log.With("part", "leader", "term", term)
	if err := l.foundCluster(ctx); err != nil {
		log.Warn("the cluster could not be named; the next leader does", "error", err)
	}
	var wg sync.WaitGroup
	desk := external.New(s.log.With("part", "schedulers", "term", term))
	loop := plan.New(plan.Config{Store: s.store, Proposer: s.cluster, External: desk, Logger: s.log.With("part", "plan", "term", term)})
	l.loop.Store(loop)
	l.schedulers.Store(desk)
	defer l.schedulers.Store(nil)
	wg.Go(func() { l.report(log.Error, "planning", loop.Run(ctx)) })
	wg.Go(func() {
		l.report(log.Error, "running schedules", schedule.New(s.store, s.cluster, s.log.With("part", "schedules", "term", term)).Run(ctx))
	})
	wg.Go(func() { l.report(log.Error, "looking after schedulers", desk.Run(ctx, loop)) })
	wg.Go(func() { l.report(log.Error, "finding late nodes", s.dispatch.Lead(ctx)) })
	s.cluster.setLeads(true)
	defer s.cluster.setLeads(false)
	wg.Wait()
}

func (l *leader) report(say func(string, ...any), what string, err error) {
	if quiet(err) != nil {
		say("the leader stopped "+what, "error", err)
	}
}

// foundCluster proposes a new cluster's first entry.
func (l *leader) foundCluster(ctx context.Context) error {
	s := l.server
	if s.store.View().ClusterID() != "" {
		return nil
	}
	_, err := s.cluster.Propose(ctx, fsm.NewEntry(time.Now(), func(e *berthv1.LogEntry) {
		e.Fact = &berthv1.LogEntry_ClusterCreated{ClusterCreated: &berthv1.ClusterCreated{ClusterId: uuid.NewString()}}
	}))
	return err
}

// desk is where external schedulers are looked after; nil while others lead.
func (l *leader) desk() *external.Desk { return l.schedulers.Load() }

// DryRun implements api.Planner.
func (l *leader) DryRun(_ context.Context, job *berthv1.Job) ([]*berthv1.GroupOutcome, error) {
	return plan.DryRun(l.server.store.View(), job, time.Now())
}

// Rollout implements api.Planner.
func (l *leader) Rollout(_ context.Context, job *berthv1.Job) ([]string, error) {
	return plan.Rollout(l.server.store.View(), job, time.Now()), nil
}

// Rebalance implements api.Planner.
func (l *leader) Rebalance(_ context.Context, q *berthv1.PlanRebalanceRequest) (*berthv1.RebalancePlan, error) {
	return plan.Rebalance(l.server.store.View(), q, time.Now()), nil
}

// CollectGarbage implements api.Planner.
func (l *leader) CollectGarbage(ctx context.Context) (*berthv1.CollectGarbageResponse, error) {
	g, err := plan.CollectGarbageNow(ctx, l.server.store, l.server.cluster)
	if err != nil {
		return nil, err
	}
	return &berthv1.CollectGarbageResponse{
		Jobs: uint32(len(g.Jobs)), Allocs: uint32(len(g.Allocs)), Evaluations: uint32(len(g.Evaluations)), Nodes: uint32(len(g.Nodes)),
	}, nil
}

// planStats are the counters of the newest term that this server led.
func (l *leader) planStats() plan.Stats {
	if loop := l.loop.Load(); loop != nil {
		return loop.Stats()
	}
	return plan.Stats{}
}
