// Package attach shares a machine's console among all who are attached: each has a
// Viewer, which keeps what its reader has not taken yet. Drivers whose tasks have a
// console call it.
package attach

import (
	"context"
	"io"
	"sync"
)

// maxPending is how far a viewer may be behind, in bytes; older output is dropped.
const maxPending = 1 << 20

// Viewer has the output that somebody who is attached has not seen yet.
type Viewer struct {
	mu      sync.Mutex
	pending []byte
	more    chan struct{} // holds one word when there is some
}

// NewViewer makes a Viewer that has seen everything.
func NewViewer() *Viewer { return &Viewer{more: make(chan struct{}, 1)} }

// Add takes output; it does not wait for the reader.
func (v *Viewer) Add(b []byte) {
	v.mu.Lock()
	v.pending = append(v.pending, b...)
	if n := len(v.pending) - maxPending; n > 0 {
		v.pending = append(v.pending[:0], v.pending[n:]...)
	}
	v.mu.Unlock()
	select {
	case v.more <- struct{}{}:
	default:
	}
}

func (v *Viewer) take() []byte {
	v.mu.Lock()
	defer v.mu.Unlock()
	b := v.pending
	v.pending = nil
	return b
}

// Serve writes what the viewer gets to rw and hands what is read from it to typed, until
// either side of rw ends, the task has ended, its console is closed (nil: it never is), or
// ctx is done, whose error it returns. Its reader ends with rw.
func (v *Viewer) Serve(ctx context.Context, rw io.ReadWriter, typed func([]byte), ended, closed <-chan struct{}) error {
	left := make(chan struct{})
	go func() { // ends with the caller's side
		defer close(left)
		buf := make([]byte, 4<<10)
		for {
			n, err := rw.Read(buf)
			typed(buf[:n])
			if err != nil {
				return
			}
		}
	}()
	for {
		select {
		case <-v.more:
			if _, err := rw.Write(v.take()); err != nil {
				return nil // the caller has left
			}
		case <-left:
			_, _ = rw.Write(v.take())
			return nil
		case <-ended:
			_, _ = rw.Write(v.take())
			return nil
		case <-closed:
			_, _ = rw.Write(v.take())
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
