// Package discovery is what the agent knows of the cluster beyond its own node: services
// and their instances, nodes by name and address, variables. The servers tell it through
// the session, topic by topic, at once and again with every change.
//
// It promises that what was known stays known while no server is there, and that a topic
// is followed as long as somebody is subscribed to it, or asked for it not long ago. The
// agent's DNS responder and its templates read it; the session carries it.
package discovery

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

const (
	// followed is how long a topic is followed after it was last looked up.
	followed = 10 * time.Minute
	// maxTopics bounds what is followed at a time; the servers' limit is the same. What was
	// looked up longest ago goes first, subscriptions never.
	maxTopics = 512
)

// Catalog is what is known. The zero value is not usable; see New.
type Catalog struct {
	now func() time.Time

	mu      sync.Mutex
	topics  map[string]*topic
	changed chan struct{} // capacity 1: Topics gives something else than before
}

// topic is one thing that is followed.
type topic struct {
	is      *berthv1.Topic
	known   *berthv1.Known // nil: not told yet
	asked   time.Time      // when it was last looked up
	holders map[*Subscription]struct{}
	told    chan struct{} // closed when known is first set
}

// New makes a catalog that knows nothing.
func New() *Catalog {
	return &Catalog{now: time.Now, topics: map[string]*topic{}, changed: make(chan struct{}, 1)}
}

// Changed has something when Topics gives something else than before.
func (c *Catalog) Changed() <-chan struct{} { return c.changed }

// Topics are what is to be followed, in an order that does not matter. What nobody wants
// any more is forgotten.
func (c *Catalog) Topics() []*berthv1.Topic {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.forget()
	all := make([]*berthv1.Topic, 0, len(c.topics))
	for _, t := range c.topics {
		all = append(all, t.is)
	}
	return all
}

// forget drops what was not asked for in a while, and the oldest where there is too much.
func (c *Catalog) forget() {
	var idle []*topic
	for _, t := range c.topics {
		if len(t.holders) == 0 {
			idle = append(idle, t)
		}
	}
	slices.SortFunc(idle, func(a, b *topic) int { return a.asked.Compare(b.asked) })
	for _, t := range idle {
		if len(c.topics) > maxTopics || c.now().Sub(t.asked) > followed {
			delete(c.topics, t.is.Key())
		}
	}
}

// Know takes what a server tells of a topic. What nobody wants is passed over.
func (c *Catalog) Know(k *berthv1.Known) {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := c.topics[k.GetTopic().Key()]
	if t == nil {
		return
	}
	if t.known == nil {
		close(t.told)
	}
	t.known = k
	for s := range t.holders {
		s.poke()
	}
}

// follow gives a topic, which is followed from now on.
func (c *Catalog) follow(is *berthv1.Topic) *topic {
	key := is.Key()
	t := c.topics[key]
	if t == nil {
		t = &topic{is: is, holders: map[*Subscription]struct{}{}, told: make(chan struct{})}
		c.topics[key] = t
		t.asked = c.now()
		c.forget()
		c.poke()
	}
	t.asked = c.now()
	return t
}

func (c *Catalog) poke() {
	select {
	case c.changed <- struct{}{}:
	default:
	}
}

// Lookup gives what is known of a topic; a new topic waits for the servers' answer.
// Unavailable: none came before ctx ended.
func (c *Catalog) Lookup(ctx context.Context, is *berthv1.Topic) (*berthv1.Known, error) {
	c.mu.Lock()
	t := c.follow(is)
	c.mu.Unlock()
	select {
	case <-t.told:
	default:
		select {
		case <-t.told:
		case <-ctx.Done():
			return nil, problem.New(problem.Unavailable, is.Key(), "no server has said anything of it yet")
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return t.known, nil
}
