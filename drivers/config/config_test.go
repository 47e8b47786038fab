package config_test

import (
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/structpb"

	"github.com/berthd/berth/drivers/config"
	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

func TestDecodeFillsTheMessage(t *testing.T) {
	s, err := structpb.NewStruct(map[string]any{
		"command": "/bin/web",
		"args":    []any{"-port", 8080, true},
		"mount":   []any{map[string]any{"host_path": "/srv", "path": "/srv", "writable": true}},
		"rlimits": []any{map[string]any{"nofile": "4096"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	var c berthv1.ExecConfig
	if err := config.Decode(s, &c); err != nil {
		t.Fatal(err)
	}
	if got := c.GetArgs(); len(got) != 3 || got[1] != "8080" || got[2] != "true" {
		t.Errorf("args = %q", got)
	}
	if len(c.GetMounts()) != 1 || !c.GetMounts()[0].GetWritable() {
		t.Errorf("mounts = %v", c.GetMounts())
	}
	if c.GetRlimits().GetNofile() != 4096 {
		t.Errorf("nofile = %d", c.GetRlimits().GetNofile())
	}
	if c.GetPidMode() != "private" || c.GetSeccomp() != "default" {
		t.Errorf("defaults: pid_mode %q, seccomp %q", c.GetPidMode(), c.GetSeccomp())
	}
}

func TestDecodeDuration(t *testing.T) {
	s, _ := structpb.NewStruct(map[string]any{"run_for": "90s"})
	var c berthv1.MockConfig
	if err := config.Decode(s, &c); err != nil || c.GetRunFor().AsDuration() != 90*time.Second {
		t.Errorf("run_for = %v, %v", c.GetRunFor(), err)
	}
}

func TestDecodeNamesWhatIsWrong(t *testing.T) {
	for _, tt := range []struct {
		name  string
		block map[string]any
		field string
		words string
	}{
		{"missing", map[string]any{}, "config.command", "config.command: is missing"},
		{"unknown", map[string]any{"comand": "x"}, "config.comand", `config.comand: unknown key (did you mean "command"?)`},
		{"value", map[string]any{"command": "x", "pid_mode": "shared"}, "config.pid_mode", `config.pid_mode: "shared" is not one of private, host`},
		{"type", map[string]any{"command": "x", "args": "y"}, "config.args", "config.args: must be a list, not y"},
		{"bool", map[string]any{"command": "x", "cpu_hard_limit": 3}, "config.cpu_hard_limit", "config.cpu_hard_limit: must be true or false, not 3"},
		{"fraction", map[string]any{"command": "x", "oom_score_adj": 0.5}, "config.oom_score_adj", "config.oom_score_adj: must be a whole number, not 0.5"},
		{"bounds", map[string]any{"command": "x", "oom_score_adj": 1001}, "config.oom_score_adj", "config.oom_score_adj: 1001 is not between -1000 and 1000"},
		{"inside", map[string]any{"command": "x", "mount": []any{map[string]any{"host_path": "/a"}}}, "config.mount[0].path", "config.mount[0].path: is missing"},
		{"zero byte", map[string]any{"command": "a\x00b"}, "config.command", "config.command: has a zero byte in it"},
		{"twice", map[string]any{"command": "x", "mount": []any{}, "mounts": []any{}}, "config.mounts", "config.mounts: mounts is the same key as mount"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, err := structpb.NewStruct(tt.block)
			if err != nil {
				t.Fatal(err)
			}
			err = config.Decode(s, &berthv1.ExecConfig{})
			if !problem.Is(err, problem.Invalid) || problem.From(err).Field != tt.field || err.Error() != tt.words {
				t.Errorf("got %v", err)
			}
		})
	}
}

// FuzzDecode: whatever the block, an answer and no panic.
func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"command":"x","mount":{"path":[]},"rlimits":{"nofile":-1}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var s structpb.Struct
		if s.UnmarshalJSON(data) != nil {
			return
		}
		if err := config.Decode(&s, &berthv1.ExecConfig{}); err != nil && !problem.Is(err, problem.Invalid) {
			t.Errorf("not an Invalid problem: %v", err)
		}
	})
}
