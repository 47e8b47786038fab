package drivers

import (
	"strings"
	"sync"
)

// Head keeps the beginning of what a command in a task writes: its first Max bytes. Its
// output and errors may come at once.
type Head struct {
	Max int

	mu  sync.Mutex
	buf []byte
}

// Write implements io.Writer; it never fails.
func (h *Head) Write(b []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.buf = append(h.buf, b[:min(len(b), h.Max-len(h.buf))]...)
	return len(b), nil
}

// String is what was kept, as text without blanks around it.
func (h *Head) String() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return strings.ToValidUTF8(strings.TrimSpace(string(h.buf)), "?")
}
