package consensus_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/hashicorp/raft"

	"github.com/berthd/berth/problem"
	"github.com/berthd/berth/server/consensus"
)

// breakingLog is a log store that fails once it is told to.
type breakingLog struct {
	raft.LogStore
	err    atomic.Pointer[error]
	writes atomic.Int64 // after the first that failed
}

func (b *breakingLog) StoreLog(l *raft.Log) error { return b.StoreLogs([]*raft.Log{l}) }

func (b *breakingLog) StoreLogs(l []*raft.Log) error {
	if err := b.err.Load(); err != nil {
		b.writes.Add(1)
		return *err
	}
	return b.LogStore.StoreLogs(l)
}

// A server whose log cannot be written ends, whether it leads or follows, and says why; the others go on,
// and it has everything when it comes back.
func TestServerEndsWhenItsLogCannotBeWritten(t *testing.T) {
	for _, c := range []struct {
		what   string
		err    error
		kind   problem.Kind
		reason string
	}{
		{"full disk", fmt.Errorf("making the next segment: %w", &os.PathError{Op: "fallocate", Path: "x", Err: syscall.ENOSPC}), problem.Exhausted, "the disk is full"},
		{"quota", syscall.EDQUOT, problem.Exhausted, "the disk is full"},
		{"broken disk", syscall.EIO, problem.Unavailable, "the log cannot be written"},
	} {
		for _, leads := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s/leads=%v", c.what, leads), func(t *testing.T) {
				bubble(t, func(t *testing.T, cl *cluster) {
					disks := map[string]*breakingLog{}
					breakable := func(conf *consensus.Config) {
						d := &breakingLog{LogStore: conf.Stores.Log}
						disks[conf.ID] = d
						s := *conf.Stores
						s.Log, conf.Stores = d, &s
					}
					for _, id := range []string{"a", "b", "c"} {
						cl.start(id, 3, []string{"a", "b", "c"}, breakable)
					}
					l := cl.leader("a", "b", "c")
					cl.propose(l, "x")
					broken := l
					if !leads {
						broken = cl.servers[others(l.id, "a", "b", "c")[0]]
					}
					rest := others(broken.id, "a", "b", "c")
					disks[broken.id].err.Store(&c.err)
					_, err := l.Propose(t.Context(), []byte("y"))
					if leads == (err == nil) {
						t.Errorf("proposing: %v", err)
					}
					err = <-broken.ended
					broken.ended <- nil
					p := problem.From(err)
					if p == nil || p.Kind != c.kind || !strings.Contains(p.Reason, c.reason) || p.Remedy == "" {
						t.Errorf("it ended with %v", err)
					}
					if n := disks[broken.id].writes.Load(); n != 1 {
						t.Errorf("%d writes were tried", n)
					}
					next := cl.leader(rest...)
					cl.propose(next, "z")
					want := next.fsm.all()
					if want[0] != "x" || want[len(want)-1] != "z" || !leads && !slices.Contains(want, "y") {
						t.Errorf("the others have %v", want)
					}
					cl.start(broken.id, 3, rest)
					cl.agree(want, "a", "b", "c")
				})
			})
		}
	}
}

// The real thing: the disk has no room for the log's second segment. When there is room again, all that was
// acknowledged is there.
func TestFullDisk(t *testing.T) {
	if testing.Short() {
		t.Skip("writes 64 MiB")
	}
	disk := filepath.Join(t.TempDir(), "disk")
	if err := os.Mkdir(disk, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", disk, "tmpfs", 0, "size=100m"); err != nil {
		t.Skip("a small tmpfs cannot be mounted, which takes root:", err)
	}
	t.Cleanup(func() { // after the servers have ended
		if err := syscall.Unmount(disk, 0); err != nil {
			t.Error(err)
		}
	})
	dir := filepath.Join(disk, "data")
	s := real(t, dir, 1, nil, nil)
	eventually(t, "leader", func() bool { return s.IsLeader() && s.Barrier(t.Context()) == nil })
	acked := 0
	for data := make([]byte, consensus.MaxEntry); acked < 3000; acked++ {
		if _, err := s.Propose(t.Context(), data); err != nil {
			break
		}
	}
	full := func(err error) bool { return errors.Is(err, syscall.ENOSPC) && problem.From(err).Remedy != "" }
	err := <-s.ended
	s.ended <- nil
	if p := problem.From(err); !full(err) || p.Kind != problem.Exhausted || !strings.HasPrefix(p.Field, dir) {
		t.Fatalf("after %d entries it ended with %v", acked, err)
	}
	if _, err := consensus.New(consensus.Config{DataDir: dir, FSM: &journal{}, Transport: &raft.InmemTransport{}, GossipBind: "127.0.0.1:0"}); !full(err) {
		t.Errorf("on the full disk it starts with %v", err)
	}
	if err := syscall.Mount("tmpfs", disk, "tmpfs", syscall.MS_REMOUNT, "size=300m"); err != nil {
		t.Fatal(err)
	}
	s = real(t, dir, 1, nil, nil)
	eventually(t, "leader", func() bool { return s.IsLeader() && s.Barrier(t.Context()) == nil })
	if got := len(s.fsm.all()); got != acked && got != acked+1 { // one that failed may be durable
		t.Errorf("%d entries came back, and %d were acknowledged", got, acked)
	}
	if _, err := s.Propose(t.Context(), []byte("on")); err != nil {
		t.Errorf("going on: %v", err)
	}
}
