package runner

import (
	"strings"
	"sync"
)

// scriptOutput keeps the beginning of what a script writes.
type scriptOutput struct {
	mu  sync.Mutex // stdout and stderr come at once
	buf []byte
}

func (o *scriptOutput) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.buf = append(o.buf, b[:min(len(b), 300-len(o.buf))]...)
	return len(b), nil
}

func (o *scriptOutput) words() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.buf) == 0 {
		return ""
	}
	return ": " + strings.ToValidUTF8(strings.TrimSpace(string(o.buf)), "?")
}
