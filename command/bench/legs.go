package bench

import (
	"sync"
	"time"
)

// Legs is where the time of a small job goes that is submitted under load, from its
// submission until its allocation is durable.
type Legs struct {
	// ToLeader: until the leader proposes the job; Registered: from there until it is in
	// the leader's state; Planned: until the round begins that places it; Placed: until
	// its allocation is in the leader's state.
	ToLeader   Quantiles `json:"to_leader"`
	Registered Quantiles `json:"registered"`
	Planned    Quantiles `json:"planned"`
	Placed     Quantiles `json:"placed"`
}

// legs takes down when what happened to small jobs. The times that the log has are the
// leader's, which is this process.
type legs struct {
	mu   sync.Mutex
	jobs map[string]*journey
}

// journey is one small job's.
type journey struct{ submitted, proposed, registered, planned, placed time.Time }

func newLegs() *legs { return &legs{jobs: map[string]*journey{}} }

func (l *legs) note(job string, note func(*journey)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	j := l.jobs[job]
	if j == nil {
		j = &journey{}
		l.jobs[job] = j
	}
	note(j)
}

// result is over those that were placed.
func (l *legs) result() Legs {
	l.mu.Lock()
	defer l.mu.Unlock()
	var toLeader, registered, planned, placed []time.Duration
	for _, j := range l.jobs {
		if j.placed.IsZero() {
			continue
		}
		toLeader = append(toLeader, j.proposed.Sub(j.submitted))
		registered = append(registered, j.registered.Sub(j.proposed))
		planned = append(planned, j.planned.Sub(j.registered))
		placed = append(placed, j.placed.Sub(j.planned))
	}
	return Legs{ToLeader: quantiles(toLeader), Registered: quantiles(registered), Planned: quantiles(planned), Placed: quantiles(placed)}
}
