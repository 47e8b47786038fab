package runner

import (
	"sync"
	"time"
)

// alarm calls ring, in a goroutine that wg counts, at the newest time that was set. Its
// owner's lock guards it.
type alarm struct {
	wg    *sync.WaitGroup
	ring  func()
	timer *time.Timer // nil: none is set, or it rings
	at    time.Time
}

// set replaces the time; the zero time is none. A ring that has begun is not taken back.
func (l *alarm) set(at, now time.Time) {
	if l.timer != nil && at.Equal(l.at) {
		return
	}
	l.off()
	if at.IsZero() {
		return
	}
	l.wg.Add(1)
	l.at = at
	l.timer = time.AfterFunc(at.Sub(now), func() {
		defer l.wg.Done()
		l.ring()
	})
}

func (l *alarm) off() {
	if l.timer != nil && l.timer.Stop() {
		l.wg.Done()
	}
	l.timer = nil
}
