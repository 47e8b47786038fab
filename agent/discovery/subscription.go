package discovery

import (
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// Subscription follows some topics for somebody who is told of changes.
type Subscription struct {
	// C has something when any of the topics may have changed.
	C <-chan struct{}

	c       chan struct{} // capacity 1
	catalog *Catalog
	topics  map[string]*berthv1.Topic // guarded by the catalog's lock
}

// Subscribe makes a subscription without topics. It must be closed.
func (c *Catalog) Subscribe() *Subscription {
	s := &Subscription{c: make(chan struct{}, 1), catalog: c, topics: map[string]*berthv1.Topic{}}
	s.C = s.c
	return s
}

// Want sets the topics that are followed.
func (s *Subscription) Want(topics []*berthv1.Topic) {
	c := s.catalog
	c.mu.Lock()
	defer c.mu.Unlock()
	wanted := make(map[string]*berthv1.Topic, len(topics))
	for _, is := range topics {
		wanted[is.Key()] = is
		t := c.follow(is)
		t.holders[s] = struct{}{}
	}
	for key := range s.topics {
		if wanted[key] == nil {
			s.release(key)
		}
	}
	s.topics = wanted
}

// Get gives what is known of a topic; nil: nothing was told yet, or it is not followed.
func (s *Subscription) Get(is *berthv1.Topic) *berthv1.Known {
	s.catalog.mu.Lock()
	defer s.catalog.mu.Unlock()
	if t := s.catalog.topics[is.Key()]; t != nil {
		return t.known
	}
	return nil
}

// Close ends the subscription.
func (s *Subscription) Close() {
	s.catalog.mu.Lock()
	defer s.catalog.mu.Unlock()
	for key := range s.topics {
		s.release(key)
	}
	s.topics = nil
}

// release is called with the catalog's lock held.
func (s *Subscription) release(key string) {
	if t := s.catalog.topics[key]; t != nil {
		delete(t.holders, s)
		t.asked = s.catalog.now()
	}
}

func (s *Subscription) poke() {
	select {
	case s.c <- struct{}{}:
	default:
	}
}
