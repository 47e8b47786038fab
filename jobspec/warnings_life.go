package jobspec

import (
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// lifeWarnings is about how a group is kept, moved and found.
func lifeWarnings(g *berthv1.Group, in string, warn func(string, ...any)) {
	if g.GetStateful() != nil {
		d := g.GetOnDisconnect()
		if d.GetStopAfter().AsDuration() == 0 {
			warn("%s: without on_disconnect { stop_after } an instance whose node is lost is not replaced until the node is back or removed", in)
		}
		if d != nil && (d.Replace != nil && !d.GetReplace() || d.GetReconcile() != "" && d.GetReconcile() != "keep_new") {
			warn("%s: replace and reconcile have no effect on a stateful group: there are never two of one index", in)
		}
	}
	if g.GetDisruption().GetMaxUnavailable() == "0" || g.GetDisruption().GetMaxUnavailable() == "0%" {
		warn("%s: with a max_unavailable of 0 a drain waits for its deadline", in)
	}
	if g.GetShutdownDelay().AsDuration() > 0 && len(g.GetServices()) == 0 {
		warn("%s: shutdown_delay only makes it wait: there is no service to leave", in)
	}
	if u := g.GetUpdate(); u.GetPromoteAfter().AsDuration() > 0 && u.GetPromote() != "healthy" {
		warn(`%s: promote_after has no effect without promote = "healthy"`, in)
	}
}

// fileWarnings is about what is put into a task's directory.
func fileWarnings(t *berthv1.Task, in string, warn func(string, ...any)) {
	for _, a := range t.GetArtifacts() {
		if !pinned(a) {
			warn("%s: the artifact %s has no checksum: whatever is there then is run", in, clip(a.GetSource()))
		}
	}
	for _, x := range t.GetTemplates() {
		if x.GetChangeSignal() != "" && x.GetChangeMode() != "signal" {
			warn(`%s: change_signal has no effect without change_mode = "signal"`, in)
		}
		if len(x.GetChangeScript()) > 0 && x.GetChangeMode() != "script" {
			warn(`%s: change_script has no effect without change_mode = "script"`, in)
		}
	}
}
