package plan

import (
	"slices"
	"strings"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/scheduler"
)

// claim keeps a node for a job while what gives way to it ends: nothing of the same or
// a lower priority is placed there meanwhile. Claims are the leader's memory. A new
// leader makes them anew of what the victims say that they give way to, and each look
// at a job works out again which of them it needs.
type claim struct {
	j       *job
	node    string
	closing *berthv1.Alloc // what keeps the node closed in the fleet
}

// claim adds claims of a job; nodes may be there twice, or be claimed by it already.
func (l *Loop) claim(j *job, nodes []string) {
	for _, node := range nodes {
		if slices.ContainsFunc(l.claims[node], func(c *claim) bool { return c.j == j }) {
			continue
		}
		c := &claim{j: j, node: node, closing: scheduler.Closing(node)}
		l.claims[node] = append(l.claims[node], c)
		j.claims = append(j.claims, c)
		l.fleet.ChangeAlloc(nil, c.closing)
	}
}

// unclaim gives up a job's claims, but for those on nodes to keep.
func (l *Loop) unclaim(j *job, keep []string) {
	if len(j.claims) == 0 {
		return
	}
	kept := make(map[string]bool, len(keep))
	for _, node := range keep {
		kept[node] = true
	}
	j.claims = slices.DeleteFunc(j.claims, func(c *claim) bool {
		if kept[c.node] {
			return false
		}
		l.claims[c.node] = slices.DeleteFunc(l.claims[c.node], func(o *claim) bool { return o == c })
		if len(l.claims[c.node]) == 0 {
			delete(l.claims, c.node)
		}
		l.fleet.ChangeAlloc(c.closing, nil)
		l.freed(c.node)
		return true
	})
}

// opened calls fn while the nodes that a job has claimed, or that jobs of a lower
// priority have, are open.
func (l *Loop) opened(j *job, fn func()) {
	open := slices.Clone(j.claims)
	if len(l.claims) > len(j.claims) {
		for node := range l.claims {
			open = append(open, l.outranked(node, j.priority)...)
		}
	}
	l.openedClaims(open, fn)
}

// outranked are the claims on a node of jobs with a lower priority.
func (l *Loop) outranked(node string, priority uint32) (out []*claim) {
	for _, c := range l.claims[node] {
		if c.j.priority < priority {
			out = append(out, c)
		}
	}
	return out
}

func (l *Loop) openedClaims(open []*claim, fn func()) {
	for _, c := range open {
		l.fleet.ChangeAlloc(c.closing, nil)
	}
	fn()
	for _, c := range open {
		l.fleet.ChangeAlloc(nil, c.closing)
	}
}

// claimAgain makes the claims that the last leader had: of jobs that wait, on the nodes
// of what was told to give way to them. Each of those jobs is looked at first of all.
func (l *Loop) claimAgain(evicted []*berthv1.Alloc) []*job {
	var owners []*job
	for _, a := range evicted {
		j := l.jobs[preemptor(a.GetPreemptedBy())]
		if j == nil || j.blockedEval == nil {
			continue
		}
		l.claim(j, []string{a.GetNodeId()})
		if !slices.Contains(owners, j) {
			owners = append(owners, j)
		}
	}
	return owners
}

// preemptor is the job in the words "namespace/job/group".
func preemptor(by string) jobKey {
	namespace, rest, _ := strings.Cut(by, "/")
	name, _, _ := strings.Cut(rest, "/")
	return jobKey{namespace, name}
}
