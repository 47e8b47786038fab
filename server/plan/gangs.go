package plan

import (
	"context"
	"time"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/server/fsm"
	"github.com/berthd/berth/server/rows"
)

// parts are the entries of a gang that takes several. The FSM keeps them until all have
// come; so what one of them came to is known with the last only.
type parts struct {
	name    string
	entries []*entry
	left    int
	err     error // of any that was not written
	refused []fsm.Refusal
}

// begin closes what is open: what follows is to be written all or not at all. together
// wants what it gives.
func (b *batch) begin() int {
	b.flush()
	return len(b.full)
}

// together has the entries since begin written as one.
func (b *batch) together(begun int) {
	b.flush()
	entries := b.full[begun:]
	for _, e := range entries {
		e.plan.Atomic = true
	}
	if len(entries) < 2 {
		return
	}
	g := &parts{name: b.loop.cfg.NewID(), entries: entries[:len(entries):len(entries)], left: len(entries)}
	for _, e := range entries {
		e.gang, e.plan.Gang, e.plan.GangParts = g, g.name, uint32(len(entries))
	}
}

// landPart takes in what became of a part of a gang; false: others are still on the way.
// With the last one, f is what became of all.
func (l *Loop) landPart(g *parts, f *flight) bool {
	if f.err != nil {
		g.err = f.err
	}
	g.refused = append(g.refused, f.result.Refused...)
	if g.left--; g.left > 0 {
		return false
	}
	f.err, f.result.Refused = g.err, g.refused
	if g.err != nil { // the parts that were written wait in vain
		l.drop = append(l.drop, g.name)
	}
	return true
}

// written takes in that the placements of some entries are, but for those refused.
func (l *Loop) written(entries []*entry, refused []fsm.Refusal) {
	n := 0
	for _, e := range entries {
		n += e.placements()
		e.landed = true
	}
	l.stats.placed.Add(uint64(n - min(n, len(refused))))
	l.stats.refused.Add(uint64(len(refused)))
	for _, r := range refused {
		l.log.Warn("a placement was refused", "alloc", r.AllocID, "reason", r.Reason)
		if id, ok := rows.ParseID(r.AllocID); ok {
			l.takeBack(id)
		}
	}
}

// notWritten takes what was not written back out of the fleet.
func (l *Loop) notWritten(entries []*entry, err error) {
	n := 0
	for _, e := range entries {
		n += e.placements()
		for _, block := range e.placed {
			for i := range block {
				l.takeBack(block[i].id)
			}
		}
		for _, c := range e.plan.GetChanges() {
			if c.GetAssignment() != nil {
				l.keepSize(c.GetAllocId())
			}
		}
	}
	l.stats.failed.Add(uint64(n))
	l.log.Warn("a plan was not written", "placements", n, "error", err)
}

// dropGangs gives up gangs of which a part will never come.
func (l *Loop) dropGangs(ctx context.Context, now time.Time) {
	if len(l.drop) == 0 {
		return
	}
	names := l.drop
	l.drop = nil
	l.flying++
	go func() {
		f := &flight{entry: &entry{}, drops: names}
		f.result, f.err = l.cfg.Proposer.Propose(ctx, fsm.NewEntry(now, func(e *berthv1.LogEntry) {
			e.Fact = &berthv1.LogEntry_GangsDropped{GangsDropped: &berthv1.GangsDropped{Gangs: names}}
		}))
		l.landed <- f
	}()
}
