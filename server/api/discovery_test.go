package api

import (
	"fmt"
	"strings"
	"testing"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

func TestServices(t *testing.T) {
	c, m := fleetForReservations(t)
	for _, job := range []string{"site", "shop"} {
		spec := strings.Replace(jobJSON(job, 1), `"groups": [{`, `"groups": [{"services": [{"name": "web"}, {"name": "`+job+`"}], `, 1)
		m.call(t, "POST", "/v1/jobs", spec).want(t, 200)
	}
	for i, job := range []string{"site", "shop"} {
		id := fmt.Sprintf("a%d000000-0000-4000-8000-000000000000", i)
		c.write(func(e *berthv1.LogEntry) {
			e.Fact = &berthv1.LogEntry_Plan{Plan: &berthv1.Plan{Placements: []*berthv1.Alloc{{Id: id, Namespace: "default", Job: job, Group: "web",
				JobVersion: 1, NodeId: "aaaa0", Assignment: &berthv1.Assignment{DiskMib: 1}}}}}
		})
		offered := []*berthv1.ServiceInstance{
			{Service: "web", Address: "10.0.0.7", Port: 80, Ready: i == 0, Tags: []string{"t", job}, Reason: "so"},
			{Service: job, Address: "10.0.0.7"}, {Service: "foreign", Ready: true},
		}
		c.write(func(e *berthv1.LogEntry) {
			e.Fact = &berthv1.LogEntry_AllocsReported{AllocsReported: &berthv1.AllocsReported{Updates: []*berthv1.AllocStatusUpdate{
				{AllocId: id, Status: berthv1.Alloc_running, HasServices: true, Services: offered}}}}
		})
	}
	listed := func(query string) string {
		var words []string
		for _, x := range m.call(t, "GET", "/v1/services"+query, "").want(t, 200)["services"].([]any) {
			s := x.(map[string]any)
			words = append(words, fmt.Sprint(s["name"], " ", s["ready"], "/", s["instances"], " ", s["tags"]))
		}
		return strings.Join(words, ", ")
	}
	for query, want := range map[string]string{
		"":                              "shop 0/1 [], site 0/1 [], web 1/2 [shop site t]",
		"?prefix=w":                     "web 1/2 [shop site t]",
		"?page_size=1":                  "shop 0/1 []",
		"?namespace=*":                  "shop 0/1 [], site 0/1 [], web 1/2 [shop site t]",
		"?filter=name+%3D%3D+%22web%22": "web 1/2 [shop site t]",
		"?namespace=other":              "",
	} {
		if got := listed(query); got != want {
			t.Errorf("%s: %s, want %s", query, got, want)
		}
	}
	count := func(path string, want int) {
		t.Helper()
		if got := m.call(t, "GET", path, "").want(t, 200)["instances"].([]any); len(got) != want {
			t.Errorf("%s: %v", path, got)
		}
	}
	count("/v1/services/web", 2)
	count("/v1/services/web?tag=shop", 1)
	count("/v1/services/web?ready", 1)
	count("/v1/allocs/a100/services", 2)
	m.call(t, "GET", "/v1/services/foreign", "").problem(t, 404)
	m.call(t, "GET", "/v1/allocs/ffff/services", "").problem(t, 404)
}
