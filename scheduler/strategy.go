package scheduler

import berthv1 "github.com/berthd/berth/proto/berth/v1"

// strategy is how a group's nodes are chosen, where its job says so.
type strategy struct {
	own  bool // else as the cluster is configured
	kind berthv1.SchedulerConfig_Strategy
}

func compileStrategy(s string) (strategy, error) {
	if s == "" {
		return strategy{}, nil
	}
	kind, known := berthv1.SchedulerConfig_Strategy_value[s]
	if !known {
		return strategy{}, invalid("strategy", "%q is neither \"binpack\" nor \"spread\"", s)
	}
	return strategy{own: true, kind: berthv1.SchedulerConfig_Strategy(kind)}, nil
}

// of is the strategy on a fleet that is configured so.
func (s strategy) of(cluster berthv1.SchedulerConfig_Strategy) berthv1.SchedulerConfig_Strategy {
	if s.own {
		return s.kind
	}
	return cluster
}
