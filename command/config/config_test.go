package config

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/berthd/berth/jobspec"
	"github.com/berthd/berth/problem"
)

var update = flag.Bool("update", false, "write golden files anew")

func noEnv(string) string { return "" }

const full = `
data_dir  = "/srv/berth"
name      = "n1"
log_level = "debug"
bind      = "10.0.0.5"

server {
  enabled          = true
  bootstrap_expect = 3
  join             = ["10.0.0.6", "10.0.0.7:9463"]
  heartbeat_ttl    = "3s"
}

agent {
  pool    = "gpu"
  servers = ["10.0.0.6"]
  meta    = { rack = "r1", "odd key" = "x" }
  reserved {
    cpus   = "0,64"
    memory = "2GiB"
    ports  = [22, 9100]
  }
}

addresses { http = "127.0.0.1" }
ports { grpc = 9461 }
advertise { grpc = "berth.example:9461" }
`

func TestParse(t *testing.T) {
	c := Default()
	if err := c.Parse("full.hcl", []byte(full)); err != nil {
		t.Fatal(err)
	}
	want := Default()
	want.DataDir, want.Name, want.LogLevel, want.Bind = "/srv/berth", "n1", "debug", "10.0.0.5"
	want.Server = Server{Enabled: true, BootstrapExpect: 3, Join: []string{"10.0.0.6", "10.0.0.7:9463"}, HeartbeatTTL: 3 * time.Second}
	want.Agent = Agent{Pool: "gpu", Servers: []string{"10.0.0.6"}, Meta: map[string]string{"rack": "r1", "odd key": "x"},
		Reserved: Reserved{CPUs: "0,64", Memory: 2048, Ports: []int{22, 9100}},
		DNS:      Default().Agent.DNS}
	want.Addresses.HTTP, want.Ports.GRPC, want.Advertise.GRPC = "127.0.0.1", 9461, "berth.example:9461"
	if diff := cmp.Diff(want, c); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	if got := c.Listen(c.Addresses.HTTP, c.Ports.HTTP); got != "127.0.0.1:7460" {
		t.Errorf("HTTP listens on %s", got)
	}
	if got := c.Listen(c.Addresses.GRPC, c.Ports.GRPC); got != "10.0.0.5:9461" {
		t.Errorf("gRPC listens on %s", got)
	}
	if diff := cmp.Diff([]string{"10.0.0.6:7463", "10.0.0.7:9463"}, WithPort(c.Server.Join, PortGossip)); diff != "" {
		t.Error(diff)
	}
}

// TestErrors holds what is said of each file in testdata/wrong against the .txt beside it.
func TestErrors(t *testing.T) {
	files, err := filepath.Glob("testdata/wrong/*.hcl")
	if err != nil || len(files) == 0 {
		t.Fatal("no test files", err)
	}
	for _, file := range files {
		src, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		c := Default()
		err = c.Parse(filepath.Base(file), src)
		if err == nil {
			t.Errorf("%s: no error", file)
			continue
		}
		if !problem.Is(err, problem.Invalid) {
			t.Errorf("%s: the error is %s", file, problem.KindOf(err))
		}
		if diff := cmp.Diff(Default(), c); diff != "" {
			t.Errorf("%s: half of a wrong file was applied\n%s", file, diff)
		}
		golden := strings.TrimSuffix(file, ".hcl") + ".txt"
		if *update {
			if err := os.WriteFile(golden, []byte(err.Error()+"\n"), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, _ := os.ReadFile(golden)
		if diff := cmp.Diff(string(want), err.Error()+"\n"); diff != "" {
			t.Errorf("%s: -want +got\n%s", file, diff)
		}
	}
}

func TestSourcesLieOverOneAnother(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("10-base.hcl", "name = \"a\"\nlog_level = \"warn\"\nserver { bootstrap_expect = 3 }\n")
	write("20-over.hcl", "name = \"b\"\nserver { enabled = true }\n")
	write("ignored.txt", "not HCL at all {")
	env := map[string]string{"BERTH_LOG_LEVEL": "error", "BERTH_AGENT_META": "a=b, c=d", "BERTH_PORTS_HTTP": "8080", "BERTH_SERVER_HEARTBEAT_TTL": "2s"}
	c, err := Load([]string{dir}, func(k string) string { return env[k] })
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Set("-data-dir", "data_dir", "/x"); err != nil {
		t.Fatal(err)
	}
	want := Default()
	want.Name, want.LogLevel, want.DataDir = "b", "error", "/x"
	want.Server = Server{Enabled: true, BootstrapExpect: 3, HeartbeatTTL: 2 * time.Second}
	want.Agent.Meta = map[string]string{"a": "b", "c": "d"}
	want.Ports.HTTP = 8080
	if diff := cmp.Diff(want, c); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

func TestWrongEnvironmentAndFlags(t *testing.T) {
	env := map[string]string{"BERTH_PORTS_HTTP": "x", "BERTH_AGENT_RESERVED_MEMORY": "2", "BERTH_LOG_LEVEL": "loud", "BERTH_SERVER_ENABLED": "perhaps", "BERTH_AGENT_META": "a"}
	c := Default()
	err := c.ReadEnv(func(k string) string { return env[k] })
	if n := len(problem.From(err).Causes); n != len(env) {
		t.Errorf("%d errors for %d wrong variables: %v", n, len(env), err)
	}
	if diff := cmp.Diff(Default(), c); diff != "" {
		t.Error("half of a wrong environment was applied", diff)
	}
	if err := c.Set("-log-level", "log_level", "loud"); problem.From(err).Field != "-log-level" {
		t.Error(err)
	}
	_, err = Load([]string{"/does/not/exist"}, noEnv)
	if got := problem.From(err).Field; got != "/does/not/exist" {
		t.Errorf("the error names %q: %v", got, err)
	}
}

func TestCheck(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"ports":     func(c *Config) { c.Ports.HTTP = c.Ports.GRPC },
		"tls":       func(c *Config) { c.TLS.CertFile = "/x" },
		"even":      func(c *Config) { c.Server.BootstrapExpect = 4 },
		"portrange": func(c *Config) { c.Agent.MinPort = 40000 },
	} {
		c := Default()
		if err := c.Check(); err != nil {
			t.Fatal(err)
		}
		change(c)
		if err := c.Check(); !problem.Is(err, problem.Invalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestDifferences(t *testing.T) {
	a, b := Default(), Default()
	b.LogLevel, b.DataDir, b.Server.Join = "debug", "/y", []string{"z"}
	want := []Difference{{"data_dir", false}, {"log_level", true}, {"server.join", true}}
	if diff := cmp.Diff(want, a.Differences(b)); diff != "" {
		t.Error(diff)
	}
}

// FuzzParse: whatever the file, there is an answer, every error has a place in it, and
// nothing of a wrong file is applied.
func FuzzParse(f *testing.F) {
	f.Add(full)
	files, _ := filepath.Glob("testdata/wrong/*.hcl")
	for _, file := range files {
		src, _ := os.ReadFile(file)
		f.Add(string(src))
	}
	f.Fuzz(func(t *testing.T, src string) {
		c := Default()
		err := c.Parse("f.hcl", []byte(src))
		if err == nil {
			_ = c.Check()
			return
		}
		var found *jobspec.Errors
		if !errors.As(err, &found) || len(found.Diagnostics) == 0 {
			t.Fatalf("not a positioned error: %v", err)
		}
		_ = err.Error()
		if diff := cmp.Diff(Default(), c); diff != "" {
			t.Fatalf("half of a wrong file was applied: %s", diff)
		}
	})
}

// TestReference holds docs/config.md against the tags; -update writes it.
func TestReference(t *testing.T) {
	const file = "../../docs/config.md"
	if *update {
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(Reference()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, _ := os.ReadFile(file)
	if diff := cmp.Diff(Reference(), string(got)); diff != "" {
		t.Errorf("docs/config.md is not current; go test ./command/config -update writes it\n%s", diff)
	}
	walk(Default(), func(f field) {
		if f.doc == "" {
			t.Errorf("%s has no doc tag", f.path)
		}
	})
}

// TestSamples holds the files that packages install right.
func TestSamples(t *testing.T) {
	c, err := Load([]string{"../../packaging/berth.d"}, noEnv)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Check(); err != nil {
		t.Error(err)
	}
	if len(c.Server.Join) != 3 || len(c.Agent.Servers) != 3 {
		t.Errorf("the samples say %+v", c)
	}
}
