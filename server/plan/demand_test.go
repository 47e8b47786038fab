package plan

import (
	"testing"

	"google.golang.org/protobuf/proto"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/scheduler"
)

// TestDemand follows jobs as they come, grow and go.
func TestDemand(t *testing.T) {
	version := uint64(0)
	spec := func(name string, count uint32, devices ...*berthv1.DeviceAsk) *berthv1.Job {
		version++
		return &berthv1.Job{Name: name, Version: version, Groups: []*berthv1.Group{{Name: "g", Count: &count, Tasks: []*berthv1.Task{
			{Name: "t", Driver: "exec", Resources: &berthv1.Resources{CpuMilli: 100, Devices: devices}},
		}}}}
	}
	gpu := &berthv1.DeviceAsk{Kind: "gpu"}
	train := spec("train", 10, gpu)
	running := proto.CloneOf(train)
	running.Status = berthv1.Job_running
	dead := spec("train", 10, gpu)
	dead.Status = berthv1.Job_dead
	stopped := spec("train", 10, gpu)
	stopped.Stopped = true
	f := scheduler.NewFleet()
	var d demand
	for _, step := range []struct {
		name   string
		spec   *berthv1.Job
		total  int
		toTell bool // a change of an eighth or more
	}{
		{"web", spec("web", 100), 0, false},
		{"train", train, 10, true},
		{"train", running, 10, false},
		{"infer", spec("infer", 1, gpu), 11, false},
		{"infer", spec("infer", 2, gpu), 12, true}, // 1 came, then 1 went and 2 came
		{"train", dead, 2, true},
		{"train", spec("train", 10, gpu), 12, true},
		{"train", stopped, 2, true},
		{"train", nil, 2, false},
		{"infer", nil, 0, true},
	} {
		d.note(&job{key: jobKey{"", step.name}}, step.spec)
		if d.total != step.total {
			t.Fatalf("%s: %d instances are wanted, want %d", step.name, d.total, step.total)
		}
		before := d.changed
		d.tell(f)
		if told := before > 0 && d.changed == 0; told != step.toTell {
			t.Fatalf("%s: told %v, want %v (%d of %d changed)", step.name, told, step.toTell, before, d.told)
		}
	}
	if len(d.byJob) != 0 {
		t.Errorf("jobs that are gone are remembered: %v", d.byJob)
	}
}
