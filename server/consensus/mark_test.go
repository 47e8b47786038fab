package consensus

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/raft"
	"github.com/hashicorp/raft-wal/types"
	"pgregory.net/rapid"

	"github.com/berthd/berth/problem"
)

// crash ends the use of stores as kill -9 does: nothing more is written.
func crash(s *Stores) error {
	stable := s.Stable.(*stableStore)
	return errors.Join(s.Log.(checkedLog).LogStore.(*markedLog).Close(), stable.db.Close())
}

// segments are the log's files, oldest first.
func segments(t testing.TB, dir string) []string {
	files, err := filepath.Glob(filepath.Join(dir, raftDir, walDir, "*.wal"))
	if err != nil || len(files) == 0 {
		t.Fatalf("segments: %v, %v", files, err)
	}
	return files
}

// A log that lost its only segment, or the head of it, is not taken for that of a new server, also
// when nothing was written after the first append, and not at the second try either.
func TestLostLogIsNoticed(t *testing.T) {
	for what, end := range map[string]func(*Stores) error{"stopped": func(s *Stores) error { return s.Close() }, "crashed": crash} {
		for how, spoil := range map[string]func(path string, content []byte) error{
			"missing":               func(path string, _ []byte) error { return os.Remove(path) },
			"emptied":               func(path string, _ []byte) error { return os.Truncate(path, 0) },
			"zeros":                 func(path string, b []byte) error { return os.WriteFile(path, make([]byte, len(b)), 0o600) },
			"no head":               func(path string, b []byte) error { copy(b, make([]byte, 4096)); return os.WriteFile(path, b, 0o600) },
			"first frame destroyed": func(path string, b []byte) error { copy(b[32:], "destroyed"); return os.WriteFile(path, b, 0o600) },
			"one bit of the first frame": func(path string, b []byte) error {
				b[32] ^= 0x40
				return os.WriteFile(path, b, 0o600)
			},
		} {
			t.Run(what+"/"+how, func(t *testing.T) {
				dir := t.TempDir()
				s, err := openStores(dir, silent)
				if err != nil {
					t.Fatal(err)
				}
				for i := uint64(1); i <= 3; i++ {
					if err := s.Log.StoreLog(entry(i)); err != nil {
						t.Fatal(err)
					}
				}
				if err := end(s); err != nil {
					t.Fatal(err)
				}
				path := segments(t, dir)[0]
				content, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				content = content[:1<<20] // the rest is not used
				if err := spoil(path, bytes.Clone(content)); err != nil {
					t.Fatal(err)
				}
				for range 2 {
					_, err := openStores(dir, silent)
					p := problem.From(err)
					if p == nil || p.Kind != problem.Internal || p.Field != path || !strings.Contains(p.Reason, "the log is empty") ||
						!strings.Contains(p.Remedy, "move "+filepath.Join(dir, raftDir)+" away") {
						t.Fatalf("got %v", err)
					}
				}
				if err := os.WriteFile(path, content, 0o600); err != nil {
					t.Fatal(err)
				}
				if s, err = openStores(dir, silent); err != nil {
					t.Fatalf("with the file put back: %v", err)
				}
				if last, err := s.Log.LastIndex(); last != 3 || err != nil {
					t.Errorf("with the file put back the log ends at %d, %v", last, err)
				}
				_ = s.Close()
			})
		}
	}
}

// After an orderly end also the last batch is missed.
func TestLostEndOfLogIsNoticed(t *testing.T) {
	dir := stocked(t)
	path := segments(t, dir)[0]
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	i := bytes.LastIndex(content, []byte("entry 20"))
	content[i] ^= 1
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = openStores(dir, silent)
	if p := problem.From(err); p == nil || p.Field != path || !strings.Contains(p.Reason, "ends at entry 15, and this server had entries up to 20") {
		t.Errorf("got %v", err)
	}
}

// filled makes a log that has just begun its second segment, with entry 1026 as the only one there at the most.
func filled(t testing.TB, dir string) (*Stores, uint64) {
	s, err := openStores(dir, silent)
	if err != nil {
		t.Fatal(err)
	}
	at, data := uint64(0), make([]byte, MaxEntry)
	for len(segments(t, dir)) == 1 {
		at++
		if err := s.Log.StoreLog(&raft.Log{Index: at, Term: 7, Data: data}); err != nil {
			t.Fatal(err)
		}
	}
	return s, at
}

// The newest of several segments is missed as soon as it holds an entry.
func TestLostNewestSegmentIsNoticed(t *testing.T) {
	if testing.Short() {
		t.Skip("writes 64 MiB")
	}
	dir := t.TempDir()
	s, at := filled(t, dir)
	if err := errors.Join(s.Log.StoreLog(entry(at+1)), crash(s)); err != nil {
		t.Fatal(err)
	}
	files := segments(t, dir)
	if err := os.Remove(files[len(files)-1]); err != nil {
		t.Fatal(err)
	}
	_, err := openStores(dir, silent)
	if p := problem.From(err); p == nil || p.Field != files[len(files)-1] {
		t.Errorf("got %v", err)
	}
}

// Where a step of a change to the log is cut off.
type cutOff int

const (
	nowhere    cutOff = iota
	before            // the table of segments is not written
	beforeVote        // nor is it, but something else is, to the stable store
	after             // it is written, and nothing after it
	cutOffs
)

// failMeta is a table of segments whose writes fail from some one on.
type failMeta struct {
	*stableStore
	at    cutOff
	in    int // fail at this many writes from now
	spent bool
}

var errCutOff = errors.New("cut off")

func (f *failMeta) CommitState(state types.PersistentState) error {
	if f.spent {
		return errCutOff
	}
	if f.at == nowhere || f.in > 0 {
		f.in--
		return f.stableStore.CommitState(state)
	}
	f.spent = true
	switch f.at {
	case beforeVote:
		return errors.Join(errCutOff, f.SetUint64([]byte("CurrentTerm"), 8))
	case after:
		return errors.Join(errCutOff, f.stableStore.CommitState(state))
	}
	return errCutOff
}

// openFailing opens a log over a table of segments that can fail.
func openFailing(t interface{ Fatal(...any) }, dir string) (*Stores, *failMeta) {
	if err := os.MkdirAll(filepath.Join(dir, raftDir, walDir), 0o700); err != nil {
		t.Fatal(err)
	}
	stable, err := openStable(filepath.Join(dir, raftDir))
	if err != nil {
		t.Fatal(err)
	}
	meta := &failMeta{stableStore: stable}
	log, err := openLog(filepath.Join(dir, raftDir, walDir), stable, meta, silent)
	if err == nil {
		err = log.check()
	}
	if err != nil {
		_ = stable.db.Close()
		t.Fatal(err)
	}
	return &Stores{Log: checkedLog{log}, Stable: stable}, meta
}

// A healthy store opens wherever a change to its log was cut off, and has what was before or after.
func TestCutOffAnywhereOpens(t *testing.T) {
	put := func(l raft.LogStore, from, to uint64) error {
		var batch []*raft.Log
		for i := from; i <= to; i++ {
			batch = append(batch, entry(i))
		}
		return l.StoreLogs(batch)
	}
	for _, c := range []struct {
		what string
		had  uint64 // entries before
		do   func(raft.LogStore) error
		last []uint64 // that may be there afterwards
	}{
		{"first append", 0, func(l raft.LogStore) error { return put(l, 1, 5) }, []uint64{0, 5}},
		{"first append after a snapshot came", 0, func(l raft.LogStore) error { return put(l, 50, 55) }, []uint64{0, 55}},
		{"append", 10, func(l raft.LogStore) error { return put(l, 11, 15) }, []uint64{10, 15}},
		{"tail cut", 10, func(l raft.LogStore) error { return l.DeleteRange(6, 10) }, []uint64{10, 5}},
		{"all but one cut", 10, func(l raft.LogStore) error { return l.DeleteRange(2, 10) }, []uint64{10, 1}},
		{"all cut", 10, func(l raft.LogStore) error { return l.DeleteRange(1, 10) }, []uint64{10, 0}},
		{"more than all cut", 10, func(l raft.LogStore) error { return l.DeleteRange(0, 99) }, []uint64{10, 0}},
		{"head cut", 10, func(l raft.LogStore) error { return l.DeleteRange(1, 9) }, []uint64{10}},
		{"nothing cut", 10, func(l raft.LogStore) error { return l.DeleteRange(11, 12) }, []uint64{10}},
		{"conflict", 10, func(l raft.LogStore) error { return errors.Join(l.DeleteRange(6, 10), put(l, 6, 7)) }, []uint64{10, 5, 7}},
		{"snapshot restored", 10, func(l raft.LogStore) error { return errors.Join(l.DeleteRange(1, 10), put(l, 50, 51)) }, []uint64{10, 0, 51}},
	} {
		for at := nowhere; at < cutOffs; at++ {
			for in := range 3 {
				for _, marked := range []bool{true, false} {
					name := fmt.Sprintf("%s, cut off %d at write %d, marked %v", c.what, at, in, marked)
					dir := t.TempDir()
					s, meta := openFailing(t, dir)
					if c.had > 0 {
						if err := errors.Join(put(s.Log, 1, c.had), s.Stable.SetUint64([]byte("CurrentTerm"), 7)); err != nil {
							t.Fatal(err)
						}
					}
					meta.at, meta.in = at, in
					log := s.Log
					if !marked { // cut off between the append and its mark
						log = checkedLog{unmarked{log.(checkedLog).LogStore.(*markedLog)}}
					}
					err := failOnce(c.do, log)
					if err != nil && !errors.Is(err, errCutOff) {
						t.Fatalf("%s: %v", name, err)
					}
					if err := crash(s); err != nil {
						t.Fatal(err)
					}
					// Without check for a snapshot, which these logs have none of.
					again, _ := openFailing(fatal{t, name}, dir)
					last, _ := again.Log.LastIndex()
					if !slices.Contains(c.last, last) {
						t.Errorf("%s: the log ends at %d, want one of %v", name, last, c.last)
					}
					if err == nil && last != c.last[len(c.last)-1] {
						t.Errorf("%s: it succeeded, and the log ends at %d", name, last)
					}
					if err := put(again.Log, last+1, last+2); err != nil {
						t.Errorf("%s: appending afterwards: %v", name, err)
					}
					_ = crash(again)
				}
			}
		}
	}
}

// fatal says in which case it is that a test ends.
type fatal struct {
	t    *testing.T
	what string
}

func (f fatal) Fatal(args ...any) { f.t.Helper(); f.t.Fatal(append([]any{f.what}, args...)...) }

// failOnce does something to a log that takes nothing more after its first failure, as in a server.
func failOnce(do func(raft.LogStore) error, l raft.LogStore) error { return do(newFailStopLog(l)) }

// unmarked is a log whose appends tell the stable store nothing.
type unmarked struct{ *markedLog }

func (u unmarked) StoreLogs(logs []*raft.Log) error { return u.WAL.StoreLogs(logs) }

// Whatever is done to a log, and wherever it crashes, it opens again with all that was acknowledged.
func TestHealthyLogAlwaysOpens(t *testing.T) {
	base, n := t.TempDir(), 0
	rapid.Check(t, func(r *rapid.T) {
		n++
		dir := filepath.Join(base, fmt.Sprint(n))
		defer func() { _ = os.RemoveAll(dir) }()
		s, meta := openFailing(r, dir)
		defer func() { _ = crash(s) }()
		log := newFailStopLog(s.Log)
		for range rapid.IntRange(1, 12).Draw(r, "steps") {
			first, _ := log.FirstIndex()
			last, _ := log.LastIndex()
			want := []uint64{last}
			var err error
			meta.at = cutOff(rapid.IntRange(0, int(cutOffs)*4).Draw(r, "cut off"))
			if meta.at >= cutOffs {
				meta.at = nowhere
			}
			switch op := rapid.SampledFrom([]string{"append", "append", "tail", "head", "all", "vote"}).Draw(r, "op"); {
			case op == "append":
				from := last + 1
				if last == 0 {
					from = rapid.Uint64Range(1, 30).Draw(r, "from")
				}
				n := rapid.IntRange(1, 5).Draw(r, "entries")
				want = append(want, from+uint64(n)-1)
				err = log.StoreLogs(entries(from, n, 10))
			case op == "vote":
				err = s.Stable.SetUint64([]byte("CurrentTerm"), 9)
			case last == 0:
			case op == "all":
				want = append(want, 0)
				err = log.DeleteRange(first, last)
			case op == "tail" && first < last:
				at := rapid.Uint64Range(first+1, last).Draw(r, "at")
				want = append(want, at-1)
				err = log.DeleteRange(at, last)
			case op == "head" && first < last:
				err = log.DeleteRange(first, rapid.Uint64Range(first, last-1).Draw(r, "at"))
			}
			if err != nil && !errors.Is(err, errCutOff) {
				r.Fatal(err)
			}
			if err == nil {
				want = want[len(want)-1:]
			}
			if err != nil || rapid.Bool().Draw(r, "crash") {
				_ = crash(s)
				s, meta = openFailing(r, dir)
				log = newFailStopLog(s.Log)
			}
			if got, _ := log.LastIndex(); !slices.Contains(want, got) {
				r.Fatalf("the log ends at %d, want one of %v", got, want)
			}
		}
	})
}
