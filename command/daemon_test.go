package command

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/berthd/berth/client"
	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// devEnv gives every port to the kernel to choose, and temporary files a place to look at.
func devEnv(t *testing.T) (getenv func(string) string, tmp string) {
	tmp = t.TempDir()
	t.Setenv("TMPDIR", tmp)
	env := map[string]string{"BERTH_PORTS_HTTP": "0", "BERTH_PORTS_GRPC": "0", "BERTH_PORTS_RAFT": "0", "BERTH_PORTS_GOSSIP": "0", "BERTH_AGENT_DRIVERS": "mock"}
	return func(name string) string { return env[name] }, tmp
}

// TestDev composes a real server and a real agent, sees the node ready through the
// client, and that nothing is left behind.
func TestDev(t *testing.T) {
	getenv, tmp := devEnv(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	up := make(chan struct{})
	out := &watchedWriter{text: "Ctrl-C ends it", cancel: func() {
		select {
		case <-up:
		default:
			close(up)
		}
	}}
	log := &watchedWriter{}
	ended := make(chan int, 1)
	go func() {
		ended <- Main(ctx, []string{"agent", "-dev", "-config", t.TempDir()}, Streams{In: strings.NewReader(""), Out: out, Err: log, Getenv: getenv, Environ: os.Environ})
	}()
	select {
	case <-up:
	case code := <-ended:
		t.Fatalf("it ended with %d: %s", code, log.b.String())
	}
	out.mu.Lock()
	address := regexp.MustCompile(`API +(\S+)`).FindStringSubmatch(out.b.String())[1]
	out.mu.Unlock()
	c, err := client.New(client.Config{Address: address})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	waitForNode(t, c)
	if dirs, _ := filepath.Glob(filepath.Join(tmp, "berth-dev-*")); len(dirs) != 1 {
		t.Errorf("temporary directories %q", dirs)
	}
	cancel()
	if code := <-ended; code != exitOK {
		t.Errorf("exit code %d\n%s", code, log.b.String())
	}
	if dirs, _ := filepath.Glob(filepath.Join(tmp, "*")); len(dirs) != 0 {
		t.Errorf("%q is left behind", dirs)
	}
}

func waitForNode(t *testing.T, c *client.Client) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for {
		r, err := c.Nodes.ListNodes(ctx, &berthv1.ListNodesRequest{})
		if err != nil && !problem.Is(err, problem.Unavailable) {
			t.Fatal(err)
		}
		if n := r.GetNodes(); len(n) == 1 && n[0].GetStatus() == berthv1.Node_ready {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("the node does not become ready: %v, %v", r.GetNodes(), err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func TestLock(t *testing.T) {
	name := filepath.Join(t.TempDir(), "agent.lock")
	unlock, err := lockFile(name, "agent")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := lockFile(name, "agent"); !problem.Is(err, problem.Conflict) || !strings.Contains(err.Error(), "another agent (process ") {
		t.Errorf("a second lock: %v", err)
	}
	unlock()
	unlock, err = lockFile(name, "agent")
	if err != nil {
		t.Errorf("after the first has ended: %v", err)
	}
	unlock()
}

// TestReload: SIGHUP applies what can be applied, and a wrong file changes nothing.
func TestReload(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "a.hcl")
	write := func(text string) {
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("log_level = \"warn\"\nagent {\n  servers = [\"h\"]\n}\n")
	a, _, log := testApp()
	f := &daemonFlags{role: "agent", config: []string{dir}}
	cfg, err := f.load(a.Getenv)
	if err != nil {
		t.Fatal(err)
	}
	d := &daemon{app: a, flags: f, cfg: cfg, level: new(slog.LevelVar)}
	d.log = newLogger(a.Err, cfg, d.level)
	write("log_level = \"info\"\nagent {\n  servers = [\"h2\"]\n}\n")
	d.reload(t.Context())
	if !strings.Contains(log.String(), "applied=log_level needs_restart=agent.servers") {
		t.Error(log.String())
	}
	log.Reset()
	write("log_level = \"loud\"\n")
	d.reload(t.Context())
	if !strings.Contains(log.String(), "was not reloaded") || d.cfg.LogLevel != "info" || d.level.Level().String() != "INFO" {
		t.Errorf("after a wrong file the level is %s: %s", d.level.Level(), log)
	}
}
