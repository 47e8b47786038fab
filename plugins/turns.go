package plugins

import (
	"context"
	"sync"
)

// turns lets one operation at a time change a task. A caller in the agent sees to that
// itself, but over the wire it may leave before the operation is over: a Start that was
// cancelled goes on here for a moment while the Remove that follows arrives.
type turns struct {
	mu   sync.Mutex
	busy map[string]chan struct{} // by task id; closed when the operation is over
}

// do does the operation when the task's earlier ones are over, unless ctx ends before:
// an operation whose caller has left is not begun, for what the caller did next may be
// over already.
func (t *turns) do(ctx context.Context, id string, operation func() error) error {
	over := make(chan struct{})
	for {
		t.mu.Lock()
		before, busy := t.busy[id]
		if !busy {
			t.busy[id] = over
			t.mu.Unlock()
			break
		}
		t.mu.Unlock()
		select {
		case <-before:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	defer func() {
		t.mu.Lock()
		delete(t.busy, id)
		t.mu.Unlock()
		close(over)
	}()
	if err := ctx.Err(); err != nil {
		return err
	}
	return operation()
}
