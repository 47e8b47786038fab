package discovery

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// known is an answer that can be told from others.
func known(topic *berthv1.Topic, number int) *berthv1.Known {
	return &berthv1.Known{Topic: topic, NodeName: fmt.Sprint(number)}
}

func TestLookupWaitsForTheFirstAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New()
		web := berthv1.ServiceTopic("default", "web")
		go func() {
			<-c.Changed()
			if topics := c.Topics(); len(topics) != 1 || topics[0].Key() != "service:default/web" {
				t.Errorf("topics %v", topics)
			}
			time.Sleep(100 * time.Millisecond)
			c.Know(known(web, 7))
		}()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if k, err := c.Lookup(ctx, web); err != nil || k.GetNodeName() != "7" {
			t.Fatalf("%v, %v", k, err)
		}
		// From then on it answers at once, and without servers.
		gone, end := context.WithCancel(t.Context())
		end()
		if k, err := c.Lookup(gone, web); err != nil || k.GetNodeName() != "7" {
			t.Errorf("%v, %v", k, err)
		}
		if _, err := c.Lookup(gone, berthv1.NodeTopic("n1")); err == nil {
			t.Error("an answer that nobody gave")
		}
	})
}

func TestTopicsAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New()
		gone, end := context.WithCancel(t.Context())
		end()
		sub := c.Subscribe()
		sub.Want([]*berthv1.Topic{berthv1.VariableTopic("default", "v")})
		for i := range maxTopics + 10 {
			_, _ = c.Lookup(gone, berthv1.NodeTopic(fmt.Sprint(i)))
			time.Sleep(time.Millisecond)
		}
		if n := len(c.Topics()); n != maxTopics {
			t.Errorf("%d topics", n)
		}
		time.Sleep(followed + time.Second)
		if topics := c.Topics(); len(topics) != 1 || topics[0].GetVariable() == nil {
			t.Errorf("after a while: %v", topics)
		}
		sub.Close()
		time.Sleep(followed + time.Second)
		if topics := c.Topics(); len(topics) != 0 {
			t.Errorf("after all have gone: %v", topics)
		}
	})
}

func TestSubscriptionIsTold(t *testing.T) {
	c := New()
	web, db := berthv1.ServiceTopic("default", "web"), berthv1.ServiceTopic("default", "db")
	sub := c.Subscribe()
	defer sub.Close()
	sub.Want([]*berthv1.Topic{web})
	told := func() bool {
		select {
		case <-sub.C:
			return true
		default:
			return false
		}
	}
	c.Know(known(db, 1)) // nobody wants it
	if told() || sub.Get(db) != nil || sub.Get(web) != nil {
		t.Error("told of what it does not want")
	}
	c.Know(known(web, 2))
	c.Know(known(web, 3))
	if !told() || told() || sub.Get(web).GetNodeName() != "3" {
		t.Errorf("not told once: %v", sub.Get(web))
	}
	sub.Want([]*berthv1.Topic{db})
	c.Know(known(web, 4))
	if told() {
		t.Error("told of what it wants no more")
	}
}
