package access

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/berthd/berth/agent/runner"
	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// defaultTail is what is shown of a log when nothing else is asked for, in bytes.
const defaultTail = 10 << 10

// logReader reads one stream's files, <task>.<stream>.<n>, as one text. A file stays
// open until its successor has been seen, so nothing that was written to it is missed.
type logReader struct {
	root   *os.Root
	prefix string // "logs/<task>.<stream>."
	file   *os.File
	index  int // of file; -1: none yet
	offset int64
	out    *sender
	buf    []byte
}

func (s *Server) logs(ctx context.Context, req *berthv1.LogsRequest, out *sender) error {
	info, err := s.allocs.Find(req.GetAllocId())
	if err != nil {
		return err
	}
	task, err := pickTask(info, req.GetTask())
	if err != nil {
		return err
	}
	stream := req.GetStream()
	switch stream {
	case "":
		stream = "stdout"
	case "stdout", "stderr":
	default:
		return problem.New(problem.Invalid, "stream", "%q is not stdout or stderr", stream)
	}
	if req.GetTailBytes() < 0 || req.GetTailLines() < 0 {
		return problem.New(problem.Invalid, "tail", "must not be negative")
	}
	root, err := s.openAlloc(info.ID)
	if problem.Is(err, problem.NotFound) && req.GetFollow() && !info.Ended {
		root, err = s.waitForDir(ctx, info.ID)
	}
	if err != nil {
		return err
	}
	defer root.Close()
	r := &logReader{root: root, prefix: path.Join(path.Base(info.Logs), task+"."+stream+"."), index: -1, out: out, buf: make([]byte, chunk)}
	defer r.close()
	if err := r.seek(req); err != nil {
		return err
	}
	for {
		// Looked up before the last read, so that what was written until then is read.
		now, err := s.allocs.Find(info.ID)
		ended := err != nil || now.Ended
		if err := r.drain(); err != nil {
			return err
		}
		if !req.GetFollow() || ended || !s.more(ctx, info.ID) && ctx.Err() != nil {
			return nil
		}
	}
}

// waitForDir waits until the alloc has begun.
func (s *Server) waitForDir(ctx context.Context, alloc string) (*os.Root, error) {
	for {
		if !s.more(ctx, alloc) {
			return s.openAlloc(alloc)
		}
		if root, err := s.openAlloc(alloc); !problem.Is(err, problem.NotFound) {
			return root, err
		}
	}
}

// pickTask finds the task that is meant; "" is the only one.
func pickTask(info *runner.AllocInfo, name string) (string, error) {
	switch {
	case slices.Contains(info.Tasks, name):
		return name, nil
	case name == "" && len(info.Tasks) == 1:
		return info.Tasks[0], nil
	case name == "":
		return "", problem.New(problem.Invalid, "task", "the allocation has several tasks").WithRemedy("name one of %s", strings.Join(info.Tasks, ", "))
	}
	return "", problem.New(problem.NotFound, "task", "the allocation has no task %q", name).WithRemedy("it has %s", strings.Join(info.Tasks, ", "))
}

// indexes lists the files that there are, oldest first.
func (r *logReader) indexes() ([]int, error) {
	entries, err := fs.ReadDir(r.root.FS(), path.Dir(r.prefix))
	if err != nil {
		if os.IsNotExist(err) {
			return nil, nil
		}
		return nil, fmt.Errorf("listing the logs: %w", err)
	}
	var all []int
	for _, e := range entries {
		text, ok := strings.CutPrefix(e.Name(), path.Base(r.prefix))
		if n, err := strconv.Atoi(text); ok && err == nil && n >= 0 && text == strconv.Itoa(n) {
			all = append(all, n)
		}
	}
	slices.Sort(all)
	return all, nil
}

func (r *logReader) open(index int) error {
	f, _, err := openRegular(r.root, r.prefix+strconv.Itoa(index))
	if err != nil {
		return err
	}
	r.close()
	r.file, r.index, r.offset = f, index, 0
	return nil
}

func (r *logReader) close() {
	if r.file != nil {
		r.file.Close()
		r.file = nil
	}
}

// seek goes to where the request begins.
func (r *logReader) seek(req *berthv1.LogsRequest) error {
	all, err := r.indexes()
	if err != nil || len(all) == 0 {
		return err
	}
	if req.GetFromStart() {
		return r.open(all[0])
	}
	if req.GetTailLines() > 0 {
		return r.seekLines(all, req.GetTailLines())
	}
	left := req.GetTailBytes()
	if left == 0 {
		left = defaultTail
	}
	for i := len(all) - 1; i >= 0; i-- {
		if err := r.open(all[i]); err != nil {
			continue // rotated away just now
		}
		info, err := r.file.Stat()
		if err != nil {
			return err
		}
		if info.Size() >= left || i == 0 {
			r.offset = max(0, info.Size()-left)
			return nil
		}
		left -= info.Size()
	}
	return nil
}

// seekLines goes back so many lines from the end.
func (r *logReader) seekLines(all []int, lines int64) error {
	first := true // the newline at the very end ends a line and begins none
	for i := len(all) - 1; i >= 0; i-- {
		if err := r.open(all[i]); err != nil {
			continue
		}
		info, err := r.file.Stat()
		if err != nil {
			return err
		}
		for end := info.Size(); end > 0; {
			begin := max(0, end-chunk)
			n, err := r.file.ReadAt(r.buf[:end-begin], begin)
			if err != nil && err != io.EOF {
				return err
			}
			b := r.buf[:n]
			if first && n > 0 {
				b = bytes.TrimSuffix(b, []byte("\n"))
				first = false
			}
			for at := bytes.LastIndexByte(b, '\n'); at >= 0; at = bytes.LastIndexByte(b, '\n') {
				if lines--; lines == 0 {
					r.offset = begin + int64(at) + 1
					return nil
				}
				b = b[:at]
			}
			end = begin
		}
	}
	return nil
}

// drain sends everything that is there, over rotations.
func (r *logReader) drain() error {
	for {
		all, err := r.indexes()
		if err != nil {
			return err
		}
		if r.file != nil {
			if err := r.drainFile(); err != nil {
				return err
			}
		}
		i, _ := slices.BinarySearch(all, r.index+1)
		if i == len(all) {
			return nil
		}
		before := r.index
		if err := r.open(all[i]); err != nil {
			if problem.Is(err, problem.NotFound) {
				continue // rotated away between the listing and now
			}
			return err
		}
		if before >= 0 && all[i] != before+1 {
			if err := r.notice("output was skipped: it was rotated away before it could be read"); err != nil {
				return err
			}
		}
	}
}

func (r *logReader) drainFile() error {
	for {
		n, err := r.file.ReadAt(r.buf, r.offset)
		if n > 0 {
			frame := &berthv1.LogFrame{Data: r.buf[:n]}
			if err := r.out.send(&berthv1.StreamFrame{Body: &berthv1.StreamFrame_Log{Log: frame}}); err != nil {
				return err
			}
			r.offset += int64(n)
			continue
		}
		if err != nil && err != io.EOF {
			return fmt.Errorf("reading the log: %w", err)
		}
		if info, err := r.file.Stat(); err == nil && info.Size() < r.offset {
			r.offset = 0
			if err := r.notice("the log was truncated"); err != nil {
				return err
			}
			continue
		}
		return nil
	}
}

func (r *logReader) notice(words string) error {
	return r.out.send(&berthv1.StreamFrame{Body: &berthv1.StreamFrame_Log{Log: &berthv1.LogFrame{Notice: words}}})
}
