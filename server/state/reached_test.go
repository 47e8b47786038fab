package state

import (
	"testing"
	"time"
)

// Who waits for a revision is woken by it, by one above it, and by a restored state that is beyond it.
func TestReached(t *testing.T) {
	isClosed := func(c <-chan struct{}) bool {
		select {
		case <-c:
			return true
		default:
			return false
		}
	}
	s := NewSized(10)
	nothing := func(*Tx) {}
	at3, at5, at9 := s.Reached(3), s.Reached(5), s.Reached(9)
	if !isClosed(s.Reached(0)) || isClosed(at3) {
		t.Error("before anything")
	}
	s.Update(4, time.Time{}, nothing)
	if !isClosed(at3) || isClosed(at5) || !isClosed(s.Reached(4)) {
		t.Error("at 4")
	}
	other := New()
	other.Update(7, time.Time{}, nothing)
	s.Replace(other)
	if !isClosed(at5) || isClosed(at9) {
		t.Error("after a state at 7 was restored")
	}
	s.Update(12, time.Time{}, nothing)
	if !isClosed(at9) || len(s.awaited) > 0 {
		t.Error("at 12")
	}
}
