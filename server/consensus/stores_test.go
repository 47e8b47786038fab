package consensus

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/raft"

	"github.com/berthd/berth/problem"
)

var silent = slog.New(slog.DiscardHandler)

// stocked makes stores with a term, a vote and entries 1 to 20, and gives their data directory.
func stocked(t *testing.T) string {
	dir := t.TempDir()
	s, err := openStores(dir, silent)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.Stable.SetUint64([]byte("CurrentTerm"), 7), s.Stable.Set([]byte("LastVoteCand"), []byte("b"))); err != nil {
		t.Fatal(err)
	}
	for i := uint64(1); i <= 20; i += 5 {
		var batch []*raft.Log
		for j := i; j < i+5; j++ {
			batch = append(batch, entry(j))
		}
		if err := s.Log.StoreLogs(batch); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return dir
}

func entry(i uint64) *raft.Log {
	return &raft.Log{Index: i, Term: 7, Data: fmt.Appendf(nil, "entry %d", i)}
}

func TestStoresKeepWhatWasWritten(t *testing.T) {
	s, err := openStores(stocked(t), silent)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	if term, err := s.Stable.GetUint64([]byte("CurrentTerm")); term != 7 || err != nil {
		t.Errorf("term %d, %v", term, err)
	}
	if vote, err := s.Stable.Get([]byte("LastVoteCand")); string(vote) != "b" || err != nil {
		t.Errorf("vote %q, %v", vote, err)
	}
	if v, err := s.Stable.Get([]byte("nothing")); v != nil || err != nil {
		t.Errorf("nothing is %q, %v", v, err)
	}
	if last, err := s.Log.LastIndex(); last != 20 || err != nil {
		t.Errorf("last entry %d, %v", last, err)
	}
	if err := s.Log.DeleteRange(1, 10); err != nil {
		t.Fatal(err)
	}
	if err := s.Log.DeleteRange(18, 20); err != nil {
		t.Fatal(err)
	}
	var l raft.Log
	if err := s.Log.GetLog(11, &l); err != nil || !bytes.Equal(l.Data, entry(11).Data) {
		t.Errorf("%+v, %v", l, err)
	}
	if err := s.Log.GetLog(10, &l); !errors.Is(err, raft.ErrLogNotFound) {
		t.Errorf("entry 10: %v", err)
	}
}

func TestStoresAreHeldByOneProcess(t *testing.T) {
	dir := stocked(t)
	s, err := openStores(dir, silent)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	if _, err := openStores(dir, silent); !problem.Is(err, problem.Conflict) {
		t.Errorf("opened twice: %v", err)
	}
}

// readAll opens the stores and reads them whole; the entries that it got must be right.
func readAll(t *testing.T, dir string) error {
	t.Helper()
	s, err := openStores(dir, silent)
	if err != nil {
		return err
	}
	defer func() { _ = s.Close() }()
	return guard(func() error {
		if term, err := s.Stable.GetUint64([]byte("CurrentTerm")); err != nil {
			return err
		} else if term != 7 {
			t.Errorf("term %d was read as if it were good", term)
		}
		last, err := s.Log.LastIndex()
		if err != nil {
			return err
		}
		for i := uint64(1); i <= last; i++ {
			var l raft.Log
			if err := s.Log.GetLog(i, &l); err != nil {
				return err
			}
			if l.Index != i || !bytes.Equal(l.Data, entry(i).Data) {
				t.Errorf("entry %d was read as %+v", i, l)
			}
		}
		return nil
	})
}

// Damage to any of the files is an error that names the file, or does not show because it hit
// nothing that is in use: never a panic, never wrong data.
func TestDamagedStores(t *testing.T) {
	good := stocked(t)
	var files []string
	_ = filepath.WalkDir(good, func(path string, d fs.DirEntry, _ error) error {
		if !d.IsDir() {
			rel, _ := filepath.Rel(good, path)
			files = append(files, rel)
		}
		return nil
	})
	if len(files) != 2 {
		t.Fatalf("files: %v", files)
	}
	for _, file := range files {
		content, err := os.ReadFile(filepath.Join(good, file))
		if err != nil {
			t.Fatal(err)
		}
		size := min(len(content), 40<<10)
		if strings.HasSuffix(file, ".wal") {
			content, size = content[:16<<10], 2000 // the rest is not used yet
		}
		found := 0
		damage := func(bad []byte) {
			// Another file: bbolt keeps its lock on the old one if it panics while it opens it.
			path := filepath.Join(good, file)
			if err := errors.Join(os.Remove(path), os.WriteFile(path, bad, 0o600)); err != nil {
				t.Fatal(err)
			}
			if err := readAll(t, good); err != nil {
				found++
				p := problem.From(err)
				var isProblem *problem.Error
				if errors.As(err, &isProblem) && (!strings.Contains(p.Field, raftDir) || p.Remedy == "") {
					t.Errorf("%s: unhelpful: %v", file, err)
				}
			}
		}
		for i := 0; i < size; i += size / 151 {
			bad := slices.Clone(content)
			bad[i] ^= byte(1 << (i % 8))
			damage(bad)
		}
		for n := 0; n < size; n += size / 23 {
			damage(content[:n])
		}
		damage(bytes.Repeat([]byte("x"), size))
		if found == 0 {
			t.Errorf("%s: no damage was found", file)
		}
		path := filepath.Join(good, file)
		if err := errors.Join(os.Remove(path), os.WriteFile(path, content, 0o600)); err != nil {
			t.Fatal(err)
		}
		if err := readAll(t, good); err != nil {
			t.Fatalf("the test itself broke the stores: %v", err)
		}
	}
}

func TestStoreProblemsNameTheWayOut(t *testing.T) {
	dir := stocked(t)
	stable := filepath.Join(dir, raftDir, stableFile)
	if err := os.Truncate(stable, 5000); err != nil {
		t.Fatal(err)
	}
	_, err := New(Config{DataDir: dir, FSM: nopFSM{}, Transport: &raft.InmemTransport{}, GossipBind: "127.0.0.1:0"})
	p := problem.From(err)
	for _, name := range []string{"", stableFile, snapshotsDir, filepath.Join(walDir, "x.wal")} {
		other := problem.From(storeProblem(filepath.Join(dir, raftDir), name, errDamaged))
		if other.Remedy != p.Remedy {
			t.Errorf("%q: another remedy: %s", name, other.Remedy)
		}
	}
	if p.Kind != problem.Internal || p.Field != stable || !strings.Contains(p.Remedy, "move "+filepath.Join(dir, raftDir)+" away") {
		t.Errorf("got %+v", p)
	}
}

// The log was compacted against a snapshot that is gone: the server must not start with a hole.
func TestLostSnapshotIsNoticed(t *testing.T) {
	dir := stocked(t)
	s, err := openStores(dir, silent)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.Log.DeleteRange(1, 10), s.Close()); err != nil {
		t.Fatal(err)
	}
	_, err = openStores(dir, silent)
	if p := problem.From(err); p == nil || !strings.Contains(p.Field, snapshotsDir) || !strings.Contains(p.Reason, "begins at entry 11") {
		t.Errorf("got %v", err)
	}
}

// The stable store went away: the log must neither be deleted nor another server started on it.
func TestLostStableStoreIsNoticed(t *testing.T) {
	dir := stocked(t)
	stable := filepath.Join(dir, raftDir, stableFile)
	content, err := os.ReadFile(stable)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(stable); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		_, err := openStores(dir, silent)
		if p := problem.From(err); p == nil || p.Kind != problem.Internal || p.Field != stable || !strings.Contains(p.Reason, "it is missing") {
			t.Fatalf("got %v", err)
		}
	}
	if err := os.WriteFile(stable, content, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := readAll(t, dir); err != nil {
		t.Errorf("with the file put back: %v", err)
	}
}

func TestServerIDStaysWithTheData(t *testing.T) {
	dir := t.TempDir()
	conf := Config{DataDir: dir, FSM: nopFSM{}, Transport: &raft.InmemTransport{}, GossipBind: "127.0.0.1:0"}
	c, err := New(conf)
	if err != nil {
		t.Fatal(err)
	}
	id := c.ID()
	if err := c.Close(); err != nil || len(id) != 36 {
		t.Fatalf("id %q, %v", id, err)
	}
	if c, err = New(conf); err != nil || c.ID() != id {
		t.Fatalf("%v, %v", c, err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	conf.ID = "another"
	if _, err := New(conf); !problem.Is(err, problem.Conflict) {
		t.Errorf("data of another server: %v", err)
	}
}

func TestBadConfig(t *testing.T) {
	good := func() Config {
		return Config{Stores: &Stores{Log: raft.NewInmemStore(), Stable: raft.NewInmemStore(), Snapshots: raft.NewInmemSnapshotStore()},
			FSM: nopFSM{}, Transport: &raft.InmemTransport{}, GossipBind: "127.0.0.1:0"}
	}
	for field, spoil := range map[string]func(*Config){
		"fsm":               func(c *Config) { c.FSM = nil },
		"data_dir":          func(c *Config) { c.Stores = nil },
		"gossip_bind":       func(c *Config) { c.GossipBind = "" },
		"raft":              func(c *Config) { c.Transport = nil },
		"bootstrap_expect":  func(c *Config) { c.BootstrapExpect = -1 },
		"gossip_key":        func(c *Config) { c.GossipKey = []byte("short") },
		"timing.lease":      func(c *Config) { c.Timing.Lease = 1e9 },
		"timing.election":   func(c *Config) { c.Timing.Election = 1e8 },
		"timing.commit":     func(c *Config) { c.Timing.Commit = 1 },
		"snapshot_interval": func(c *Config) { c.SnapshotInterval = 1 },
	} {
		c := good()
		spoil(&c)
		if _, err := New(c); !problem.Is(err, problem.Invalid) || problem.From(err).Field != field {
			t.Errorf("%s: %v", field, err)
		}
	}
	c := good()
	c.BootstrapExpect, c.Join = 1, []string{"x:1"}
	if _, err := New(c); !problem.Is(err, problem.Invalid) {
		t.Errorf("a cluster of its own that joins: %v", err)
	}
	if _, err := New(good()); err != nil {
		t.Errorf("a good one: %v", err)
	}
}

type nopFSM struct{ raft.FSM }
