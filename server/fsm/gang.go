package fsm

import (
	"slices"

	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/server/rows"
)

// gang takes a plan whose placements belong together: all of them are placed and all its
// changes made, or none. A gang that takes several entries is staged until the last of
// them has come, in any order; what holds a grant that it needs by then refuses it.
func (a *applier) gang(p *berthv1.Plan) error {
	placements, changes := p.GetPlacements(), p.GetChanges()
	if len(p.GetRows()) > 0 {
		more, err := rows.ToAllocs(p.GetRows())
		if err != nil {
			return problem.New(problem.Invalid, "plan.rows", "%w", err)
		}
		placements = slices.Concat(placements, more)
	}
	if name := p.GetGang(); name != "" {
		staged := a.StagedGang(name)
		next := &berthv1.StagedGang{Gang: name, Seen: staged.GetSeen() + 1,
			Placements: slices.Concat(staged.GetPlacements(), placements), Changes: slices.Concat(staged.GetChanges(), changes)}
		if next.GetSeen() < p.GetGangParts() {
			a.PutStagedGang(next)
			return nil
		}
		a.DeleteStagedGang(name)
		placements, changes = next.GetPlacements(), next.GetChanges()
		for i := range placements { // stored messages stay as they are
			placements[i] = placements[i].ShallowCopy()
		}
	}
	a.placeAtomically(placements)
	if len(a.refused) == 0 {
		for _, c := range changes {
			a.allocChanged(c)
		}
	}
	return nil
}

// gangsDropped gives gangs up of which a part will never come.
func (a *applier) gangsDropped(f *berthv1.GangsDropped) {
	for _, name := range f.GetGangs() {
		a.DeleteStagedGang(name)
	}
}
