package scheduler

import (
	"maps"
	"math/rand/v2"
	"testing"
)

// A table of counts is a map of numbers that never fall below 0.
func TestSlotCounts(t *testing.T) {
	for seed := range uint64(50) {
		rng := rand.New(rand.NewPCG(seed, 1))
		var c slotCounts
		want, slots := map[int32]int32{}, int32(1+rng.IntN(60))
		for range 2000 {
			slot, by := rng.Int32N(slots), rng.Int32N(5)-2
			if rng.IntN(20) == 0 {
				c.drop(slot)
				delete(want, slot)
				continue
			}
			if was := c.add(slot, by); was != want[slot] {
				t.Fatalf("seed %d: slot %d had %d, want %d", seed, slot, was, want[slot])
			}
			if want[slot] += by; want[slot] <= 0 {
				delete(want, slot)
			}
			if slot = rng.Int32N(slots); c.at(slot) != want[slot] {
				t.Fatalf("seed %d: slot %d has %d, want %d", seed, slot, c.at(slot), want[slot])
			}
		}
		if got := maps.Collect(c.all()); c.len() != len(want) || !maps.Equal(got, want) {
			t.Fatalf("seed %d: %v, want %v", seed, got, want)
		}
	}
}
