package inventory

import (
	"bytes"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"testing"
	"time"
)

// memory is a file system in memory, with symbolic links: a captured machine has tens
// of thousands of small files, which a disk takes minutes for.
type memory struct{ top *entry }

// entry is a directory (below is not nil), a link or a file.
type entry struct {
	below map[string]*entry
	link  string
	data  []byte
}

func newMemory() *memory { return &memory{&entry{below: map[string]*entry{}}} }

// file adds a file, and the directories that lead to it.
func (m *memory) file(name, text string) *memory { m.add(name, &entry{data: []byte(text)}); return m }

func (m *memory) symlink(name, target string) *memory { m.add(name, &entry{link: target}); return m }

func (m *memory) add(name string, e *entry) {
	dir, parts := m.top, split(name)
	if len(parts) == 0 {
		return
	}
	for _, part := range parts[:len(parts)-1] {
		next := dir.below[part]
		if next == nil || next.below == nil {
			next = &entry{below: map[string]*entry{}}
			dir.below[part] = next
		}
		dir = next
	}
	last := parts[len(parts)-1]
	if old := dir.below[last]; old == nil || e.below == nil {
		dir.below[last] = e
	}
}

func split(name string) []string {
	clean := strings.Trim(path.Clean("/"+name), "/")
	if clean == "" {
		return nil
	}
	return strings.Split(clean, "/")
}

// machine finds the folder that has sys or proc in it.
func (m *memory) machine(t *testing.T) *memory {
	t.Helper()
	todo := []*entry{m.top}
	for len(todo) > 0 {
		e := todo[0]
		todo = todo[1:]
		if e.below["sys"] != nil || e.below["proc"] != nil {
			return &memory{e}
		}
		for _, below := range e.below {
			if below.below != nil {
				todo = append(todo, below)
			}
		}
	}
	t.Fatal("there is no sys in the archive")
	return nil
}

// find walks to a name; the last link is followed when asked for.
func (m *memory) find(name string, follow bool) *entry {
	var done []string
	todo := split(name)
	for hops := 0; len(todo) > 0; {
		part := todo[0]
		todo = todo[1:]
		if part == ".." {
			done = done[:max(0, len(done)-1)]
			continue
		}
		e := m.at(append(slices.Clone(done), part))
		if e == nil {
			return nil
		}
		if e.link != "" && (follow || len(todo) > 0) {
			if hops++; hops > 40 {
				return nil
			}
			if strings.HasPrefix(e.link, "/") {
				done = nil
			}
			todo = append(slices.DeleteFunc(strings.Split(e.link, "/"), func(s string) bool { return s == "" || s == "." }), todo...)
			continue
		}
		done = append(done, part)
	}
	return m.at(done)
}

func (m *memory) at(parts []string) *entry {
	e := m.top
	for _, p := range parts {
		if e = e.below[p]; e == nil {
			return nil
		}
	}
	return e
}

func (m *memory) Open(name string) (fs.File, error) {
	if e := m.find(name, true); e != nil {
		return &openEntry{info: info{path.Base(name), e}, Reader: bytes.NewReader(e.data)}, nil
	}
	return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
}

func (m *memory) ReadDir(name string) ([]fs.DirEntry, error) {
	e := m.find(name, true)
	if e == nil {
		return nil, &fs.PathError{Op: "readdir", Path: name, Err: fs.ErrNotExist}
	}
	var all []fs.DirEntry
	for n, below := range e.below {
		all = append(all, fs.FileInfoToDirEntry(info{n, below}))
	}
	slices.SortFunc(all, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	return all, nil
}

func (m *memory) ReadLink(name string) (string, error) {
	if e := m.find(name, false); e != nil && e.link != "" {
		return e.link, nil
	}
	return "", &fs.PathError{Op: "readlink", Path: name, Err: fs.ErrInvalid}
}

func (m *memory) Lstat(name string) (fs.FileInfo, error) {
	if e := m.find(name, false); e != nil {
		return info{path.Base(name), e}, nil
	}
	return nil, &fs.PathError{Op: "lstat", Path: name, Err: fs.ErrNotExist}
}

type openEntry struct {
	info
	io.Reader
}

func (o *openEntry) Stat() (fs.FileInfo, error) { return o.info, nil }
func (o *openEntry) Close() error               { return nil }

type info struct {
	name string
	e    *entry
}

func (i info) Name() string       { return i.name }
func (i info) Size() int64        { return int64(len(i.e.data)) }
func (i info) ModTime() time.Time { return time.Time{} }
func (i info) IsDir() bool        { return i.e.below != nil }
func (i info) Sys() any           { return nil }
func (i info) Mode() fs.FileMode {
	switch {
	case i.e.below != nil:
		return fs.ModeDir | 0o755
	case i.e.link != "":
		return fs.ModeSymlink | 0o777
	}
	return 0o644
}
