package consensus

import (
	"testing"

	"github.com/hashicorp/raft"
)

// Followers that are told side by side must not have each other told again: each hears
// of an entry once.
func TestNudgesEnd(t *testing.T) {
	n := &nudged{told: map[raft.ServerID]*applied{}, under: map[raft.ServerID]bool{}}
	sent := 0
	round := func(newest *applied) (begun []raft.ServerID) {
		for _, id := range []raft.ServerID{"a", "b"} {
			if n.begin(id, newest) {
				begun = append(begun, id)
			}
		}
		sent += len(begun)
		return begun
	}
	first, second := &applied{index: 7, term: 1}, &applied{index: 8, term: 1}
	begun := round(first)
	round(first)  // both are under way
	round(second) // another one came meanwhile
	for i := 0; len(begun) > 0; i++ {
		if i == 10 {
			t.Fatal("they go on for ever")
		}
		n.end(begun[0])
		begun = append(begun[1:], round(second)...)
	}
	if sent != 4 {
		t.Errorf("%d messages for two entries and two followers", sent)
	}
}
