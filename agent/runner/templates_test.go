package runner

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

func variable(name, value string) *berthv1.Known {
	return &berthv1.Known{Topic: berthv1.VariableTopic("default", name), Variable: &berthv1.Variable{Name: name, Items: map[string]string{"a": value}}}
}

func service(name string, addresses ...string) *berthv1.Known {
	k := &berthv1.Known{Topic: berthv1.ServiceTopic("default", name)}
	for _, a := range addresses {
		k.Instances = append(k.Instances, &berthv1.ServiceInstance{AllocId: a, Address: a, Port: 80, Ready: true})
	}
	return k
}

// templated is a job whose task has these templates.
func templated(list ...*berthv1.Template) *berthv1.Job {
	job := jobOf(berthv1.Job_service, map[string]map[string]any{"t": {}})
	job.Groups[0].Restart = restart(0, time.Second, "fail")
	for i, x := range list {
		if x.Destination == "" {
			x.Destination = "local/" + string(rune('a'+i))
		}
		x.Splay = durationpb.New(5 * time.Second)
	}
	job.Groups[0].Tasks[0].Templates = list
	return job
}

func (n *node) file(name string) string {
	b, err := os.ReadFile(filepath.Join(n.m.cfg.Layout.AllocDir("a1"), "tasks/t", name))
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// events are the last events of a kind, as words.
func events(u *berthv1.AllocStatusUpdate, kind string) (words []string) {
	for _, e := range u.GetTasks()[0].GetEvents() {
		if e.GetType() == kind {
			words = append(words, e.GetMessage())
		}
	}
	return words
}

func TestTemplateWaitsAndRestarts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		n.start()
		defer n.end()
		job := templated(
			&berthv1.Template{Data: `{{ range service "db" }}{{ .address }} {{ end }}`},
			&berthv1.Template{Data: `SECRET={{ (var "v").a }}`, Env: true},
		)
		n.assign(complete(1, job, allocOf(job, "a1")))
		time.Sleep(time.Minute)
		u := n.want("a1", berthv1.Alloc_pending)
		if w := events(u, "waiting"); len(w) == 0 || !strings.Contains(w[len(w)-1], `service "db"`) || !strings.Contains(w[len(w)-1], `variable "v"`) {
			t.Errorf("events %v", u.GetTasks()[0].GetEvents())
		}
		n.know(service("db", "10.0.0.1"))
		n.know(variable("v", "1"))
		u = n.want("a1", berthv1.Alloc_running)
		pid := u.GetTasks()[0].GetPid()
		if n.file("local/a") != "10.0.0.1 " || n.driver.task("a1/t").Env["SECRET"] != "1" {
			t.Errorf("%q, %q", n.file("local/a"), n.driver.task("a1/t").Env["SECRET"])
		}
		// Both change: it is restarted once, and that counts as no failure.
		n.know(service("db", "10.0.0.1", "10.0.0.2"))
		n.know(variable("v", "2"))
		time.Sleep(20 * time.Second)
		u = n.want("a1", berthv1.Alloc_running)
		if u.GetTasks()[0].GetRestarts() != 1 || u.GetTasks()[0].GetPid() == pid || n.file("local/a") != "10.0.0.1 10.0.0.2 " || n.driver.task("a1/t").Env["SECRET"] != "2" {
			t.Errorf("%v, %q", u.GetTasks()[0], n.file("local/a"))
		}
		pid = u.GetTasks()[0].GetPid()
		// What was read is gone: the file stays.
		n.know(service("db"))
		time.Sleep(20 * time.Second)
		u = n.want("a1", berthv1.Alloc_running)
		if u.GetTasks()[0].GetPid() != pid || n.file("local/a") != "10.0.0.1 10.0.0.2 " || len(events(u, "waiting")) == 0 {
			t.Errorf("%v, %q", u.GetTasks()[0], n.file("local/a"))
		}
		// It is as before, then the agent is restarted: nothing happens.
		n.know(service("db", "10.0.0.1", "10.0.0.2"))
		n.restart()
		time.Sleep(20 * time.Second)
		if u = n.want("a1", berthv1.Alloc_running); u.GetTasks()[0].GetPid() != pid {
			t.Errorf("restarted for nothing: %v", u)
		}
		// It changes while the agent is away.
		n.end()
		n.answers.Store("variable:default/v", variable("v", "3"))
		n.start()
		time.Sleep(20 * time.Second)
		if u = n.want("a1", berthv1.Alloc_running); u.GetTasks()[0].GetPid() == pid || n.driver.task("a1/t").Env["SECRET"] != "3" {
			t.Errorf("not restarted: %v", u)
		}
	})
}

func TestTemplateActions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		n.answers.Store("variable:default/v", variable("v", "1"))
		n.start()
		defer n.end()
		data := `{{ (var "v").a }}`
		job := templated(
			&berthv1.Template{Data: data, ChangeMode: "none", Perms: "0600"},
			&berthv1.Template{Data: data, ChangeMode: "script", ChangeScript: []string{"reload"}},
			&berthv1.Template{Data: data, ChangeMode: "script", ChangeScript: []string{"reload"}},
			&berthv1.Template{Data: `{{ env "BERTH_TASK_NAME" }}`, ChangeMode: "restart"},
		)
		n.assign(complete(1, job, allocOf(job, "a1")))
		pid := n.want("a1", berthv1.Alloc_running).GetTasks()[0].GetPid()
		before := n.driver.Calls()["Exec"]
		for _, v := range []string{"2", "3", "4"} { // within the pause
			n.know(variable("v", v))
			time.Sleep(100 * time.Millisecond)
		}
		if n.file("local/a") != "1" {
			t.Error("it did not wait")
		}
		time.Sleep(20 * time.Second)
		u := n.want("a1", berthv1.Alloc_running)
		if n.file("local/a") != "4" || n.file("local/b") != "4" || u.GetTasks()[0].GetPid() != pid || u.GetTasks()[0].GetRestarts() != 0 {
			t.Errorf("%q, %v", n.file("local/a"), u)
		}
		if got := n.driver.Calls()["Exec"] - before; got != 1 {
			t.Errorf("%d scripts, %v", got, u)
		}
		if len(events(u, "rendered")) != 1 {
			t.Errorf("events %v", u.GetTasks()[0].GetEvents())
		}
	})
}

func TestFilesThatFail(t *testing.T) {
	for name, change := range map[string]func(*berthv1.Task){
		"missing": func(t *berthv1.Task) {
			t.Templates = []*berthv1.Template{{Data: `{{ var "no" }}`, Destination: "a", FailOnMissing: true}}
		},
		"syntax":           func(t *berthv1.Task) { t.Templates = []*berthv1.Template{{Data: `{{`, Destination: "a"}} },
		"leads out":        func(t *berthv1.Task) { t.Templates = []*berthv1.Template{{Data: `x`, Destination: "../a"}} },
		"no source":        func(t *berthv1.Task) { t.Templates = []*berthv1.Template{{Source: "local/x", Destination: "a"}} },
		"env":              func(t *berthv1.Task) { t.Templates = []*berthv1.Template{{Data: `x`, Destination: "a", Env: true}} },
		"artifact":         func(t *berthv1.Task) { t.Artifacts = []*berthv1.Artifact{{Source: "s3://x/y"}} },
		"artifact is gone": func(t *berthv1.Task) { t.Artifacts = []*berthv1.Artifact{{Source: "file:///nothing/here"}} },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := newNode(t)
				n.start()
				defer n.end()
				job := templated()
				job.Groups[0].Restart = restart(1, time.Second, "fail")
				change(job.Groups[0].Tasks[0])
				n.assign(complete(1, job, allocOf(job, "a1")))
				time.Sleep(time.Minute)
				u := n.want("a1", berthv1.Alloc_failed)
				if len(events(u, "files failed")) == 0 || n.host.Running() != 0 {
					t.Errorf("%v", u)
				}
				t.Log(u.GetStatusReason())
			})
		})
	}
}
