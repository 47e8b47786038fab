package disk

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/berthd/berth/problem"
)

func pack(t *testing.T, dir string) *bytes.Buffer {
	t.Helper()
	var b bytes.Buffer
	if err := Pack(t.Context(), &b, dir); err != nil {
		t.Fatal(err)
	}
	return &b
}

func unpack(t *testing.T, r io.Reader, limit int64) (string, Count, error) {
	t.Helper()
	dir := t.TempDir()
	c, err := Unpack(t.Context(), r, dir, limit, func(Count) {})
	return dir, c, err
}

func must(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

func TestWhatIsPackedIsUnpackedTheSame(t *testing.T) {
	from, at := t.TempDir(), time.Date(2001, 2, 3, 4, 5, 6, 789000000, time.UTC)
	large := bytes.Repeat([]byte("0123456789"), 20000) // no multiple of a block
	must(t, os.Mkdir(from+"/sub", 0o755), os.Mkdir(from+"/sub/empty", 0o755),
		os.WriteFile(from+"/sub/large", large, 0o600), os.WriteFile(from+"/nothing", nil, 0o644),
		os.Chmod(from+"/sub/large", 0o640|fs.ModeSetuid), os.Symlink("/etc/passwd", from+"/link"), os.Symlink("sub/large", from+"/near"),
		os.Link(from+"/sub/large", from+"/sub/twin"), syscall.Mkfifo(from+"/pipe", 0o600))
	sparse, err := os.Create(from + "/sparse")
	must(t, err, sparse.Truncate(8<<20))
	_, err = sparse.WriteAt([]byte("end"), 8<<20-3)
	must(t, err, sparse.Close())
	if os.Geteuid() == 0 {
		must(t, os.Chown(from+"/sub/large", 1234, 99), os.Chmod(from+"/sub/large", 0o640|fs.ModeSetuid), os.Lchown(from+"/link", 7, 8))
	}
	must(t, os.Chtimes(from+"/sub/large", at, at), os.Chmod(from+"/sub", 0o500), os.Chtimes(from+"/sub", at, at), os.Chmod(from, 0o777))

	to, count, err := unpack(t, pack(t, from), 1<<20)
	must(t, err)
	if count.Files != 9 || count.Bytes < int64(len(large)) || count.Bytes > 400000 {
		t.Errorf("%+v", count)
	}
	for _, name := range []string{".", "sub", "sub/empty", "sub/large", "nothing", "link", "near", "sub/twin", "sparse"} {
		a, err := os.Lstat(filepath.Join(from, name))
		must(t, err)
		b, err := os.Lstat(filepath.Join(to, name))
		must(t, err)
		x, y := a.Sys().(*syscall.Stat_t), b.Sys().(*syscall.Stat_t)
		if a.Mode() != b.Mode() || x.Uid != y.Uid || x.Gid != y.Gid || a.Mode().IsRegular() && a.Size() != b.Size() {
			t.Errorf("%s: %v %d:%d %d, was %v %d:%d %d", name, b.Mode(), y.Uid, y.Gid, b.Size(), a.Mode(), x.Uid, x.Gid, a.Size())
		}
		if a.Mode().Type() != fs.ModeSymlink && !a.ModTime().Equal(b.ModTime()) {
			t.Errorf("%s: time %v, was %v", name, b.ModTime(), a.ModTime())
		}
		if name == "sparse" && y.Blocks*512 > 1<<20 {
			t.Errorf("its holes take %d bytes", y.Blocks*512)
		}
	}
	if b, err := os.ReadFile(to + "/sub/twin"); err != nil || !bytes.Equal(b, large) {
		t.Errorf("%d bytes, %v", len(b), err)
	}
	if b, err := os.ReadFile(to + "/sparse"); err != nil || len(b) != 8<<20 || string(b[8<<20-3:]) != "end" {
		t.Errorf("%d bytes, %v", len(b), err)
	}
	if s, err := os.Readlink(to + "/link"); s != "/etc/passwd" {
		t.Errorf("%q, %v", s, err)
	}
	one, err1 := os.Stat(to + "/sub/large")
	two, err2 := os.Stat(to + "/sub/twin")
	must(t, err1, err2)
	if !os.SameFile(one, two) {
		t.Error("two names of one file are two files")
	}
	if _, err := os.Lstat(to + "/pipe"); err == nil {
		t.Error("a pipe was moved")
	}
}

// tarOf makes a tar of headers; files have their name as content.
func tarOf(t *testing.T, headers ...tar.Header) *bytes.Buffer {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range headers {
		h.Mode, h.Uid, h.Gid = 0o755, os.Getuid(), os.Getgid()
		if h.Typeflag == tar.TypeReg {
			h.Size = int64(len(h.Name))
		}
		must(t, w.WriteHeader(&h))
		if h.Typeflag == tar.TypeReg {
			_, err := io.WriteString(w, h.Name)
			must(t, err)
		}
	}
	must(t, w.Close())
	return &b
}

func TestNothingLeadsOut(t *testing.T) {
	outside := t.TempDir()
	must(t, os.WriteFile(outside+"/secret", []byte("s"), 0o600))
	file, dir, link, hard := byte(tar.TypeReg), byte(tar.TypeDir), byte(tar.TypeSymlink), byte(tar.TypeLink)
	for name, headers := range map[string][]tar.Header{
		"above":                 {{Typeflag: file, Name: "../x"}},
		"above, hidden":         {{Typeflag: dir, Name: "a"}, {Typeflag: file, Name: "a/../../x"}},
		"absolute":              {{Typeflag: file, Name: outside + "/x"}},
		"directory above":       {{Typeflag: dir, Name: "../d"}},
		"through a link":        {{Typeflag: link, Name: "out", Linkname: outside}, {Typeflag: file, Name: "out/x"}},
		"directory over a link": {{Typeflag: link, Name: "out", Linkname: outside}, {Typeflag: dir, Name: "out"}},
		"file over a link":      {{Typeflag: link, Name: "out", Linkname: outside + "/secret"}, {Typeflag: file, Name: "out"}},
		"hard link out":         {{Typeflag: hard, Name: "h", Linkname: outside + "/secret"}},
		"hard link above":       {{Typeflag: hard, Name: "h", Linkname: "../secret"}},
		"hard link by a link":   {{Typeflag: link, Name: "out", Linkname: outside}, {Typeflag: hard, Name: "h", Linkname: "out/secret"}},
		"device":                {{Typeflag: tar.TypeBlock, Name: "sda", Devmajor: 8}},
		"character device":      {{Typeflag: tar.TypeChar, Name: "mem", Devmajor: 1, Devminor: 1}},
		"pipe":                  {{Typeflag: tar.TypeFifo, Name: "p"}},
		"twice":                 {{Typeflag: file, Name: "x"}, {Typeflag: file, Name: "x"}},
	} {
		if _, _, err := unpack(t, tarOf(t, headers...), 0); err == nil {
			t.Errorf("%s: it was unpacked", name)
		} else {
			t.Logf("%s: %v", name, err)
		}
	}
	if list, err := os.ReadDir(outside); err != nil || len(list) != 1 {
		t.Errorf("written outside: %v, %v", list, err)
	}
}

func TestWhatIsTooLargeOrCutShortIsRefused(t *testing.T) {
	from := t.TempDir()
	must(t, os.WriteFile(from+"/a", bytes.Repeat([]byte("x"), 3<<20), 0o600))
	whole := pack(t, from).Bytes()
	if _, _, err := unpack(t, bytes.NewReader(whole), 2<<20); !problem.Is(err, problem.Exhausted) {
		t.Errorf("larger than the limit: %v", err)
	}
	for _, size := range []int{1 << 20, 2 << 10, 100, 64<<10 + 1536} {
		if _, _, err := unpack(t, bytes.NewReader(whole[:size]), 0); err == nil {
			t.Errorf("%d bytes of the tar were enough", size)
		}
	}
	// A last block that is cut in the middle of a file's short end.
	must(t, os.WriteFile(from+"/a", bytes.Repeat([]byte("x"), 100000), 0o600))
	whole = pack(t, from).Bytes()
	for size := len(whole) - 70000; size < 99000; size += 5000 {
		if _, _, err := unpack(t, bytes.NewReader(whole[:size]), 0); err == nil {
			t.Errorf("%d bytes of the tar were enough", size)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Unpack(ctx, bytes.NewReader(whole), t.TempDir(), 0, func(Count) {}); !errors.Is(err, context.Canceled) {
		t.Errorf("it went on: %v", err)
	}
	if err := Pack(ctx, io.Discard, from); !errors.Is(err, context.Canceled) {
		t.Errorf("it went on: %v", err)
	}
	if err := Pack(t.Context(), io.Discard, from+"/none"); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "disk") {
		t.Error(err)
	}
}
