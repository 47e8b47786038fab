package api

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// fleet writes a node of four CPUs and two allocations on it, one of which is over.
func (c *cluster) fleet() {
	c.write(func(e *berthv1.LogEntry) {
		e.Fact = &berthv1.LogEntry_NodeRegistered{NodeRegistered: &berthv1.NodeRegistered{Node: &berthv1.Node{
			Id: "n1", Name: "n1", Pool: "default", MinPort: 20000, MaxPort: 20100,
			Hardware: &berthv1.Hardware{DiskMib: 1000, Cells: []*berthv1.Cell{{Cores: []string{"0", "1", "2", "3"}, MemoryMib: 4096}},
				Devices: []*berthv1.Device{{Id: "gpu0", Kind: "gpu", Healthy: true}, {Id: "gpu1", Kind: "gpu", Healthy: true}}},
		}}}
	})
	c.write(func(e *berthv1.LogEntry) {
		e.Fact = &berthv1.LogEntry_JobRegistered{JobRegistered: &berthv1.JobRegistered{Job: &berthv1.Job{Namespace: "default", Name: "web", Version: 1}}}
	})
	plan := &berthv1.Plan{}
	for i, id := range []string{"00000000-0000-0000-0000-000000000001", "00000000-0000-0000-0000-000000000002"} {
		cpus, gpu := fmt.Sprint(i), fmt.Sprint("gpu", i)
		plan.Placements = append(plan.Placements, &berthv1.Alloc{Id: id, Namespace: "default", Job: "web", JobVersion: 1, Group: "g", Index: uint32(i), NodeId: "n1",
			Assignment: &berthv1.Assignment{DiskMib: 100, Ports: []*berthv1.PortGrant{{Name: "http", Port: uint32(20000 + i)}}, Tasks: []*berthv1.TaskGrant{{Task: "t",
				Cells:   []*berthv1.CellGrant{{Cpus: cpus, MemoryMib: 1024}},
				Devices: []*berthv1.DeviceGrant{{Kind: "gpu", Id: gpu, ShareMilli: 1000}}}}}})
	}
	if r := c.write(func(e *berthv1.LogEntry) { e.Fact = &berthv1.LogEntry_Plan{Plan: plan} }); len(r.Refused) > 0 {
		c.t.Fatal(r.Refused)
	}
	c.write(func(e *berthv1.LogEntry) {
		e.Fact = &berthv1.LogEntry_AllocsReported{AllocsReported: &berthv1.AllocsReported{Updates: []*berthv1.AllocStatusUpdate{
			{AllocId: plan.GetPlacements()[1].GetId(), Status: berthv1.Alloc_complete}}}}
	})
}

func TestSchedulerSnapshot(t *testing.T) {
	c := newCluster(t, 2)
	c.fleet()
	for _, path := range []string{"/v1/scheduler/snapshot", "/v1/scheduler/snapshot?stale", "/v1/scheduler/snapshot?node_pool=default"} {
		got := c.members[1].call(t, "GET", path, "")
		lines := strings.Split(strings.TrimSpace(got.body), "\n")
		if got.status != 200 || len(lines) != 4 {
			t.Fatalf("%s: %d %s", path, got.status, got.body)
		}
		for i, want := range []string{
			fmt.Sprintf(`{"header":{"revision":"%d"}}`, c.index),
			`"cells":[{"cell":0,"cpus":"1-3","cpu_milli":"3000","memory_mib":"3072","hugepages":[]}],"devices":[{"id":"gpu1","share_milli":1000}],"disk_mib":"900","ports":[20000]`,
			`"alloc":{"id":"00000000-0000-0000-0000-000000000001"`,
			`{"end":{"nodes":"1","allocs":"1"}}`,
		} {
			if !strings.Contains(lines[i], want) || !json.Valid([]byte(lines[i])) {
				t.Errorf("%s line %d: %s, want %s", path, i, lines[i], want)
			}
		}
	}
	if got := c.members[0].call(t, "GET", "/v1/scheduler/snapshot?node_pool=gpu", ""); !strings.Contains(got.body, `{"nodes":"0","allocs":"0"}`) {
		t.Error(got.body)
	}
}

// TestSchedulerChanges: what follows a snapshot goes on from its revision.
func TestSchedulerChanges(t *testing.T) {
	c := newCluster(t, 1)
	before := c.index
	c.fleet()
	stream, err := berthv1.NewSchedulerServiceClient(c.members[0].dialed(t)).StreamChanges(t.Context(), &berthv1.StreamChangesRequest{Index: before})
	if err != nil {
		t.Fatal(err)
	}
	var told []string
	for len(told) < 5 {
		e, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		told = append(told, e.GetTopic()+e.GetType())
	}
	if got := strings.Join(told, " "); got != " nodecreated alloccreated alloccreated allocupdated" {
		t.Fatal(got)
	}
}

// TestSchedulerLeasesBelongToTheLeader: any server takes the calls; a new leader knows no
// lease, and says what to do.
func TestSchedulerLeasesBelongToTheLeader(t *testing.T) {
	c := newCluster(t, 2)
	leader, follower := c.members[0], c.members[1]
	lease, _ := follower.call(t, "POST", "/v1/scheduler/register", `{"name": "mine"}`).want(t, 200)["lease"].(string)
	claim := fmt.Sprintf(`{"lease": %q, "wait": "0.01s"}`, lease)
	follower.call(t, "POST", "/v1/scheduler/claim", claim).want(t, 200)
	leader.call(t, "POST", "/v1/scheduler/claim", claim).want(t, 200)
	list := follower.call(t, "GET", "/v1/scheduler/schedulers?name=mine", "").want(t, 200)
	if s := list["schedulers"].([]any); len(s) != 1 || strings.Contains(fmt.Sprint(list), lease) {
		t.Fatal(list)
	}
	c.elect(follower)
	p := leader.call(t, "POST", "/v1/scheduler/claim", claim).problem(t, 404)
	if p["field"] != "lease" || p["remedy"] != "register again" {
		t.Fatal(p)
	}
	if _, err := (schedulerService{a: &API{}}).ListSchedulers(context.Background(), nil); !problem.Is(err, problem.Unavailable) {
		t.Fatal(err)
	}
}

func TestSchedulerGarbage(t *testing.T) {
	m := newCluster(t, 1).members[0]
	for path, bodies := range map[string][]string{
		"register": {`{`, `[]`, `{"name": 7}`, `{"name": "x", "ttl": "-1s"}`, `{"name": "x", "ttl": "abc"}`, `{"nonsense": 1}`, `{"name": "A"}`},
		"claim":    {`{"max": -1}`, `{"lease": "x", "max": 99999999999}`, `{"lease": "x", "max": 65}`, "\xff"},
		"plan": {`{"placements": {}}`, `{"placements": [{"index": -1}]}`, `{"revision": -1}`, strings.Repeat("[", 200), `{"lease": "x"}`,
			`{"placements": [{"assignment": {"tasks": [{"cells": [{"memory_mib": 1e300}]}]}}]}`, `{"stops": [` + strings.Repeat(`"x",`, 600) + `"y"]}`,
			`{"placements": [` + strings.Repeat("{},", maxBody/3) + `{}]}`},
		"release": {`{"reason": 1}`, `{"retry_after": "1s"}`},
	} {
		for _, body := range bodies {
			got := m.call(t, "POST", "/v1/scheduler/"+path, body)
			if got.status != 400 {
				t.Errorf("%s %.80q: %d %s", path, body, got.status, got.body)
				continue
			}
			if p := got.problem(t, 400); p["reason"] == "" {
				t.Errorf("%s %.80q: %v", path, body, p)
			}
		}
	}
}
