package command

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

func (a *app) operatorCommands() *cobra.Command {
	return a.group("operator", "Look after the servers themselves", "",
		a.group("raft", "The Raft set", "", a.raftList(), a.raftRemove(), a.raftTransfer()),
		a.group("snapshot", "Back the whole state up, and restore it", "", a.snapshotSave(), a.snapshotRestore(), a.snapshotInspect()),
		a.group("scheduler", "How the cluster places", "", a.schedulerGet(), a.schedulerSet()),
		a.operatorRebalance(),
	)
}

func (a *app) raftList() *cobra.Command {
	var o output
	cmd := a.leaf("list", "List the servers of the Raft set, and how far each is", "", func(ctx context.Context, _ []string) error {
		c, err := a.api()
		if err != nil {
			return err
		}
		r, err := c.Operator.GetRaft(ctx, &berthv1.GetRaftRequest{})
		if err != nil {
			return err
		}
		return a.show(&o, r, func() error {
			t := newTable(column{title: "SERVER"}, column{title: "NAME", shrink: 8}, column{title: "ADDRESS", drop: 2}, column{title: "ROLE"}, column{title: "HEARD"}, column{title: "BEHIND", right: true, drop: 1})
			for _, p := range r.GetPeers() {
				role, heard := cell{text: "follower"}, cell{text: "yes", style: good}
				if !p.GetVoter() {
					role = cell{text: "non-voter"}
				}
				if p.GetLeader() {
					role = cell{text: "leader", style: strong}
				}
				if !p.GetAlive() {
					heard = cell{text: "no", style: bad}
				}
				t.add(shortID(p.GetId()), p.GetName(), p.GetAddress(), role, heard, p.GetBehind())
			}
			if err := a.table(t); err != nil {
				return err
			}
			a.printf("term %d, committed %d, applied %d\n", r.GetTerm(), r.GetCommitted(), r.GetApplied())
			return nil
		})
	})
	o.register(cmd)
	return cmd
}

func (a *app) raftRemove() *cobra.Command {
	var yes bool
	cmd := a.leaf("remove SERVER", "Take a server out of the Raft set for good", "For a server that is dead: one that lives leaves by `berth server leave`. SERVER is an id, a unique prefix of one, or a name.",
		func(ctx context.Context, args []string) error {
			c, err := a.api()
			if err != nil {
				return err
			}
			r, err := c.Operator.GetRaft(ctx, &berthv1.GetRaftRequest{})
			if err != nil {
				return err
			}
			p, err := findPeer(r.GetPeers(), args[0])
			if err != nil {
				return err
			}
			if err := a.confirm(yes, "Take server %s (%s) out of the Raft set for good?", or(p.GetName(), p.GetId()), p.GetAddress()); err != nil {
				return err
			}
			if _, err := c.Operator.RemoveRaftPeer(ctx, &berthv1.RemoveRaftPeerRequest{ServerId: p.GetId()}); err != nil {
				return err
			}
			a.printf("%s is out of the Raft set.\n", or(p.GetName(), p.GetId()))
			return nil
		})
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask before something is lost for good")
	cmd.ValidArgsFunction = a.completePeers
	return cmd
}

// findPeer finds a server by its id, name, address or a unique prefix of its id.
func findPeer(peers []*berthv1.RaftPeer, name string) (*berthv1.RaftPeer, error) {
	var found []*berthv1.RaftPeer
	for _, p := range peers {
		if p.GetId() == name || p.GetName() == name || p.GetAddress() == name {
			return p, nil
		}
		if name != "" && len(p.GetId()) > len(name) && p.GetId()[:len(name)] == name {
			found = append(found, p)
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return nil, problem.New(problem.NotFound, name, "no server of the Raft set has this id or name").
			WithRemedy("`berth operator raft list` shows them")
	}
	return nil, problem.New(problem.Invalid, name, "%d servers have ids that begin so", len(found)).WithRemedy("give more of the id")
}

func (a *app) raftTransfer() *cobra.Command {
	cmd := a.leaf("transfer [SERVER]", "Have another server lead", "Without SERVER: the one that is furthest.",
		func(ctx context.Context, args []string) error {
			c, err := a.api()
			if err != nil {
				return err
			}
			req := &berthv1.TransferLeadershipRequest{}
			to := "another server"
			if len(args) > 0 {
				r, err := c.Operator.GetRaft(ctx, &berthv1.GetRaftRequest{})
				if err != nil {
					return err
				}
				p, err := findPeer(r.GetPeers(), args[0])
				if err != nil {
					return err
				}
				req.ServerId, to = p.GetId(), or(p.GetName(), p.GetId())
			}
			if _, err := c.Operator.TransferLeadership(ctx, req); err != nil {
				return err
			}
			a.printf("Leadership goes to %s.\n", to)
			return nil
		})
	cmd.ValidArgsFunction = a.completePeers
	return cmd
}

func (a *app) schedulerGet() *cobra.Command {
	var o output
	cmd := a.leaf("get", "Show how the cluster places", "", func(ctx context.Context, _ []string) error {
		c, err := a.api()
		if err != nil {
			return err
		}
		cfg, err := c.Operator.GetSchedulerConfig(ctx, &berthv1.GetSchedulerConfigRequest{})
		if err != nil {
			return err
		}
		return a.show(&o, cfg, func() error { a.printScheduler(cfg); return nil })
	})
	o.register(cmd)
	return cmd
}

func (a *app) printScheduler(cfg *berthv1.SchedulerConfig) {
	a.printf("strategy    %s\n", cfg.GetStrategy())
	paused := "no"
	if cfg.GetPaused() {
		paused = a.paint(warn, "yes") + ": nothing is placed; what runs goes on"
	}
	a.printf("paused      %s\n", paused)
	preemption := "yes"
	if cfg.GetNoPreemption() {
		preemption = "no: nothing running gives way to what has a higher priority"
	}
	a.printf("preemption  %s\n", preemption)
}

func (a *app) schedulerSet() *cobra.Command {
	var o output
	var strategy string
	var paused, preemption bool
	cmd := a.leaf("set", "Change how the cluster places", "What no flag names stays as it is.", nil)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		ctx := cmd.Context()
		changed := cmd.Flags().Changed
		if !changed("strategy") && !changed("paused") && !changed("preemption") {
			return usageError(cmd, "nothing to change was given")
		}
		c, err := a.api()
		if err != nil {
			return err
		}
		cfg, err := c.Operator.GetSchedulerConfig(ctx, &berthv1.GetSchedulerConfigRequest{})
		if err != nil {
			return err
		}
		if changed("strategy") {
			n, ok := berthv1.SchedulerConfig_Strategy_value[strategy]
			if !ok {
				return problem.New(problem.Invalid, "-strategy", "there is no strategy %q", strategy).WithRemedy("use binpack or spread")
			}
			cfg.Strategy = berthv1.SchedulerConfig_Strategy(n)
		}
		if changed("paused") {
			cfg.Paused = paused
		}
		if changed("preemption") {
			cfg.NoPreemption = !preemption
		}
		// Checked: somebody else's change in between is not lost.
		req := &berthv1.SetSchedulerConfigRequest{Config: cfg, Check: true, CheckRevision: cfg.GetModifyRevision()}
		if cfg, err = c.Operator.SetSchedulerConfig(ctx, req); err != nil {
			return err
		}
		return a.show(&o, cfg, func() error { a.printScheduler(cfg); return nil })
	}
	cmd.Flags().StringVar(&strategy, "strategy", "", "`strategy`: binpack fills nodes one after another, spread evens out the load")
	cmd.Flags().BoolVar(&paused, "paused", false, "place nothing; -paused=false goes on")
	cmd.Flags().BoolVar(&preemption, "preemption", true, "what runs gives way to what has a higher priority; -preemption=false: nothing does")
	o.register(cmd)
	return cmd
}
