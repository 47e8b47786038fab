package runner

import (
	"fmt"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// part is what a task is in the life of its group, in the order in which they start.
type part int

const (
	// partBefore ends before the main tasks start.
	partBefore part = iota
	// partBeforeSidecar has started before the main tasks do, and runs beside them.
	partBeforeSidecar
	partMain
	// partAfter starts when the main tasks have, and runs to its own end.
	partAfter
	// partAfterSidecar starts when the main tasks have, and runs beside them.
	partAfterSidecar
	// partLast runs when all others have ended.
	partLast
)

func partOf(t *berthv1.Task) part {
	sidecar := t.GetLifecycle().GetSidecar()
	switch t.GetLifecycle().GetHook() {
	case "prestart":
		if sidecar {
			return partBeforeSidecar
		}
		return partBefore
	case "poststart":
		if sidecar {
			return partAfterSidecar
		}
		return partAfter
	case "poststop":
		return partLast
	}
	return partMain
}

func (p part) sidecar() bool { return p == partBeforeSidecar || p == partAfterSidecar }

// member is a task as its group sees it.
type member struct {
	part   part
	leader bool
	state  *berthv1.TaskState
}

func (m member) dead() bool   { return m.state.GetPhase() == berthv1.TaskState_dead }
func (m member) failed() bool { return m.dead() && m.state.GetFailed() }

// ran says that it was started at least once.
func (m member) ran() bool { return m.state.GetStartTime() != nil }

// up says that who waits for its start need not wait any more.
func (m member) up() bool { return m.ran() || m.dead() }

// directive is what the group says to one of its tasks.
type directive struct {
	// hold: it is not to start yet.
	hold bool
	// stop: why it is to end; empty: it is not.
	stop string
}

// direct says to each task of a group what it is to do: pure. stop is why the group as a
// whole is to end; empty: it is not. It needs nothing but what is published of the tasks,
// so an agent that was restarted goes on where the last one was.
//
//   - prestart tasks start at once; main tasks when those have ended and the sidecars
//     among them have started; poststart tasks when all main tasks have started;
//   - a group ends when it is told to, when a task failed for good, or with its leader:
//     everything but the sidecars is stopped at once. It also ends when all main tasks
//     have;
//   - sidecars are stopped after that, one by one, the last that started first;
//   - poststop tasks run when all others have ended, if anything ever ran. Nothing stops
//     them.
func direct(group []member, stop string) []directive {
	if stop == "" {
		stop = ending(group)
	}
	prepared := all(group, func(m member) bool {
		return m.part > partBeforeSidecar || m.dead() || m.part == partBeforeSidecar && m.up()
	})
	mainsUp := all(group, func(m member) bool { return m.part != partMain || m.up() })
	othersDead := all(group, func(m member) bool { return m.part == partLast || m.dead() })
	out := make([]directive, len(group))
	for i, m := range group {
		d := &out[i]
		switch m.part {
		case partBefore:
			d.stop = stop
		case partMain:
			d.hold, d.stop = !prepared, stop
		case partAfter:
			d.hold, d.stop = !mainsUp, stop
		case partBeforeSidecar, partAfterSidecar:
			why := stop
			if why == "" && all(group, func(m member) bool { return m.part != partMain || m.dead() }) {
				why = "the main tasks have ended"
			}
			d.hold = !m.up() && (why != "" || m.part == partAfterSidecar && !mainsUp)
			if why != "" && lastUp(group, i) {
				d.stop = why
			}
		case partLast:
			d.hold = !othersDead
			if othersDead && all(group, func(m member) bool { return !m.ran() }) {
				d.stop = "nothing of its group ever ran"
			}
		}
	}
	return out
}

// ending says why a group ends by itself, before its main tasks have; empty: it does not.
func ending(group []member) string {
	for _, m := range group {
		switch {
		case m.part == partLast:
		case m.failed():
			return fmt.Sprintf("the task %q of its group failed", m.state.GetTask())
		case m.leader && m.dead():
			return fmt.Sprintf("the leader of its group, %q, has ended", m.state.GetTask())
		}
	}
	return ""
}

// lastUp says that of all that ends before the sidecar i nothing is left: the tasks that
// are no sidecars, and the sidecars that start after it.
func lastUp(group []member, i int) bool {
	for j, m := range group {
		before := m.part != partLast && (!m.part.sidecar() || m.part > group[i].part || m.part == group[i].part && j > i)
		if before && !m.dead() {
			return false
		}
	}
	return true
}

func all(group []member, is func(member) bool) bool {
	for _, m := range group {
		if !is(m) {
			return false
		}
	}
	return true
}

// rollUp makes the alloc's status of its tasks': pure. It runs once each main task has
// been started, and has ended when every task has. A poststop task changes nothing of how
// it ended: its work was done, or had failed, before.
func rollUp(group []member) (berthv1.Alloc_Status, string) {
	var failed, failedLast, waiting *berthv1.TaskState
	before, odd := "", ""
	for _, m := range group {
		switch {
		case m.failed() && m.part == partLast:
			failedLast = m.state
		case m.failed() && failed == nil:
			failed = m.state
		case m.state.GetPhase() == berthv1.TaskState_waiting && m.state.GetRestarts() > 0:
			waiting = m.state
		case m.part == partBefore && !m.dead():
			before = m.state.GetTask()
		case odd == "":
			odd = conditionWords(m.state)
		}
	}
	if len(group) > 0 && all(group, member.dead) {
		switch {
		case failed != nil:
			return berthv1.Alloc_failed, failedWords(failed)
		case failedLast != nil:
			return berthv1.Alloc_complete, failedWords(failedLast)
		}
		return berthv1.Alloc_complete, ""
	}
	status, reason := berthv1.Alloc_pending, ""
	if len(group) > 0 && all(group, func(m member) bool { return m.part != partMain || m.up() }) {
		status = berthv1.Alloc_running
	}
	switch {
	case waiting != nil:
		reason = fmt.Sprintf("task %q waits to be started again", waiting.GetTask())
	case status == berthv1.Alloc_pending && before != "":
		reason = fmt.Sprintf("the prestart task %q comes first", before)
	case status == berthv1.Alloc_running:
		reason = odd
	}
	return status, reason
}

func failedWords(s *berthv1.TaskState) string {
	return fmt.Sprintf("task %q failed: %s", s.GetTask(), whyFailed(s))
}

// whyFailed finds the words for a failure: how it last ended, then why not again.
func whyFailed(s *berthv1.TaskState) string {
	why, last, ill := "", "", ""
	for _, e := range s.GetEvents() {
		switch e.GetType() {
		case "unhealthy":
			ill = e.GetMessage() + "; "
		case "exited", "lost", "driver error", "files failed":
			last, ill = ill+e.GetMessage(), ""
		case "failed":
			why = e.GetMessage()
		}
	}
	if last == "" || last == why {
		return why
	}
	return last + "; " + why
}
