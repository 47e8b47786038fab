package runner

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"testing/synctest"

	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

func TestWritePayload(t *testing.T) {
	dir := t.TempDir()
	for range 2 { // again after a restart
		if err := writePayload(dir, "local/in/payload", "1234:99", []byte("hello")); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(dir, "local/in/payload")
	if b, err := os.ReadFile(path); err != nil || string(b) != "hello" {
		t.Errorf("%q, %v", b, err)
	}
	st, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if sys := st.Sys().(*syscall.Stat_t); os.Geteuid() == 0 && (sys.Uid != 1234 || sys.Gid != 99 || st.Mode().Perm() != 0o600) {
		t.Errorf("owner %d:%d, mode %v", sys.Uid, sys.Gid, st.Mode())
	}
	if err := writePayload(dir, "plain", "www-data", nil); err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(dir + "/plain"); err != nil || st.Mode().Perm() != 0o644 || st.Size() != 0 {
		t.Errorf("%v, %v", st, err)
	}
}

func TestPayloadStaysInside(t *testing.T) {
	dir, outside := t.TempDir(), t.TempDir()
	for _, name := range []string{"", ".", "..", "../x", "/etc/payload", "a/../../x"} {
		if err := writePayload(dir, name, "", nil); !problem.Is(err, problem.Invalid) {
			t.Errorf("%q: %v", name, err)
		}
	}
	// A task that ran before has put links there.
	if err := os.Symlink(outside, dir+"/local"); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside+"/file", dir+"/link"); err != nil {
		t.Fatal(err)
	}
	if err := writePayload(dir, "local/payload", "", []byte("x")); err == nil {
		t.Error("a link out of the directory was followed")
	}
	if err := writePayload(dir, "link", "", []byte("x")); err != nil {
		t.Error(err) // the link itself is replaced
	}
	if entries, _ := os.ReadDir(outside); len(entries) != 0 {
		t.Errorf("written outside: %v", entries)
	}
}

func TestPayloadIsThereBeforeTheTaskStarts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		n.start()
		defer n.end()
		job := jobOf(berthv1.Job_batch, map[string]map[string]any{"t": {"run_for": "1s"}})
		job.Payload, job.Groups[0].Tasks[0].PayloadFile = []byte("data"), "local/payload"
		bad := jobOf(berthv1.Job_batch, map[string]map[string]any{"t": {"run_for": "1s"}})
		bad.Name, bad.Groups[0].Tasks[0].PayloadFile = "bad", "../payload"
		as := complete(1, job, allocOf(job, "a1"), allocOf(bad, "a2"))
		as.Jobs = append(as.Jobs, bad)
		n.assign(as)
		n.want("a1", berthv1.Alloc_running)
		if b, err := os.ReadFile(n.driver.task("a1/t").Dirs.Task + "/local/payload"); err != nil || string(b) != "data" {
			t.Errorf("%q, %v", b, err)
		}
		t.Log(n.want("a2", berthv1.Alloc_failed).GetStatusReason())
	})
}
