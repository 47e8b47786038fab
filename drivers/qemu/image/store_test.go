package image

import (
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berthd/berth/problem"
)

const mib = 1 << 20

// disk is a raw disk with one partition, whose content depends on seed.
func disk(seed byte) []byte {
	b := make([]byte, 4*mib)
	b[0], b[510], b[511] = 0xeb, 0x55, 0xaa
	b[446+4] = 0x83
	binary.LittleEndian.PutUint32(b[446+8:], 2048)
	binary.LittleEndian.PutUint32(b[446+12:], 4*mib/512-2048)
	for i := mib; i < 2*mib; i += 4 {
		binary.LittleEndian.PutUint32(b[i:], uint32(i)*2654435761+uint32(seed))
	}
	return b
}

func sum256(b []byte) string { return fmt.Sprintf("sha256:%x", sha256.Sum256(b)) }

// img runs qemu-img, or skips the test without one.
func img(t testing.TB, args ...string) string {
	t.Helper()
	if _, err := exec.LookPath("qemu-img"); err != nil {
		t.Skip("qemu-img is not installed (Debian: qemu-utils)")
	}
	out, err := exec.Command("qemu-img", args...).CombinedOutput()
	if err != nil {
		t.Fatalf("qemu-img %q: %v\n%s", args, err, out)
	}
	return string(out)
}

// site serves files by path and counts what is asked.
type site struct {
	*httptest.Server
	mu    sync.Mutex
	files map[string][]byte
	gets  int
	// cut breaks a GET off after as many bytes, as often as it says.
	cut, cuts int
	// wait holds GETs until it is closed.
	wait chan struct{}
	bare bool // no ETag, no ranges
}

func newSite(t *testing.T, files map[string][]byte) *site {
	s := &site{files: files}
	s.Server = httptest.NewServer(s)
	t.Cleanup(s.Close)
	return s
}

func (s *site) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	b, ok := s.files[r.URL.Path]
	cut := 0
	if r.Method == http.MethodGet {
		s.gets++
		if s.cuts > 0 {
			s.cuts--
			cut = s.cut
		}
	}
	wait := s.wait
	s.mu.Unlock()
	switch {
	case strings.HasPrefix(r.URL.Path, "/moved"):
		http.Redirect(w, r, strings.TrimPrefix(r.URL.Path, "/moved"), http.StatusFound)
		return
	case !ok:
		http.NotFound(w, r)
		return
	}
	if wait != nil && r.Method == http.MethodGet {
		select {
		case <-wait:
		case <-r.Context().Done():
		}
	}
	if cut > 0 {
		w = &cutter{ResponseWriter: w, left: cut}
	}
	if s.bare {
		w.Header().Set("Content-Length", fmt.Sprint(len(b)))
		_, _ = io.Copy(w, struct{ io.Reader }{strings.NewReader(string(b))})
		return
	}
	w.Header().Set("ETag", `"`+sum256(b)+`"`)
	http.ServeContent(w, r, "", time.Time{}, strings.NewReader(string(b)))
}

type cutter struct {
	http.ResponseWriter
	left int
}

func (c *cutter) Write(p []byte) (int, error) {
	if c.left -= len(p); c.left < 0 {
		panic(http.ErrAbortHandler)
	}
	return c.ResponseWriter.Write(p)
}

func newStore(t testing.TB, change func(*Config)) *Store {
	t.Helper()
	cfg := Config{Dir: t.TempDir()}
	if change != nil {
		change(&cfg)
	}
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// files gives everything in the store, by path.
func files(t testing.TB, s *Store) []string {
	t.Helper()
	var list []string
	err := filepath.WalkDir(s.cfg.Dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			list = append(list, strings.TrimPrefix(path, s.cfg.Dir+"/"))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func ensure(t testing.TB, s *Store, src Source) *Base {
	t.Helper()
	base, release, err := s.Ensure(t.Context(), src, nil)
	if err != nil {
		t.Fatal(err)
	}
	release()
	return base
}

func holds(t testing.TB, base *Base, want []byte) {
	t.Helper()
	got, err := os.ReadFile(base.Path)
	if base.Format == "qcow2" {
		raw := filepath.Join(t.TempDir(), "raw")
		img(t, "convert", "-f", "qcow2", "-O", "raw", base.Path, raw)
		got, err = os.ReadFile(raw)
	}
	if err != nil || string(got) != string(want) {
		t.Errorf("%+v has another content (%d bytes, %v)", base, len(got), err)
	}
}

func TestHTTP(t *testing.T) {
	b := disk(1)
	web := newSite(t, map[string][]byte{"/disk": b, "/page": []byte("<html>")})
	s := newStore(t, func(c *Config) { c.MaxImageBytes = 5 * mib })
	src := Source{Ref: web.URL + "/disk"}
	base := ensure(t, s, src)
	if base.Format != "raw" || base.Digest != sum256(b) || base.VirtualSize != int64(len(b)) || base.Hints.Firmware != "bios" {
		t.Errorf("%+v", base)
	}
	holds(t, base, b)
	if info, err := os.Stat(base.Path); err != nil || info.Mode().Perm() != 0o444 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	var st unix.Stat_t
	if err := unix.Stat(base.Path, &st); err != nil || st.Blocks*512 > 2*mib {
		t.Errorf("zeros take %d bytes on disk", st.Blocks*512)
	}
	for _, tc := range []struct {
		what string
		src  Source
		gets int // in all
	}{
		{"the same", src, 1},
		{"by checksum", Source{Ref: web.URL + "/gone", Checksum: sum256(b)}, 1},
		{"redirected", Source{Ref: web.URL + "/moved/disk"}, 3}, // the answer and where it leads
	} {
		if got := ensure(t, s, tc.src); got.Path != base.Path || web.gets != tc.gets {
			t.Errorf("%s: %+v, %d requests", tc.what, got, web.gets)
		}
	}
	// The address holds something else now.
	web.mu.Lock()
	web.files["/disk"] = disk(2)
	web.mu.Unlock()
	if got := ensure(t, s, src); got.Digest != sum256(disk(2)) {
		t.Errorf("an old image: %+v", got)
	}
	// The server is gone: what is here will do.
	web.Close()
	s2, err := New(s.cfg)
	if err != nil {
		t.Fatal(err)
	}
	if got := ensure(t, s2, src); got.Digest != sum256(disk(2)) {
		t.Errorf("%+v", got)
	}
}

// TestRefused: a clear reason, and nothing is left.
func TestRefused(t *testing.T) {
	b := disk(1)
	dir := t.TempDir()
	host := t.TempDir()
	outside := filepath.Join(t.TempDir(), "disk")
	for _, path := range []string{dir + "/disk", host + "/disk", outside} {
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	_ = os.Symlink(outside, dir+"/link")
	_ = os.Symlink(outside, host+"/link")
	_ = unix.Mkfifo(dir+"/pipe", 0o600)
	web := newSite(t, map[string][]byte{"/disk": b, "/page": []byte("<html>hello"), "/large": make([]byte, 6*mib), "/cut": b[:len(b)/2]})
	s := newStore(t, func(c *Config) { c.MaxImageBytes, c.MaxVirtualBytes, c.HostDirs = 5*mib, 3*mib, []string{host} })
	for name, tc := range map[string]struct {
		src  Source
		kind problem.Kind
		says string
	}{
		"checksum":         {Source{Ref: web.URL + "/disk", Checksum: sum256(nil)}, problem.Invalid, "does not match"},
		"sha512":           {Source{Ref: web.URL + "/disk", Checksum: fmt.Sprintf("sha512:%x", sha512.Sum512(nil))}, problem.Invalid, "does not match"},
		"odd checksum":     {Source{Ref: web.URL + "/disk", Checksum: "md5:00"}, problem.Invalid, "neither sha256"},
		"not there":        {Source{Ref: web.URL + "/no"}, problem.NotFound, "404"},
		"a page":           {Source{Ref: web.URL + "/page"}, problem.Invalid, "page for people"},
		"too large":        {Source{Ref: web.URL + "/large"}, problem.Invalid, "takes up to 5 MiB"},
		"too large inside": {Source{Ref: web.URL + "/disk"}, problem.Invalid, "a disk of 4 MiB"},
		"cut off":          {Source{Ref: web.URL + "/cut"}, problem.Invalid, "cut off"},
		"another format":   {Source{Ref: web.URL + "/disk", Format: "qcow2"}, problem.Invalid, "not qcow2"},
		"scheme":           {Source{Ref: "ftp://x/y"}, problem.Invalid, "cannot be fetched"},
		"out of the task":  {Source{Ref: "../disk", Dir: dir}, problem.Invalid, "not in the task's directory"},
		"by a link":        {Source{Ref: "./link", Dir: dir}, problem.Invalid, "escapes"},
		"a pipe":           {Source{Ref: "./pipe", Dir: dir}, problem.Invalid, "no plain file"},
		"host":             {Source{Ref: outside}, problem.Denied, "no directory that this host"},
		"host by a link":   {Source{Ref: host + "/link"}, problem.Invalid, "escapes"},
		"host by dots":     {Source{Ref: host + "/../" + filepath.Base(dir) + "/disk"}, problem.Denied, "no directory that this host"},
		"no store":         {Source{Ref: "debian-12"}, problem.Unsupported, "no store of images"},
		"no name":          {Source{Ref: "Debian 12"}, problem.Invalid, "no name of an image"},
		"signature":        {Source{Ref: web.URL + "/disk", Signature: "x\ny"}, problem.Denied, "trusts no keys"},
	} {
		t.Run(name, func(t *testing.T) {
			base, _, err := s.Ensure(t.Context(), tc.src, nil)
			if !problem.Is(err, tc.kind) || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("%+v, %v (%s), want %q", base, err, problem.KindOf(err), tc.says)
			}
			if left := files(t, s); len(left) > 0 {
				t.Errorf("left: %v", left)
			}
		})
	}
	s.cfg.MaxVirtualBytes = 10 * mib
	for _, src := range []Source{{Ref: "./disk", Dir: dir}, {Ref: host + "/disk"}} {
		holds(t, ensure(t, s, src), b)
	}
}

// TestBrokenOff: connections that end in the middle.
func TestBrokenOff(t *testing.T) {
	b := disk(1)
	web := newSite(t, map[string][]byte{"/disk": b})
	web.cut, web.cuts = 3*mib/2, 2
	s := newStore(t, nil)
	var words []string
	base, release, err := s.Ensure(t.Context(), Source{Ref: web.URL + "/disk"}, func(w string) { words = append(words, w) })
	if err != nil {
		t.Fatal(err)
	}
	release()
	holds(t, base, b)
	if web.gets != 3 || !strings.Contains(strings.Join(words, ";"), "trying again: it broke off after") {
		t.Errorf("%d requests, %q", web.gets, words)
	}
	// A server that cannot go on in the middle.
	web.bare, web.cuts = true, 1
	s = newStore(t, nil)
	if _, _, err := s.Ensure(t.Context(), Source{Ref: web.URL + "/disk"}, nil); !problem.Is(err, problem.Conflict) {
		t.Error(err)
	}
	if left := files(t, s); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// TestTogether: several want the same, one fetches; who goes away does not end it, the last
// who does, does.
func TestTogether(t *testing.T) {
	b := disk(1)
	web := newSite(t, map[string][]byte{"/disk": b})
	web.wait = make(chan struct{})
	s := newStore(t, nil)
	src := Source{Ref: web.URL + "/disk"}
	impatient, cancel := context.WithCancel(t.Context())
	errs := make(chan error, 9)
	for i := range 9 {
		ctx := t.Context()
		if i == 0 {
			ctx = impatient
		}
		go func() {
			base, release, err := s.Ensure(ctx, src, nil)
			if err == nil {
				holds(t, base, b)
				release()
			}
			errs <- err
		}()
	}
	waiting := func() int {
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, f := range s.flights {
			return f.waiting
		}
		return 0
	}
	for waiting() < 9 {
		time.Sleep(time.Millisecond)
	}
	cancel()
	if err := <-errs; !errors.Is(err, context.Canceled) {
		t.Errorf("the impatient one: %v", err)
	}
	close(web.wait)
	for range 8 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	if web.gets != 1 || len(s.flights) != 0 || len(s.pins) != 0 {
		t.Errorf("%d requests, %v, %v", web.gets, s.flights, s.pins)
	}

	web.wait = make(chan struct{})
	s = newStore(t, nil)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		for waiting() == 0 {
			time.Sleep(time.Millisecond)
		}
		cancel()
	}()
	if _, _, err := s.Ensure(ctx, src, nil); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if left := files(t, s); len(left) > 0 || len(s.flights) != 0 {
		t.Errorf("left: %v %v", left, s.flights)
	}
}

// cluster is the cluster's store: names, and bytes by digest.
type cluster struct {
	names map[string]string
	blobs map[string][]byte
	cut   int
}

func (c *cluster) Resolve(_ context.Context, name string) (string, error) {
	if d, ok := c.names[name]; ok {
		return d, nil
	}
	return "", problem.New(problem.NotFound, "image", "there is no image %q", name)
}

func (c *cluster) Fetch(_ context.Context, digest string, offset int64, to io.Writer) error {
	b := c.blobs[digest][offset:]
	if c.cut > 0 {
		b, c.cut = b[:c.cut], 0
		_, _ = to.Write(b)
		return problem.New(problem.Unavailable, "", "the stream broke")
	}
	_, err := to.Write(b)
	return err
}

func TestCluster(t *testing.T) {
	b := disk(1)
	c := &cluster{names: map[string]string{"debian-12": sum256(b)}, blobs: map[string][]byte{sum256(b): b, sum256(nil): b}, cut: mib}
	s := newStore(t, func(cfg *Config) { cfg.Cluster = c })
	base := ensure(t, s, Source{Ref: "debian-12"})
	holds(t, base, b)
	c.names = nil
	if got := ensure(t, s, Source{Ref: "debian-12@" + sum256(b)}); got.Path != base.Path {
		t.Errorf("%+v", got)
	}
	if _, _, err := s.Ensure(t.Context(), Source{Ref: "debian-13"}, nil); !problem.Is(err, problem.NotFound) {
		t.Error(err)
	}
	if _, _, err := s.Ensure(t.Context(), Source{Ref: "x@" + sum256(nil)}, nil); !problem.Is(err, problem.Unavailable) {
		t.Errorf("other bytes than the digest's: %v", err)
	}
}

// TestCrash: what a crash leaves is no image, and goes.
func TestCrash(t *testing.T) {
	b := disk(1)
	web := newSite(t, map[string][]byte{"/disk": b})
	s := newStore(t, nil)
	src := Source{Ref: web.URL + "/disk"}
	base := ensure(t, s, src)
	// In the middle of a fetch, and between the two renames.
	_ = os.MkdirAll(s.path("temp", "x"), 0o700)
	_ = os.WriteFile(s.path("temp", "x", "fetched"), b[:mib], 0o600)
	_ = os.Remove(base.Path)
	s, err := New(s.cfg)
	if err != nil {
		t.Fatal(err)
	}
	if left, _ := os.ReadDir(s.path("temp")); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	holds(t, ensure(t, s, src), b)
	_ = os.Remove(base.Path)
	if _, err := s.Tidy(t.Context()); err != nil || len(files(t, s)) != 1 {
		t.Errorf("%v, %v", files(t, s), err)
	}
	// A description that cannot be read is as none.
	base = ensure(t, s, src)
	_ = os.Chmod(base.Path+".json", 0o600)
	_ = os.WriteFile(base.Path+".json", []byte("{"), 0o600)
	holds(t, ensure(t, s, src), b)
}

func TestTidy(t *testing.T) {
	web := newSite(t, map[string][]byte{"/1": disk(1), "/2": disk(2), "/3": disk(3)})
	s := newStore(t, func(c *Config) { c.MaxBytes = 5 * mib / 2 })
	one, two := ensure(t, s, Source{Ref: web.URL + "/1"}), ensure(t, s, Source{Ref: web.URL + "/2"})
	old := time.Now().Add(-time.Hour)
	_ = os.Chtimes(two.Path+".json", old, old)
	there := func(b *Base) bool { _, err := os.Stat(b.Path); return err == nil }
	three := ensure(t, s, Source{Ref: web.URL + "/3"})
	if !there(one) || there(two) || !there(three) {
		t.Errorf("not the oldest went: %v %v %v", there(one), there(two), there(three))
	}
	// What is used stays, also after a restart: by a link, by whoever has it from Ensure.
	link := filepath.Join(t.TempDir(), "kernel")
	if err := s.Link(t.Context(), one, link); err != nil {
		t.Fatal(err)
	}
	s.cfg.MaxBytes = 1
	s, err := New(s.cfg)
	if err != nil {
		t.Fatal(err)
	}
	_, release, err := s.Ensure(t.Context(), Source{Ref: web.URL + "/3"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if freed, err := s.Tidy(t.Context()); freed != 0 || err != nil || !there(one) || !there(three) {
		t.Errorf("%d, %v", freed, err)
	}
	release()
	release()
	if err := s.Remove(link); err != nil {
		t.Fatal(err)
	}
	if freed, err := s.Tidy(t.Context()); freed < mib || err != nil || there(one) || there(three) {
		t.Errorf("%d, %v", freed, err)
	}
}

func TestNoSpace(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("none", dir, "tmpfs", 0, "size=16m"); err != nil {
		t.Skipf("a small file system cannot be mounted: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	web := newSite(t, map[string][]byte{"/disk": disk(1)})
	s := newStore(t, func(c *Config) { c.Dir = dir })
	_, _, err := s.Ensure(t.Context(), Source{Ref: web.URL + "/disk"}, nil)
	if !problem.Is(err, problem.Exhausted) || !strings.Contains(err.Error(), "no space") {
		t.Error(err)
	}
	if left := files(t, s); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	// The check before is one thing; a disk that is full in the middle another.
	base := &Base{Path: filepath.Join(t.TempDir(), "base"), Format: "raw", VirtualSize: 32 * mib}
	b := make([]byte, 32*mib)
	for i := range b {
		b[i] = byte(i>>8) | 1
	}
	_ = os.WriteFile(base.Path, b, 0o600)
	img(t, "--version")
	err = s.MakeDisk(t.Context(), base, DiskSpec{Path: dir + "/root.raw", Format: "raw", Clone: "full"})
	if !problem.Is(err, problem.Exhausted) {
		t.Error(err)
	}
	if left := files(t, s); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}
