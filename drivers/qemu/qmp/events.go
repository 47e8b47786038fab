package qmp

import (
	"context"
	"sync"
	"time"

	goqemu "github.com/digitalocean/go-qemu/qmp"
)

// Events that are not QEMU's.
const (
	// Broken says that the connection is broken. Events may have been missed; the next
	// command connects anew.
	Broken = "BERTH_BROKEN"
	// Missed says that a subscriber did not keep up and lost events.
	Missed = "BERTH_MISSED"
)

// maxQueue is how many events wait for a subscriber.
const maxQueue = 256

// Event is what QEMU tells by itself.
type Event struct {
	Name string
	Data map[string]any
	At   time.Time
}

func asEvent(e goqemu.Event) Event {
	return Event{Name: e.Event, Data: e.Data, At: time.Unix(e.Timestamp.Seconds, e.Timestamp.Microseconds*1000)}
}

// Text gives a word of the event's data; "": it has none of this name.
func (e Event) Text(key string) string {
	s, _ := e.Data[key].(string)
	return s
}

// Events is a subscription.
type Events struct {
	mu    sync.Mutex
	queue []Event
	more  chan struct{} // holds one word when the queue is not empty
}

// Next waits for the next event.
func (s *Events) Next(ctx context.Context) (Event, error) {
	for {
		s.mu.Lock()
		if len(s.queue) > 0 {
			e := s.queue[0]
			s.queue = s.queue[1:]
			s.mu.Unlock()
			return e, nil
		}
		s.mu.Unlock()
		select {
		case <-s.more:
		case <-ctx.Done():
			return Event{}, ctx.Err()
		}
	}
}

func (s *Events) add(e Event) {
	s.mu.Lock()
	if len(s.queue) >= maxQueue {
		s.queue = append(s.queue[:0], Event{Name: Missed, At: e.At})
	}
	s.queue = append(s.queue, e)
	s.mu.Unlock()
	select {
	case s.more <- struct{}{}:
	default:
	}
}

// subscribers are all that get a monitor's events.
type subscribers struct {
	mu  sync.Mutex
	all map[*Events]bool
}

func (s *subscribers) publish(e Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for sub := range s.all {
		sub.add(e)
	}
}

// Subscribe gives all events from now on until cancel is called.
func (m *Monitor) Subscribe() (events *Events, cancel func()) {
	events = &Events{more: make(chan struct{}, 1)}
	m.subs.mu.Lock()
	defer m.subs.mu.Unlock()
	if m.subs.all == nil {
		m.subs.all = map[*Events]bool{}
	}
	m.subs.all[events] = true
	return events, func() {
		m.subs.mu.Lock()
		defer m.subs.mu.Unlock()
		delete(m.subs.all, events)
	}
}
