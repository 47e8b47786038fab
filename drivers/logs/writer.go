// Package logs writes a task's output into files that are bounded in size and number,
// as drivers.LogPolicy says: <task>.<stream>.<n> in the logs directory, n rising.
//
// It promises never to fail or block its caller for want of disk: what cannot be
// written is dropped and counted, and the count is written as a line as soon as
// something can be. It imports next to nothing, because the exec driver's shim, which
// runs beside every task, is built on it.
package logs

import (
	"os"
	"strconv"
	"strings"
)

// Bounds that stand in for a policy of zeros.
const (
	DefaultMaxFiles     = 5
	DefaultMaxFileBytes = 10 << 20
)

// Writer is one stream of one task. It is not safe for concurrent use.
type Writer struct {
	prefix   string // <dir>/<task>.<stream>.
	maxFiles int
	maxBytes int64

	file    *os.File // nil: could not be opened, is tried again at the next write
	index   int
	size    int64
	dropped int64
	cause   error
}

// Open goes on where the newest file of the stream ends and deletes those beyond
// maxFiles. A directory that cannot be written to is no error: see the package comment.
func Open(dir, task, stream string, maxFiles int, maxBytes int64) *Writer {
	if maxFiles <= 0 {
		maxFiles = DefaultMaxFiles
	}
	if maxBytes <= 0 {
		maxBytes = DefaultMaxFileBytes
	}
	name := task + "." + stream + "."
	w := &Writer{prefix: dir + "/" + name, maxFiles: maxFiles, maxBytes: maxBytes}
	entries, _ := os.ReadDir(dir)
	found := make([]int, 0, 8)
	for _, e := range entries {
		if rest, ok := strings.CutPrefix(e.Name(), name); ok {
			if n, err := strconv.Atoi(rest); err == nil && n >= 0 {
				found = append(found, n)
				w.index = max(w.index, n)
			}
		}
	}
	for _, n := range found {
		if n <= w.index-maxFiles {
			_ = os.Remove(w.path(n))
		}
	}
	w.open()
	return w
}

// Write takes all of p. What it cannot put on disk it drops and counts.
func (w *Writer) Write(p []byte) (int, error) {
	for rest := p; len(rest) > 0; {
		n := w.put(rest)
		if n == 0 {
			w.dropped += int64(len(rest))
			break
		}
		rest = rest[n:]
	}
	return len(p), nil
}

// Close closes the file; a count that could not be written yet is tried once more.
func (w *Writer) Close() {
	if w.file != nil || w.open() {
		w.notice()
		_ = w.file.Close()
		w.file = nil
	}
}

// put writes some of p into the current file, or the next when that is full; 0: it cannot.
func (w *Writer) put(p []byte) int {
	if w.file == nil && !w.open() {
		return 0
	}
	if w.size >= w.maxBytes && !w.rotate() {
		return 0
	}
	if w.dropped > 0 && !w.notice() {
		return 0
	}
	if room := w.maxBytes - w.size; room > 0 && int64(len(p)) > room {
		p = p[:room]
	}
	n, err := w.file.Write(p)
	w.size += int64(n)
	if n == 0 {
		w.cause = err
	}
	return max(n, 0)
}

// notice says how much was dropped, once writing works again. The line may exceed the
// bound of a file by its own length.
func (w *Writer) notice() bool {
	if w.dropped == 0 {
		return true
	}
	why := "the disk could not be written"
	if w.cause != nil {
		why = w.cause.Error()
	}
	n, err := w.file.WriteString("\n[berth: " + strconv.FormatInt(w.dropped, 10) + " bytes of output were dropped: " + why + "]\n")
	w.size += int64(n)
	if err != nil {
		w.cause = err
		return false
	}
	w.dropped, w.cause = 0, nil
	return true
}

func (w *Writer) rotate() bool {
	next, err := os.OpenFile(w.path(w.index+1), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		w.cause = err
		return false
	}
	_ = w.file.Close()
	w.file, w.size = next, 0
	w.index++
	_ = os.Remove(w.path(w.index - w.maxFiles))
	return true
}

func (w *Writer) open() bool {
	f, err := os.OpenFile(w.path(w.index), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		w.cause = err
		return false
	}
	w.file, w.size = f, 0
	if info, err := f.Stat(); err == nil {
		w.size = info.Size()
	}
	return true
}

func (w *Writer) path(n int) string { return w.prefix + strconv.Itoa(n) }
