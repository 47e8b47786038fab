package state

import (
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// Whatever is written, in whatever batches, a set of runs is what a map would be, and
// so is every copy that was ever made of it.
func TestRunsAreASet(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		type moment struct {
			set   runs[slotOf]
			model map[slotOf]bool
		}
		var set runs[slotOf]
		model := map[slotOf]bool{}
		if n := rapid.IntRange(0, 5).Draw(t, "loaded"); n > 0 {
			var all []slotOf
			for i := range n {
				all = append(all, newSlotOf(uint32(n-i), 7))
				model[newSlotOf(uint32(n-i), 7)] = true
			}
			set.load(all)
		}
		var moments []moment
		for range rapid.IntRange(0, 200).Draw(t, "steps") {
			switch s := newSlotOf(rapid.Uint32Range(0, 3).Draw(t, "number"), rapid.Uint32Range(0, 7).Draw(t, "slot")); {
			case rapid.IntRange(0, 9).Draw(t, "copy") == 0:
				moments = append(moments, moment{set.copy(), maps.Clone(model)})
			case model[s]:
				set.remove(s | 1)
				delete(model, s)
			default:
				set.add(s)
				model[s] = true
			}
		}
		for _, m := range append(moments, moment{set, model}) {
			sorted := slices.Sorted(maps.Keys(m.model))
			for _, start := range []slotOf{0, newSlotOf(1, 0), newSlotOf(2, 4), newSlotOf(9, 0)} {
				first, _ := slices.BinarySearch(sorted, start)
				if got := slices.Collect(m.set.from(start)); !slices.Equal(got, sorted[first:]) {
					t.Fatalf("from %d: %v, want %v", start, got, sorted[first:])
				}
				if _, ok := m.set.find(start); ok != m.model[start] {
					t.Fatalf("%d: found %v", start, ok)
				}
			}
			if m.set.len() != len(sorted) {
				t.Fatalf("%d, want %d", m.set.len(), len(sorted))
			}
		}
	})
}

// What has come and gone takes no room for ever, and there are few runs.
func TestRunsStayFew(t *testing.T) {
	var set runs[slotOf]
	for i := range uint32(100_000) {
		set.add(newSlotOf(i*2654435761>>4, i))
		if i%100 == 0 {
			set.copy()
		}
	}
	if n := len(set.sealed); n > 12 {
		t.Errorf("%d runs", n)
	}
	for i := range uint32(100_000) {
		set.remove(newSlotOf(i*2654435761>>4, i) | 1)
		if i%100 == 0 {
			set.copy()
		}
	}
	total := len(set.fresh)
	for _, run := range set.sealed {
		total += len(run)
	}
	if set.len() != 0 || total > 10_000 {
		t.Errorf("%d things in %d entries", set.len(), total)
	}
}
