package dispatch

import (
	"context"
	"slices"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/server/state"
)

const (
	// maxTopics bounds what an agent may follow; well below maxOutbox, for all of it is
	// told at once.
	maxTopics = 512
	// followPause is the shortest time between two looks at what an agent follows.
	followPause = 20 * time.Millisecond
)

// follower tells an agent what it wants to know of the cluster: of each topic what it is
// now, and again each time that it has changed.
type follower struct {
	s       *session
	changed chan struct{} // capacity 1: other topics are wanted

	mu     sync.Mutex
	topics []*berthv1.Topic
}

// follow takes what an agent wants to know from now on; the first call begins a goroutine
// that ends with the session.
func (s *session) follow(ctx context.Context, topics []*berthv1.Topic) {
	if len(topics) > maxTopics {
		s.server.log.Warn("an agent wants to know more than a session carries; the rest is left out", "node_id", s.nodeID, "topics", len(topics), "limit", maxTopics)
		topics = topics[:maxTopics]
	}
	if s.follower == nil { // only the receiver calls this
		s.follower = &follower{s: s, changed: make(chan struct{}, 1)}
		go s.follower.run(ctx)
	}
	f := s.follower
	f.mu.Lock()
	f.topics = topics
	f.mu.Unlock()
	select {
	case f.changed <- struct{}{}:
	default:
	}
}

func (f *follower) wanted() []*berthv1.Topic {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.topics
}

func (f *follower) run(ctx context.Context) {
	told := map[string]*berthv1.Known{}
	for ctx.Err() == nil {
		topics := f.wanted()
		watch := f.s.server.cfg.Store.Watch(watched(topics)...)
		told = f.tell(f.s.server.cfg.Store.View(), topics, told)
		select {
		case <-ctx.Done():
		case <-watch.C:
			rest(ctx, followPause) // more may come, and goes with it
		case <-f.changed:
		}
		watch.Close()
	}
}

func rest(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// tell sends what differs from what was told, and gives what is told now.
func (f *follower) tell(view *state.View, topics []*berthv1.Topic, told map[string]*berthv1.Known) map[string]*berthv1.Known {
	now := make(map[string]*berthv1.Known, len(topics))
	for _, topic := range topics {
		key := topic.Key()
		known := knownOf(view, topic)
		now[key] = known
		if before := told[key]; before != nil && proto.Equal(before, known) {
			continue
		}
		f.s.post(&berthv1.ServerMessage{Body: &berthv1.ServerMessage_Known{Known: known}})
	}
	return now
}

// watched are the parts of the state that topics depend on.
func watched(topics []*berthv1.Topic) []state.Topic {
	var all []state.Topic
	add := func(t state.Topic) {
		if !slices.Contains(all, t) {
			all = append(all, t)
		}
	}
	for _, topic := range topics {
		switch t := topic.GetTopic().(type) {
		case *berthv1.Topic_Service:
			add(state.Topic{Table: state.TableServices, Key: state.JobKey(t.Service.GetNamespace(), t.Service.GetService())})
		case *berthv1.Topic_Address:
			add(state.Topic{Table: state.TableServices})
			add(state.Topic{Table: state.TableNodes})
		case *berthv1.Topic_Node:
			add(state.Topic{Table: state.TableNodes})
		case *berthv1.Topic_Variable:
			add(state.Topic{Table: state.TableVariables})
		}
	}
	return all
}

// knownOf is what the state knows of a topic.
func knownOf(view *state.View, topic *berthv1.Topic) *berthv1.Known {
	k := &berthv1.Known{Topic: topic}
	switch t := topic.GetTopic().(type) {
	case *berthv1.Topic_Service:
		for i := range view.ServiceInstances(t.Service.GetNamespace(), t.Service.GetService()) {
			k.Instances = append(k.Instances, short(i))
		}
	case *berthv1.Topic_Address:
		for i := range view.ServicesAt(t.Address) {
			k.Instances = append(k.Instances, short(i))
		}
		nodeKnown(k, view, func(n *berthv1.Node) bool { return n.GetAddress() == t.Address })
	case *berthv1.Topic_Node:
		nodeKnown(k, view, func(n *berthv1.Node) bool { return n.GetName() == t.Node })
	case *berthv1.Topic_Variable:
		k.Variable = view.Variable(t.Variable.GetNamespace(), t.Variable.GetVariable())
	}
	return k
}

// nodeKnown fills in a node; of several, one that is ready, or the first by id.
func nodeKnown(k *berthv1.Known, view *state.View, is func(*berthv1.Node) bool) {
	for n := range view.Nodes("") {
		if !is(n) {
			continue
		}
		if ready := n.GetStatus() == berthv1.Node_ready; ready || k.GetNodeName() == "" {
			k.NodeName, k.NodeAddress = n.GetName(), n.GetAddress()
			if ready {
				return
			}
		}
	}
}

// short is an instance without what only people look at: checks change with every run.
func short(i *berthv1.ServiceInstance) *berthv1.ServiceInstance {
	return &berthv1.ServiceInstance{
		Namespace: i.GetNamespace(), Service: i.GetService(), AllocId: i.GetAllocId(), Job: i.GetJob(), Group: i.GetGroup(), Index: i.GetIndex(),
		NodeId: i.GetNodeId(), NodeName: i.GetNodeName(), Address: i.GetAddress(), Port: i.GetPort(), Tags: i.GetTags(), Meta: i.GetMeta(),
		Ready: i.GetReady(), Canary: i.GetCanary(), JobVersion: i.GetJobVersion(),
	}
}
