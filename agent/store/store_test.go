package store

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.etcd.io/bbolt"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/berthd/berth/drivers"
	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

func open(t testing.TB, dir string) *Store {
	t.Helper()
	s, err := Open(dir, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func reopen(t *testing.T, s *Store, dir string) *Store {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return open(t, dir)
}

// fill stores some of everything.
func fill(t testing.TB, s *Store) {
	t.Helper()
	job := &berthv1.Job{Namespace: "default", Name: "web", Version: 3, Meta: map[string]string{"text": strings.Repeat("x", 5000)}}
	var as Assignments
	as.Revision, as.Jobs = 42, []*berthv1.Job{job}
	for i := range 50 {
		as.Allocs = append(as.Allocs, &berthv1.Alloc{Id: fmt.Sprintf("alloc-%02d", i), Namespace: "default", Job: "web", JobVersion: 3})
	}
	if err := s.Assign(as); err != nil {
		t.Fatal(err)
	}
	for i := range 50 {
		id := fmt.Sprintf("alloc-%02d", i)
		task := &Task{Phase: Running, Handle: &drivers.Handle{Driver: "mock", PID: i + 1, State: []byte("state")},
			State: &berthv1.TaskState{Task: "t", Pid: uint32(i + 1)}}
		report := func() *berthv1.AllocStatusUpdate {
			return &berthv1.AllocStatusUpdate{AllocId: id, Status: berthv1.Alloc_running}
		}
		if err := s.SaveTask(TaskKey{id, "t"}, task, report); err != nil {
			t.Fatal(err)
		}
	}
}

func TestEverythingIsFoundAgain(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	id := s.NodeID()
	fill(t, s)
	if err := s.SetServers([]string{"a:1", "b:2"}); err != nil {
		t.Fatal(err)
	}
	before, err := s.Load()
	if err != nil {
		t.Fatal(err)
	}
	s = reopen(t, s, dir)
	defer s.Close()
	after, err := s.Load()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, after, protocmp.Transform()); diff != "" {
		t.Error(diff)
	}
	if s.NodeID() != id || len(after.Allocs) != 50 || after.Revision != 42 || after.Tasks[TaskKey{"alloc-07", "t"}].Handle.PID != 8 {
		t.Errorf("node %s, %d allocs, revision %d", s.NodeID(), len(after.Allocs), after.Revision)
	}
	if got := s.Servers(); !cmp.Equal(got, []string{"a:1", "b:2"}) {
		t.Errorf("servers %v", got)
	}
}

// Thousands of children's allocs are forgotten at a time, each by a goroutine of its own,
// while others write.
func BenchmarkForgetManyAtOnce(b *testing.B) {
	const n = 2000
	for b.Loop() {
		b.StopTimer()
		s := open(b, b.TempDir())
		as := Assignments{Revision: 1}
		for i := range n {
			job := &berthv1.Job{Namespace: "default", Name: fmt.Sprint("j", i), Version: 1}
			as.Jobs = append(as.Jobs, job)
			as.Allocs = append(as.Allocs, &berthv1.Alloc{Id: fmt.Sprint("a", i), Namespace: "default", Job: job.GetName(), JobVersion: 1})
		}
		if err := s.Assign(as); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
		var wg sync.WaitGroup
		for i := range n {
			wg.Go(func() {
				if err := s.Forget(fmt.Sprint("a", i)); err != nil {
					b.Error(err)
				}
			})
		}
		wg.Wait()
		if c, err := s.Load(); err != nil || len(c.Allocs)+len(c.Jobs) > 0 {
			b.Errorf("left: %+v, %v", c, err)
		}
		b.StopTimer()
		_ = s.Close()
		b.StartTimer()
	}
}

func TestForget(t *testing.T) {
	s := open(t, t.TempDir())
	defer s.Close()
	fill(t, s)
	var ids []string
	for i := range 50 {
		ids = append(ids, fmt.Sprintf("alloc-%02d", i))
	}
	if err := s.Forget(ids[:49]...); err != nil {
		t.Fatal(err)
	}
	c, err := s.Load()
	if err != nil || len(c.Allocs) != 1 || len(c.Jobs) != 1 || len(c.Tasks) != 1 || len(c.Reports) != 1 {
		t.Fatalf("one alloc should be left: %+v, %v", c, err)
	}
	if err := s.Forget(ids[49]); err != nil {
		t.Fatal(err)
	}
	if c, err := s.Load(); err != nil || len(c.Allocs)+len(c.Jobs)+len(c.Tasks)+len(c.Reports) != 0 {
		t.Errorf("nothing should be left: %+v, %v", c, err)
	}
}

func TestConfirmKeepsWhatIsNewer(t *testing.T) {
	s := open(t, t.TempDir())
	defer s.Close()
	older := &berthv1.AllocStatusUpdate{AllocId: "a", Status: berthv1.Alloc_pending}
	newer := &berthv1.AllocStatusUpdate{AllocId: "a", Status: berthv1.Alloc_running}
	for _, u := range []*berthv1.AllocStatusUpdate{older, newer} {
		if err := s.SaveReport(u); err != nil {
			t.Fatal(err)
		}
	}
	for _, step := range []struct {
		u    *berthv1.AllocStatusUpdate
		want int
	}{{older, 1}, {newer, 0}, {newer, 0}} {
		if err := s.Confirm([]*berthv1.AllocStatusUpdate{step.u}); err != nil {
			t.Fatal(err)
		}
		if c, err := s.Load(); err != nil || len(c.Reports) != step.want {
			t.Errorf("%d reports are left, want %d (%v)", len(c.Reports), step.want, err)
		}
	}
}

func TestNodeIDSurvivesALostFile(t *testing.T) {
	dir := t.TempDir()
	id := ""
	for name, damage := range map[string]func(path string) error{
		"nonsense":  func(p string) error { return os.WriteFile(p, []byte("nonsense"), 0o600) },
		"cut":       func(p string) error { return os.Truncate(p, 20000) },
		"no file":   os.Remove,
		"id is bad": func(string) error { return os.WriteFile(filepath.Join(dir, "node-id"), []byte("?"), 0o600) },
	} {
		s := open(t, dir)
		fill(t, s)
		if id == "" {
			id = s.NodeID()
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if err := damage(filepath.Join(dir, "state.db")); err != nil {
			t.Fatal(name, err)
		}
		s = open(t, dir)
		if s.NodeID() != id {
			t.Errorf("%s: the node is %s, was %s", name, s.NodeID(), id)
		}
		if damaged := name == "nonsense" || name == "cut"; (s.Lost() != "") != damaged {
			t.Errorf("%s: lost is %q", name, s.Lost())
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if aside, _ := filepath.Glob(filepath.Join(dir, "state.db.corrupt-*")); len(aside) != 2 {
		t.Errorf("moved aside: %v", aside)
	}
}

func TestSecondAgentIsRefused(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	defer s.Close()
	_, err := Open(dir, slog.New(slog.DiscardHandler))
	if !problem.Is(err, problem.Conflict) {
		t.Errorf("a second agent got %v", err)
	}
}

func TestNewerFormatIsLeftAlone(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	if err := s.db.Update(func(tx *bbolt.Tx) error { _, err := tx.CreateBucket([]byte("v9")); return err }); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir, slog.New(slog.DiscardHandler)); !problem.Is(err, problem.Unsupported) {
		t.Errorf("a newer format gave %v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "state.db")); err != nil {
		t.Error("the newer file was moved:", err)
	}
}

// TestDamageIsNoticed flips bytes of a good file: whatever is read afterwards is what
// was written, or the file is moved aside. Nothing is read half or wrong.
func TestDamageIsNoticed(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	fill(t, s)
	want, err := s.Load()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	good, err := os.ReadFile(filepath.Join(dir, "state.db"))
	if err != nil {
		t.Fatal(err)
	}
	rounds := 150
	if testing.Short() {
		rounds = 30
	}
	rnd := rand.New(rand.NewPCG(1, 2))
	lost := 0
	for range rounds {
		bad := append([]byte(nil), good...)
		for range 1 + rnd.IntN(200) {
			bad[rnd.IntN(len(bad))] ^= byte(1 + rnd.IntN(255))
		}
		if tryDamaged(t, bad, want) {
			lost++
		}
	}
	if lost == 0 {
		t.Error("no damage was ever noticed")
	}
}

// tryDamaged opens a file with this content and works with it; it says whether the
// damage was noticed.
func tryDamaged(t *testing.T, content []byte, want *Content) bool {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "state.db"), content, 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := Open(dir, slog.New(slog.DiscardHandler))
	if err != nil {
		return true // said, and nothing was touched
	}
	defer s.Close()
	got, err := s.Load()
	if err != nil {
		t.Errorf("it opened, but cannot be read: %v", err)
		return true
	}
	if s.Lost() == "" && want != nil {
		if diff := cmp.Diff(want.Tasks, got.Tasks, protocmp.Transform()); diff != "" && len(got.Tasks) == len(want.Tasks) {
			t.Errorf("what was read is wrong: %s", diff)
		}
	}
	_ = s.SaveReport(&berthv1.AllocStatusUpdate{AllocId: "new"}) // may fail, may not panic
	return s.Lost() != ""
}

func FuzzFile(f *testing.F) {
	dir := f.TempDir()
	s := open(f, dir)
	fill(f, s)
	if err := s.Close(); err != nil {
		f.Fatal(err)
	}
	good, err := os.ReadFile(filepath.Join(dir, "state.db"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(0, []byte("garbage"))
	f.Add(4096, []byte{0xff, 0xff, 0xff, 0xff})
	f.Add(8192+16, []byte{0, 0, 0, 0x80})
	f.Fuzz(func(t *testing.T, at int, bytes []byte) {
		bad := append([]byte(nil), good...)
		if at < 0 || at > len(bad) {
			bad = bytes
		} else {
			copy(bad[at:], bytes)
		}
		tryDamaged(t, bad, nil)
	})
}

func TestManyWritersShareSyncs(t *testing.T) {
	s := open(t, t.TempDir())
	defer s.Close()
	var wg sync.WaitGroup
	for w := range 20 {
		wg.Go(func() {
			for i := range 10 {
				key := TaskKey{fmt.Sprintf("a%d", w), fmt.Sprintf("t%d", i)}
				task := &Task{Phase: Waiting, State: &berthv1.TaskState{Task: key.Task}, NotBefore: time.Unix(1, 0)}
				if err := s.SaveTask(key, task, func() *berthv1.AllocStatusUpdate { return nil }); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	c, err := s.Load()
	if err != nil || len(c.Tasks) != 200 {
		t.Fatalf("%d tasks, %v", len(c.Tasks), err)
	}
	if st := s.db.Stats(); st.TxStats.GetWrite() == 0 {
		t.Error("nothing was written")
	}
}

// TestAFailedWriteHurtsNobodyElse has one writer fail in a shared transaction.
func TestAFailedWriteHurtsNobodyElse(t *testing.T) {
	s := open(t, t.TempDir())
	defer s.Close()
	good := &write{fn: func(tx *bbolt.Tx) error { return put(tx, bucketReports, []byte("good"), nil) }}
	bad := &write{fn: func(*bbolt.Tx) error { return fmt.Errorf("no") }}
	s.commitMu.Lock()
	s.commit([]*write{bad, good})
	s.commitMu.Unlock()
	if good.err != nil || bad.err == nil || !good.done || !bad.done {
		t.Errorf("good: %v, bad: %v", good.err, bad.err)
	}
}

// TestFullDisk fills a small file system.
func TestFullDisk(t *testing.T) {
	dir := smallDisk(t, 1<<20)
	s := open(t, filepath.Join(dir, "agent"))
	defer s.Close()
	var err error
	for i := 0; err == nil && i < 10000; i++ {
		err = s.Assign(Assignments{Revision: uint64(i), Allocs: []*berthv1.Alloc{{Id: fmt.Sprint(i), DesiredReason: strings.Repeat("x", 20000)}}})
	}
	if !problem.Is(err, problem.Exhausted) {
		t.Fatalf("a full disk gave %v", err)
	}
	c, err := s.Load()
	if err != nil || len(c.Allocs) == 0 {
		t.Fatalf("what was stored before is not there: %v", err)
	}
	var ids []string
	for _, a := range c.Allocs {
		ids = append(ids, a.GetId())
	}
	if err := s.Forget(ids...); err != nil {
		t.Logf("forgetting needs space as well: %v", err)
	}
}
