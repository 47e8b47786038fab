package runner

import (
	"strings"
	"testing"

	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/berthd/berth/agent/store"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

func nowPB() *timestamppb.Timestamp { return timestamppb.Now() }

func testSpec() *spec {
	config, err := structpb.NewStruct(map[string]any{
		"command": "/bin/${meta.zone}", "args": []any{"--rack=${node.rack}", "$${HOME}", true},
		"deep": map[string]any{"port": "${BERTH_PORT_http}"},
	})
	if err != nil {
		panic(err)
	}
	task := &berthv1.Task{Name: "t", Driver: "mock", Config: config,
		Env:       map[string]string{"WHERE": "${node.name}:${BERTH_PORT_HTTP}", "BERTH_TASK_NAME": "mine", "KERNEL": "${attr.kernel.version}"},
		Resources: &berthv1.Resources{CpuMilli: 500, MemoryMib: 256}, Meta: map[string]string{"who": "task"}}
	group := &berthv1.Group{Name: "g", Tasks: []*berthv1.Task{task}, Meta: map[string]string{"who": "group", "my-key": "1"}}
	job := &berthv1.Job{Name: "j", Namespace: "default", Version: 7, Groups: []*berthv1.Group{group}, Meta: map[string]string{"who": "job"}}
	alloc := &berthv1.Alloc{Id: "a1", Job: "j", Namespace: "default", Group: "g", Index: 3, JobVersion: 7, Assignment: &berthv1.Assignment{
		Tasks: []*berthv1.TaskGrant{{Task: "t", Cells: []*berthv1.CellGrant{{Cell: 1, Cpus: "2,6", MemoryMib: 200}, {Cell: 0, Cpus: "1", MemoryMib: 56}}}},
		Ports: []*berthv1.PortGrant{{Name: "http", Port: 23456, To: 80}, {Name: "db-6", Port: 5432, Address: "fd00::1"}}}}
	return &spec{node: testNode("n-1"), alloc: alloc, job: job, group: group, task: task,
		dirs: Layout{Data: "/data"}.dirs(store.TaskKey{Alloc: "a1", Task: "t"})}
}

func TestEnvironment(t *testing.T) {
	dt, err := testSpec().build()
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"BERTH_ALLOC_ID": "a1", "BERTH_ALLOC_NAME": "j.g[3]", "BERTH_ALLOC_INDEX": "3", "BERTH_JOB_NAME": "j", "BERTH_JOB_VERSION": "7",
		"BERTH_GROUP_NAME": "g", "BERTH_NAMESPACE": "default", "BERTH_NODE_ID": "n-1", "BERTH_NODE_NAME": "n1", "BERTH_NODE_POOL": "default", "BERTH_REGION": "eu",
		"BERTH_ALLOC_DIR": "/data/allocs/a1/shared", "BERTH_TASK_DIR": "/data/allocs/a1/tasks/t", "BERTH_SECRETS_DIR": "/data/private/a1/secrets/t",
		"BERTH_PORT_http": "80", "BERTH_PORT_HTTP": "80", "BERTH_HOST_PORT_http": "23456", "BERTH_ADDR_http": "10.0.0.1:23456", "BERTH_IP_http": "10.0.0.1",
		"BERTH_PORT_db-6": "5432", "BERTH_PORT_DB_6": "5432", "BERTH_ADDR_DB_6": "[fd00::1]:5432",
		"BERTH_CPU_MILLI": "500", "BERTH_MEMORY_MIB": "256", "BERTH_CPUS": "1-2,6",
		"BERTH_META_WHO": "task", "BERTH_META_MY_KEY": "1",
		"WHERE": "n1:80", "BERTH_TASK_NAME": "mine", "KERNEL": "6.1",
	} {
		if got := dt.Env[name]; got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	config := dt.Config.AsMap()
	if config["command"] != "/bin/z1" || config["args"].([]any)[0] != "--rack=r7" || config["args"].([]any)[1] != "${HOME}" ||
		config["args"].([]any)[2] != true || config["deep"].(map[string]any)["port"] != "80" {
		t.Errorf("config %v", config)
	}
	if dt.KillSignal != "SIGTERM" || dt.KillTimeout != defaultKillTimeout || dt.Logs.MaxFiles != 5 {
		t.Errorf("defaults: %+v", dt)
	}
}

func TestDriversSeeWhatTheGrantMeans(t *testing.T) {
	s := testSpec()
	s.node.Hardware.Devices = []*berthv1.Device{{Id: "GPU-1", Kind: "gpu", PciAddress: "0000:41:00.0", Cell: 1}, {Id: "GPU-2", Kind: "gpu"}}
	s.alloc.Assignment.Tasks[0].Devices = []*berthv1.DeviceGrant{{Kind: "vf", Id: "gone"}, {Kind: "gpu", Id: "GPU-1"}}
	dt, err := s.build()
	if err != nil {
		t.Fatal(err)
	}
	if len(dt.Devices) != 2 || dt.Devices[0].GetId() != "gone" || dt.Devices[0].GetCell() != -1 || dt.Devices[1] != s.node.Hardware.Devices[0] {
		t.Errorf("devices %v", dt.Devices)
	}
	if len(dt.Ports) != 2 || dt.Ports[0].GetTo() != 80 || len(dt.Cells) == 0 || dt.Cells[0] != s.node.Hardware.Cells[0] {
		t.Errorf("ports %v, cells %v", dt.Ports, dt.Cells)
	}
}

func TestUnknownNamesFailTheTask(t *testing.T) {
	for text, want := range map[string]string{
		"${nothing}":          "groups[g].tasks[t].config.command: ${nothing} is not known on this node",
		"${meta.none}":        "${meta.none} is not known",
		"${open":              "has a ${ that is not closed",
		"fine ${node.id}":     "",
		"$${literal}":         "",
		"$$${node.name}":      "", // $${ comes first
		"100%$ {no}":          "",
		"${ node.name }":      "",
		"${BERTH_META_WHO}":   "",
		"${env.BERTH_CPUS}":   "",
		"${BERTH_NO_SUCH_IP}": "${BERTH_NO_SUCH_IP} is not known",
	} {
		s := testSpec()
		s.task.Config.Fields["command"] = structpb.NewStringValue(text)
		dt, err := s.build()
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
		if dt == nil || dt.ID != "a1/t" {
			t.Errorf("%q: the task cannot be stopped: %v", text, dt)
		}
	}
}

func FuzzExpand(f *testing.F) {
	for _, s := range []string{"", "${", "}", "${}", "$${", "${node.name}", "a$${b}${node.id}${", "${${node.name}}"} {
		f.Add(s)
	}
	n := names{node: testNode("n-1"), env: map[string]string{"A": "${node.id}"}}
	f.Fuzz(func(t *testing.T, text string) {
		out, err := n.expand("field", text)
		if err == nil && !strings.Contains(text, "${") && out != text {
			t.Errorf("%q became %q", text, out)
		}
	})
}

func TestSharedCPUs(t *testing.T) {
	hw := testNode("n").GetHardware()
	grant := func(cell uint32, cpus string) *berthv1.Assignment {
		return &berthv1.Assignment{Tasks: []*berthv1.TaskGrant{{Cells: []*berthv1.CellGrant{{Cell: cell, Cpus: cpus}}}}}
	}
	on := func(cells ...uint32) *berthv1.TaskGrant {
		g := &berthv1.TaskGrant{}
		for _, c := range cells {
			g.Cells = append(g.Cells, &berthv1.CellGrant{Cell: c})
		}
		return g
	}
	for _, tc := range []struct {
		taken []*berthv1.Assignment
		on    *berthv1.TaskGrant
		want  string
	}{
		{nil, on(0), "1,5"}, // 0 and 4 are reserved
		{nil, on(1), "2-3,6-7"},
		{nil, on(0, 1), "1-3,5-7"},
		{nil, on(), "1-3,5-7"},
		{[]*berthv1.Assignment{grant(1, "2,6")}, on(1), "3,7"},
		{[]*berthv1.Assignment{grant(1, "2-3,6-7")}, on(1), "1,5"}, // nothing is left on its cell
		{[]*berthv1.Assignment{grant(1, "2,6")}, grant(1, "2,6").GetTasks()[0], ""},
	} {
		if got := newPool(hw, tc.taken).sharedFor(tc.on); got != tc.want {
			t.Errorf("shared CPUs %q, want %q", got, tc.want)
		}
	}
}
