package command

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// unit is the settings of a systemd unit, by "Section.Key".
func unit(t *testing.T, file string) map[string][]string {
	t.Helper()
	src, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	settings := map[string][]string{}
	section := ""
	for n, line := range strings.Split(string(src), "\n") {
		line = strings.TrimSpace(line)
		switch {
		case line == "", strings.HasPrefix(line, "#"):
		case strings.HasPrefix(line, "[") && strings.HasSuffix(line, "]"):
			section = line[1 : len(line)-1]
		default:
			key, value, ok := strings.Cut(line, "=")
			if !ok || section == "" {
				t.Fatalf("%s:%d: %q is no setting", file, n+1, line)
			}
			settings[section+"."+key] = append(settings[section+"."+key], value)
		}
	}
	return settings
}

// TestUnits holds the systemd units to what Berth promises: their commands exist, and
// stopping an agent leaves its workloads alone.
func TestUnits(t *testing.T) {
	files, _ := filepath.Glob("../packaging/systemd/*.service")
	if len(files) != 2 {
		t.Fatalf("%d units", len(files))
	}
	for _, file := range files {
		u := unit(t, file)
		words := strings.Fields(strings.Join(u["Service.ExecStart"], " "))
		a, _, _ := testApp()
		root := a.root()
		cmd, rest, err := root.Find(normalize(root, words[1:]))
		if err != nil || cmd.Annotations[annotationDaemon] == "" || cmd.ParseFlags(rest) != nil {
			t.Errorf("%s: %q is no call of a daemon: %v", file, words, err)
		}
		restart := "always"
		if strings.Contains(file, "server") {
			restart = "on-failure" // one that has left the cluster stays away
		}
		for key, want := range map[string]string{"Service.Type": "notify", "Service.Restart": restart, "Install.WantedBy": "multi-user.target"} {
			if got := strings.Join(u[key], " "); got != want {
				t.Errorf("%s: %s is %q, want %q", file, key, got, want)
			}
		}
		dir := strings.TrimPrefix(strings.Join(u["Service.Environment"], ""), "BERTH_DATA_DIR=/var/lib/")
		if dir != strings.Join(u["Service.StateDirectory"], "") {
			t.Errorf("%s: the data directory %q is not the state directory", file, dir)
		}
	}
	agent := unit(t, "../packaging/systemd/berth-agent.service")
	for key, want := range map[string]string{"Service.KillMode": "process", "Service.Delegate": "yes"} {
		if got := strings.Join(agent[key], " "); got != want {
			t.Errorf("the agent's %s is %q, want %q", key, got, want)
		}
	}
	for _, key := range []string{"ProtectSystem", "PrivateTmp", "PrivateDevices", "NoNewPrivileges", "SystemCallFilter", "OOMScoreAdjust", "MemoryDenyWriteExecute"} {
		if agent["Service."+key] != nil {
			t.Errorf("the agent's %s would hold for its tasks", key)
		}
	}
	if analyze, err := exec.LookPath("systemd-analyze"); err == nil && !testing.Short() {
		out, _ := exec.Command(analyze, append([]string{"verify"}, files...)...).CombinedOutput()
		for line := range strings.Lines(string(out)) {
			if strings.Contains(line, "Unknown") {
				t.Error(strings.TrimSpace(line))
			}
		}
	}
}
