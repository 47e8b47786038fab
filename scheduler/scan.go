package scheduler

// The full scan looks at every node for every instance. It is what the index must agree
// with: the oracle of the tests and of berth sim bench -verify, and one of the schedulers
// that the bench compares Berth with.

// Scan has the fleet place by a full scan, or by its index again.
func (f *Fleet) Scan(on bool) { f.scans = on }

// Verify has every placement by the index compared with what a full scan finds, or no
// more. It makes placements as slow as the scan.
func (f *Fleet) Verify(on bool) { f.verifies = on }

// Mismatches is how many placements since the fleet was made were not what the full scan
// found.
func (f *Fleet) Mismatches() int { return f.mismatches }

// scan is the best node by a look at all of them; none: an instance fits nowhere.
func (r *run) scan() int32 {
	best := rank{slot: none}
	for slot := range int32(len(r.f.nodes)) {
		if !r.view.ok.has(slot) || r.isExcluded(slot) || r.only != nil && !r.only[slot] {
			continue
		}
		at, ok := r.rank(slot)
		if ok && (best.slot == none || r.f.better(&at, &best)) && r.f.fits(slot, r.g) {
			best = at
		}
	}
	return best.slot
}

// fits says whether a node has room for an instance now.
func (f *Fleet) fits(slot int32, g *Group) bool {
	usage := f.nodes[slot].usage
	choice, fits := f.scratch.fit.fit(usage, g)
	if fits {
		usage.Remove(&choice.grant)
	}
	return fits
}

// shadow is what the full scan finds, where placements are verified.
func (r *run) shadow() int32 {
	if !r.f.verifies || r.f.scans {
		return none
	}
	return r.scan()
}

// compare counts a placement that the full scan would not have made; none: nothing was
// placed.
func (r *run) compare(slot, shadow int32) {
	if r.f.verifies && !r.f.scans && slot != shadow {
		r.f.mismatches++
	}
}

// check compares a vain search.
func (r *run) check(slot int32) { r.compare(slot, r.shadow()) }
