package mock

import "sync"

// viewer has the output that somebody who is attached has not seen yet.
type viewer struct {
	mu      sync.Mutex
	pending []byte
	more    chan struct{} // holds one word when there is some
}

func (v *viewer) add(b []byte) {
	v.mu.Lock()
	v.pending = append(v.pending, b...)
	v.mu.Unlock()
	select {
	case v.more <- struct{}{}:
	default:
	}
}

func (v *viewer) take() []byte {
	v.mu.Lock()
	defer v.mu.Unlock()
	b := v.pending
	v.pending = nil
	return b
}
