package plan

// turns has the jobs that wait for their turn. Those that nobody has looked at yet go
// before those of which a slice is done already, so that a small job does not wait for
// the large ones before it; now and then a large one goes on nevertheless.
type turns struct {
	fresh, begun []*job
	passed       int // fresh ones since a begun one had its turn
}

// freshTurns is how many jobs may overtake those that were begun before one of these
// goes on.
const freshTurns = 8

func (t *turns) len() int { return len(t.fresh) + len(t.begun) }

func (t *turns) push(j *job) {
	if j.work == nil {
		t.fresh = append(t.fresh, j)
	} else {
		t.begun = append(t.begun, j)
	}
}

// next takes out whose turn it is; nil: nobody waits. Without more, jobs that were begun
// go on waiting.
func (t *turns) next(more bool) *job {
	queue := &t.fresh
	switch {
	case !more:
	case len(t.fresh) == 0 || len(t.begun) > 0 && t.passed >= freshTurns:
		queue, t.passed = &t.begun, 0
	default:
		t.passed++
	}
	if len(*queue) == 0 {
		return nil
	}
	j := (*queue)[0]
	(*queue)[0] = nil
	*queue = (*queue)[1:]
	return j
}
