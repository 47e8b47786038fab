package dispatch

import (
	"slices"

	"google.golang.org/protobuf/encoding/protowire"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/server/state"
)

// news is an allocation that an agent must hear of, and the version of the job that it
// runs, where it may run.
type news struct {
	row      state.AllocRow
	revision uint64 // of the change
	gone     bool   // forgotten
	fresh    bool   // placed: there is no older news of it
	job      *berthv1.Job
}

// assignments appends, after wireHead bytes, an encoded Assignments of what the agent must
// hear: everything, or what has changed; nothing when there is nothing. The feed may be
// behind what was sent as everything: what that had is no news.
func (s *session) assignments(b []byte, complete bool, what []news) []byte {
	var appliesTo, resultsIn uint64
	if !complete {
		what = slices.DeleteFunc(what, func(n news) bool { return n.revision <= s.completeRevision })
		if len(what) == 0 {
			return b
		}
		appliesTo, resultsIn = s.sentRevision, max(s.sentRevision, what[len(what)-1].revision)
	} else {
		rows, revision := s.server.cfg.Store.OnNode(s.nodeID)
		resultsIn, s.completeRevision = revision, revision
		clear(s.sentJobs)
		what = nil
		for _, row := range rows {
			what = append(what, news{row: row, job: s.server.cfg.Store.JobVersion(row.Namespace(), row.Job(), row.JobVersion())})
		}
	}
	b = append(b, make([]byte, wireHead)...)
	if complete {
		b = protowire.AppendVarint(protowire.AppendTag(b, assignComplete, protowire.VarintType), 1)
	}
	b = protowire.AppendVarint(protowire.AppendTag(b, assignAppliesTo, protowire.VarintType), appliesTo)
	b = protowire.AppendVarint(protowire.AppendTag(b, assignResultsIn, protowire.VarintType), resultsIn)
	what = newest(what)
	for i := range what {
		row := &what[i].row
		if what[i].gone {
			b = protowire.AppendString(protowire.AppendTag(b, assignRemoved, protowire.BytesType), row.ID().String())
			continue
		}
		if what[i].job != nil && s.lacks(row) {
			b = protowire.AppendBytes(protowire.AppendTag(b, assignJobs, protowire.BytesType), s.server.jobs.of(what[i].job))
		}
		b = nested(b, assignAllocs, row.AppendWire)
	}
	s.sentRevision = resultsIn
	return b
}

// newest leaves the last news of each allocation, in their order.
func newest(what []news) []news {
	if !slices.ContainsFunc(what, func(n news) bool { return !n.fresh }) {
		return what
	}
	last := make(map[state.AllocID]int, len(what))
	for i := range what {
		last[what[i].row.ID()] = i
	}
	if len(last) == len(what) {
		return what
	}
	kept := what[:0]
	for i := range what {
		if last[what[i].row.ID()] == i {
			kept = append(kept, what[i])
		}
	}
	return kept
}

// lacks says whether the agent may lack the job of an allocation, and notes that it is
// sent.
func (s *session) lacks(row *state.AllocRow) bool {
	key := jobVersion{row.Namespace(), row.Job(), row.JobVersion()}
	if _, sent := s.sentJobs[key]; sent || row.Ended() {
		return false
	}
	s.sentJobs[key] = struct{}{}
	return true
}
