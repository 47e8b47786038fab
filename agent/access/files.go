package access

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"sort"
	"strings"
	"syscall"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

const (
	// chunk is how much of a file one frame carries, in bytes.
	chunk = 32 << 10
	// pollPeriod is how often a followed file is looked at.
	pollPeriod = 200 * time.Millisecond
	// maxList bounds a directory listing.
	maxList = 10000
)

// openAlloc opens an alloc's directory; everything below is reached through it, and
// nothing else can be.
func (s *Server) openAlloc(alloc string) (*os.Root, error) {
	info, err := s.allocs.Find(alloc)
	if err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(info.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, problem.New(problem.NotFound, info.ID, "the allocation has no directory on the node: it has not begun, or was deleted to make room")
	}
	return root, err
}

// inside makes a path that a person gave relative to the alloc's directory.
func inside(name string) string {
	clean := strings.TrimPrefix(path.Clean("/"+name), "/")
	if clean == "" {
		return "."
	}
	return clean
}

// openRegular opens a regular file for reading. It does not wait for the other end of a
// pipe, and opens no device.
func openRegular(root *os.Root, name string) (*os.File, fs.FileInfo, error) {
	f, err := root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK|syscall.O_NOCTTY, 0)
	if err != nil {
		return nil, nil, pathProblem(name, err)
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = problem.New(problem.Invalid, name, "it is not a regular file (%s)", info.Mode().Type())
	}
	if err != nil {
		f.Close()
		return nil, nil, err
	}
	return f, info, nil
}

// pathProblem makes words of an error about a path.
func pathProblem(name string, err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTDIR):
		return problem.New(problem.NotFound, name, "there is no such file in the allocation's directory")
	case strings.Contains(err.Error(), "path escapes"):
		return problem.New(problem.Denied, name, "the path leads out of the allocation's directory")
	}
	return problem.New(problem.Invalid, name, "%w", err)
}

func fileInfo(name string, info fs.FileInfo) *berthv1.FileInfo {
	return &berthv1.FileInfo{
		Name: name, Size: info.Size(), Mode: info.Mode().String(), IsDir: info.IsDir(), ModifyTime: timestamppb.New(info.ModTime()),
	}
}

func (s *Server) listFiles(req *berthv1.ListFilesRequest, out *sender) error {
	root, err := s.openAlloc(req.GetAllocId())
	if err != nil {
		return err
	}
	defer root.Close()
	name := inside(req.GetPath())
	info, err := root.Stat(name)
	if err != nil {
		return pathProblem(name, err)
	}
	if !info.IsDir() {
		return problem.New(problem.Invalid, name, "it is not a directory")
	}
	dir, err := root.Open(name)
	if err != nil {
		return pathProblem(name, err)
	}
	defer dir.Close()
	entries, err := dir.ReadDir(maxList + 1)
	if err != nil && !errors.Is(err, io.EOF) {
		return pathProblem(name, err)
	}
	if len(entries) > maxList {
		return problem.New(problem.Exhausted, name, "it has more than %d entries", maxList)
	}
	resp := &berthv1.ListFilesResponse{}
	for _, e := range entries {
		if info, err := e.Info(); err == nil { // it may be gone by now
			resp.Files = append(resp.Files, fileInfo(e.Name(), info))
		}
	}
	sort.Slice(resp.Files, func(i, j int) bool { return resp.Files[i].GetName() < resp.Files[j].GetName() })
	return out.send(&berthv1.StreamFrame{Body: &berthv1.StreamFrame_Files{Files: resp}})
}

func (s *Server) statFile(req *berthv1.StatFileRequest, out *sender) error {
	root, err := s.openAlloc(req.GetAllocId())
	if err != nil {
		return err
	}
	defer root.Close()
	name := inside(req.GetPath())
	info, err := root.Stat(name)
	if err != nil {
		return pathProblem(name, err)
	}
	return out.send(&berthv1.StreamFrame{Body: &berthv1.StreamFrame_File{File: fileInfo(path.Base(name), info)}})
}

func (s *Server) readFile(ctx context.Context, req *berthv1.ReadFileRequest, out *sender) error {
	if req.GetOffset() < 0 || req.GetLimit() < 0 {
		return problem.New(problem.Invalid, "offset", "offset and limit must not be negative")
	}
	root, err := s.openAlloc(req.GetAllocId())
	if err != nil {
		return err
	}
	defer root.Close()
	name := inside(req.GetPath())
	f, _, err := openRegular(root, name)
	if err != nil {
		return err
	}
	defer f.Close()
	offset, left := req.GetOffset(), req.GetLimit()
	if left == 0 {
		left = 1<<63 - 1
	}
	buf := make([]byte, chunk)
	for left > 0 {
		n, err := f.ReadAt(buf[:min(left, chunk)], offset)
		if n > 0 {
			c := &berthv1.FileChunk{Data: buf[:n], Offset: offset}
			if err := out.send(&berthv1.StreamFrame{Body: &berthv1.StreamFrame_Chunk{Chunk: c}}); err != nil {
				return err
			}
			offset += int64(n)
			left -= int64(n)
			continue
		}
		if err != nil && err != io.EOF {
			return pathProblem(name, err)
		}
		info, serr := f.Stat()
		if serr == nil && info.Size() < offset && req.GetFollow() {
			offset = 0 // it was truncated
			continue
		}
		if !req.GetFollow() || !s.more(ctx, req.GetAllocId()) {
			return ctx.Err()
		}
	}
	return nil
}

// more waits until a followed file may have grown; false: it will not, because the
// alloc has ended, or ctx has.
func (s *Server) more(ctx context.Context, alloc string) bool {
	if info, err := s.allocs.Find(alloc); err != nil || info.Ended {
		return false
	}
	timer := time.NewTimer(pollPeriod)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
