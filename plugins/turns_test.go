package plugins

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"github.com/berthd/berth/drivers"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// late is a driver whose Start needs a while to see that nobody waits for it any more.
type late struct {
	drivers.Driver
	begun, end chan struct{}
	made       int // what Start has made and Remove has not removed
}

func (d *late) Start(ctx context.Context, _ *drivers.Task) (*drivers.Handle, error) {
	close(d.begun)
	<-d.end
	d.made++
	return nil, ctx.Err()
}

func (d *late) Remove(context.Context, *drivers.Task, *drivers.Handle) error {
	d.made = 0
	return nil
}

// A Remove after a Start whose caller has left waits until that Start is over, or what it
// makes would stay; a Start that comes only then does nothing.
func TestRemoveAfterCancelledStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &late{begun: make(chan struct{}), end: make(chan struct{})}
		s := NewServer(d)
		task := &berthv1.DriverTask{Id: "t"}
		left, cancel := context.WithCancel(t.Context())
		go func() { _, _ = s.StartTask(left, task) }()
		<-d.begun
		cancel()

		removed := false
		go func() {
			if _, err := s.RemoveTask(t.Context(), &berthv1.TaskAndHandle{Task: task}); err != nil {
				t.Errorf("Remove: %v", err)
			}
			removed = true
		}()
		if _, err := s.RemoveTask(left, &berthv1.TaskAndHandle{Task: task}); err == nil {
			t.Error("a Remove whose caller has left was begun")
		}
		synctest.Wait()
		if removed {
			t.Error("Remove ran beside Start")
		}
		// Another task's operations do not wait.
		if _, err := s.RemoveTask(t.Context(), &berthv1.TaskAndHandle{Task: &berthv1.DriverTask{Id: "other"}}); err != nil {
			t.Errorf("Remove of another task: %v", err)
		}
		close(d.end)
		synctest.Wait()
		if !removed || d.made != 0 {
			t.Errorf("removed %v, left %d", removed, d.made)
		}
		// Closing begun once more would panic.
		if _, err := s.StartTask(left, task); err == nil || d.made != 0 {
			t.Errorf("a Start whose caller has left was begun: %v, left %d", err, d.made)
		}
	})
}

func TestTurnsKeepNothing(t *testing.T) {
	ts := turns{busy: map[string]chan struct{}{}}
	want := errors.New("no")
	if err := ts.do(t.Context(), "t", func() error { return want }); !errors.Is(err, want) || len(ts.busy) != 0 {
		t.Errorf("do = %v, keeps %d", err, len(ts.busy))
	}
}
