package plan

import (
	"context"
	"fmt"
	"log/slog"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/server/fsm"
	"github.com/berthd/berth/server/state"
)

// instant is a log that takes no time: what is left is the loop and one FSM.
type instant struct{ *cluster }

func (c instant) Propose(_ context.Context, entry *berthv1.LogEntry) (fsm.Result, error) {
	data, err := fsm.Encode(entry)
	if err != nil {
		return fsm.Result{}, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.index++
	return c.fsm.Apply(&raft.Log{Index: c.index, Data: data, Type: raft.LogCommand}).(fsm.Result), nil
}

func cpuTime() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// Each op is one allocation: registered, reconciled, placed, encoded, decoded, applied.
func BenchmarkLoop(b *testing.B) {
	for _, size := range []int{1, 10, 1000, 20_000} {
		b.Run(fmt.Sprintf("nodes=1000/jobsize=%d", size), func(b *testing.B) {
			c := newCluster(b)
			for i := range 1000 {
				c.node(fmt.Sprint("n", i), 256_000, 4<<20)
			}
			jobs := (b.N + size - 1) / size
			loop := New(Config{Store: c.store, Proposer: instant{c}, Logger: slog.New(slog.DiscardHandler)})
			ctx, cancel := context.WithCancel(context.Background())
			done := make(chan struct{})
			go func() {
				defer close(done)
				_ = loop.Run(ctx)
			}()
			watch := c.store.Watch(state.Topic{Table: state.TableAllocs})
			b.ResetTimer()
			before := cpuTime()
			for i := range jobs {
				c.register(newJob(fmt.Sprint("job", i), uint32(size), 100))
			}
			for c.store.View().AllocCount() < jobs*size {
				<-watch.C
				watch.Close()
				watch = c.store.Watch(state.Topic{Table: state.TableAllocs})
			}
			b.ReportMetric(float64(cpuTime()-before)/float64(jobs*size), "cpu-ns/alloc")
			b.StopTimer()
			watch.Close()
			cancel()
			<-done
		})
	}
}
