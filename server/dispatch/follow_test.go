package dispatch

import (
	"testing"
	"testing/synctest"
	"time"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// known gives the next answer to what the agent wants to know.
func (c *client) known() *berthv1.Known {
	c.t.Helper()
	for {
		if m := c.recv(); m.GetKnown() != nil {
			return m.GetKnown()
		}
	}
}

func TestAgentsAreToldWhatTheyFollow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, _ := newWorld(t)
		c := w.dial("s1", testNode("n1"))
		w.propose(func(e *berthv1.LogEntry) {
			e.Fact = &berthv1.LogEntry_JobRegistered{JobRegistered: &berthv1.JobRegistered{Job: &berthv1.Job{
				Namespace: "default", Name: "shop", Version: 1,
				Groups: []*berthv1.Group{{Name: "g", Services: []*berthv1.Service{{Name: "web"}}}},
			}}}
		})
		web := berthv1.ServiceTopic("default", "web")
		follow := func(topics ...*berthv1.Topic) {
			c.send(&berthv1.AgentMessage{Body: &berthv1.AgentMessage_Watch{Watch: &berthv1.Watch{Topics: topics}}})
		}
		follow(web)
		if k := c.known(); k.GetTopic().Key() != web.Key() || len(k.GetInstances()) != 0 {
			t.Fatalf("first: %v", k)
		}
		follow(web, berthv1.NodeTopic("node-n1"), berthv1.NodeTopic("n9"), berthv1.VariableTopic("default", "none"))
		for range 3 {
			k := c.known()
			if name := k.GetTopic().GetNode(); (name == "node-n1") != (k.GetNodeName() == "node-n1") {
				t.Errorf("node: %v", k)
			}
		}
		w.propose(func(e *berthv1.LogEntry) {
			e.Fact = &berthv1.LogEntry_Plan{Plan: &berthv1.Plan{Placements: []*berthv1.Alloc{{
				Id: allocID(1), Namespace: "default", Job: "shop", Group: "g", JobVersion: 1, NodeId: "n1",
				Assignment: &berthv1.Assignment{Tasks: []*berthv1.TaskGrant{{Task: "t", Cells: []*berthv1.CellGrant{{MemoryMib: 10}}}}},
			}}}}
		})
		offer := func(ready bool) {
			w.propose(func(e *berthv1.LogEntry) {
				e.Fact = &berthv1.LogEntry_AllocsReported{AllocsReported: &berthv1.AllocsReported{Updates: []*berthv1.AllocStatusUpdate{{
					AllocId: allocID(1), Status: berthv1.Alloc_running, HasServices: true,
					Services: []*berthv1.ServiceInstance{{Service: "web", Address: "10.0.0.7", Port: 80, Ready: ready, Checks: []*berthv1.CheckState{{Output: "long"}}}},
				}}}}
			})
		}
		offer(true)
		k := c.known()
		if i := k.GetInstances(); len(i) != 1 || !i[0].GetReady() || i[0].GetNodeName() != "node-n1" || len(i[0].GetChecks()) != 0 {
			t.Fatalf("an instance: %v", k)
		}
		time.Sleep(time.Second)
		offer(true) // nothing that matters: nobody is told
		time.Sleep(time.Second)
		offer(false)
		if k = c.known(); k.GetInstances()[0].GetReady() {
			t.Errorf("not ready any more: %v", k)
		}
		follow() // it wants nothing more
		time.Sleep(time.Second)
		offer(true)
		follow(berthv1.AddressTopic("10.0.0.7"))
		if k = c.known(); k.GetTopic().GetAddress() == "" || len(k.GetInstances()) != 1 {
			t.Errorf("an address: %v", k)
		}
	})
}
