package session

import (
	"time"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

const (
	// topicsPause gathers what the agent begins to want to know.
	topicsPause = 5 * time.Millisecond
	// topicsAgain is how often it is looked at by itself: what nobody asked for in a while is
	// not followed any more.
	topicsAgain = time.Minute
)

// topics tells one session's server what the agent wants to know.
type topics struct {
	from    Discovery
	changed <-chan struct{} // nil where there is no Discovery
	timer   *time.Timer     // when it is told
	told    map[string]bool
}

// newTopics has what is wanted told at once: the server knows nothing yet.
func newTopics(from Discovery) *topics {
	t := &topics{from: from, timer: time.NewTimer(0), told: map[string]bool{}}
	if from == nil {
		t.timer.Stop()
		return t
	}
	t.changed = from.Changed()
	return t
}

// message is what is wanted now; nil: that is what was told before.
func (t *topics) message() *berthv1.AgentMessage {
	t.timer.Reset(topicsAgain)
	wanted := t.from.Topics()
	now := make(map[string]bool, len(wanted))
	same := len(wanted) == len(t.told)
	for _, topic := range wanted {
		now[topic.Key()] = true
		same = same && t.told[topic.Key()]
	}
	if same {
		return nil
	}
	t.told = now
	return &berthv1.AgentMessage{Body: &berthv1.AgentMessage_Watch{Watch: &berthv1.Watch{Topics: wanted}}}
}
