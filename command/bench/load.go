package bench

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/berthd/berth/server/fsm"
	"github.com/berthd/berth/server/state"
)

// cpuTimes is what was used so far. Agents in this process count as servers.
type cpuTimes struct{ servers, agents time.Duration }

func (r *run) cpu() (t cpuTimes) {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) == nil {
		t.servers = time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	if pid := int(r.fleet.Load()); pid != 0 {
		t.agents = cpuTimeOf([]int{pid})
	}
	return t
}

// heapAfterGC is what is in use once all garbage is gone.
func heapAfterGC() uint64 {
	runtime.GC()
	runtime.GC() // what finalizers and pools held
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// smallEvery is how often a job of one allocation is submitted under load.
const smallEvery = 50 * time.Millisecond

// submitSmall submits jobs of one allocation beside the large ones, until stop is called.
func (r *run) submitSmall(ctx context.Context, group *errgroup.Group) (stop func()) {
	inner, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	group.Go(func() error {
		defer close(done)
		tick := time.NewTicker(smallEvery)
		defer tick.Stop()
		for i := 0; ; i++ {
			select {
			case <-inner.Done():
				return nil
			case <-tick.C:
			}
			if err := r.submitJob(inner, r.address[i%len(r.address)], fmt.Sprintf(smallPrefix+"%05d", i), 1); err != nil && inner.Err() == nil {
				return err
			}
		}
	})
	return func() {
		cancel()
		<-done
	}
}

// measureRestart takes a snapshot of the state, restores it into an empty one, then
// restarts a server that does not lead and waits until it has its state again.
func (r *run) measureRestart(ctx context.Context, group *errgroup.Group, result *Result) error {
	i := len(r.servers) - 1
	if i == int(r.leader.Load()) && i > 0 {
		i--
	}
	store, dir := r.servers[i].Store(), filepath.Join(r.dir, fmt.Sprint("s", i+1))
	file, err := os.Create(filepath.Join(r.dir, "snapshot"))
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }() // it goes with its folder
	began := time.Now()
	if err := store.View().Write(file); err != nil {
		return err
	}
	result.SnapshotSeconds = time.Since(began).Seconds()
	if result.SnapshotBytes, err = file.Seek(0, io.SeekCurrent); err != nil {
		return err
	}
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return err
	}
	restored := state.New()
	began = time.Now()
	if err := fsm.New(restored, func(error) {}).Restore(file); err != nil {
		return err
	}
	result.RestoreSeconds = time.Since(began).Seconds()
	result.SnapshotPause = pause(restored)

	revision := store.Revision()
	r.stops[i]()
	select {
	case <-r.ended[i]:
	case <-ctx.Done():
		return ctx.Err()
	}
	began = time.Now()
	if err := r.startServer(ctx, group, dir, r.ports[i]); err != nil {
		return err
	}
	again := r.servers[len(r.servers)-1].Store()
	for tick := time.NewTicker(time.Millisecond); again.Revision() < revision; {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("waiting for a restarted server to have its state: %w", ctx.Err())
		}
	}
	result.RestartSeconds = time.Since(began).Seconds()
	return nil
}

// pause is how long the log is held up while a view is made of a state that has just
// changed, which is all that a snapshot does before it is written beside. In ms, the
// longest of some.
func pause(store *state.Store) (longest float64) {
	for i := range 20 {
		store.Update(store.Revision()+1, time.Now(), func(tx *state.Tx) { tx.SetClusterID(fmt.Sprint("c", i)) })
		began := time.Now()
		store.View()
		longest = max(longest, float64(time.Since(began).Nanoseconds())/1e6)
	}
	return longest
}
