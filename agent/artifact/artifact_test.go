package artifact

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// entry is one thing in an archive.
type entry struct{ name, text string }

func tgz(t *testing.T, entries ...entry) []byte {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	w := tar.NewWriter(z)
	for _, e := range entries {
		if err := w.WriteHeader(&tar.Header{Name: e.name, Mode: 0o6755, Size: int64(len(e.text)), Typeflag: tar.TypeReg}); err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(w, e.text)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	_ = z.Close()
	return b.Bytes()
}

func zipped(t *testing.T, entries ...entry) []byte {
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for _, e := range entries {
		f, err := w.Create(e.name)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(f, e.text)
	}
	_ = w.Close()
	return b.Bytes()
}

// site serves files, counts requests and wants a header for what begins with /secret.
type site struct {
	files map[string][]byte
	asked int
}

func (s *site) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.asked++
	b, ok := s.files[r.URL.Path]
	switch {
	case strings.HasPrefix(r.URL.Path, "/secret") && r.Header.Get("X-Token") != "t":
		w.WriteHeader(http.StatusForbidden)
	case r.URL.Path == "/slow":
		<-r.Context().Done()
	case !ok:
		w.WriteHeader(http.StatusNotFound)
	default:
		_, _ = w.Write(b)
	}
}

func request(t *testing.T, a *berthv1.Artifact) Request {
	dir := t.TempDir()
	r := Request{Artifact: a, TaskDir: dir + "/task", Private: dir + "/private"}
	if err := os.Mkdir(r.TaskDir, 0o755); err != nil {
		t.Fatal(err)
	}
	return r
}

func TestFetch(t *testing.T) {
	sum := func(b []byte) string { s := sha256.Sum256(b); return "sha256:" + hex.EncodeToString(s[:]) }
	page := []byte("hello")
	s := &site{files: map[string][]byte{
		"/page": page, "/secret/page": page,
		"/app.tar.gz": tgz(t, entry{"app/bin", "run"}, entry{"app/etc/conf", "c"}), "/app.zip": zipped(t, entry{"bin", "run"}),
		"/up.tar.gz": tgz(t, entry{"../../up", "x"}), "/up.zip": zipped(t, entry{"../../up", "x"}), "/root.tar.gz": tgz(t, entry{"/etc/abs", "x"}),
		"/bomb.tar.gz": tgz(t, entry{"zeros", strings.Repeat("\x00", 3<<20)}), "/bomb.zip": zipped(t, entry{"zeros", strings.Repeat("\x00", 3<<20)}),
		"/big": make([]byte, 3<<20), "/page.gz": func() []byte {
			var b bytes.Buffer
			z := gzip.NewWriter(&b)
			_, _ = z.Write(page)
			_ = z.Close()
			return b.Bytes()
		}(),
	}}
	server := httptest.NewServer(s)
	defer server.Close()
	for name, tc := range map[string]struct {
		a     *berthv1.Artifact // its source gets the server's address
		want  map[string]string // file -> text
		fails string            // part of the error
	}{
		"file":              {a: &berthv1.Artifact{Source: "/page", Checksum: sum(page)}, want: map[string]string{"local/page": "hello"}},
		"file by name":      {a: &berthv1.Artifact{Source: "/page", Destination: "a/b", Mode: "file"}, want: map[string]string{"a/b": "hello"}},
		"header":            {a: &berthv1.Artifact{Source: "/secret/page", Headers: map[string]string{"X-Token": "t"}}, want: map[string]string{"local/page": "hello"}},
		"archive":           {a: &berthv1.Artifact{Source: "/app.tar.gz"}, want: map[string]string{"local/app/bin": "run", "local/app/etc/conf": "c"}},
		"part of archive":   {a: &berthv1.Artifact{Source: "/app.tar.gz//app/etc"}, want: map[string]string{"local/conf": "c"}},
		"zip":               {a: &berthv1.Artifact{Source: "/app.zip", Mode: "dir"}, want: map[string]string{"local/bin": "run"}},
		"compressed":        {a: &berthv1.Artifact{Source: "/page.gz"}, want: map[string]string{"local/page": "hello"}},
		"left as it is":     {a: &berthv1.Artifact{Source: "/app.zip", Options: map[string]string{"archive": "false"}}, want: map[string]string{"local/app.zip": string(s.files["/app.zip"])}},
		"archive by abs":    {a: &berthv1.Artifact{Source: "/root.tar.gz"}, want: map[string]string{"local/etc/abs": "x"}},
		"no header":         {a: &berthv1.Artifact{Source: "/secret/page"}, fails: "403"},
		"not there":         {a: &berthv1.Artifact{Source: "/nothing"}, fails: "404"},
		"wrong checksum":    {a: &berthv1.Artifact{Source: "/page", Checksum: sum([]byte("other"))}, fails: "did not match"},
		"leads up":          {a: &berthv1.Artifact{Source: "/up.tar.gz"}, fails: ".."},
		"zip leads up":      {a: &berthv1.Artifact{Source: "/up.zip"}, fails: ".."},
		"bomb":              {a: &berthv1.Artifact{Source: "/bomb.tar.gz", MaxSizeMib: 1}, fails: "limit"},
		"zip bomb":          {a: &berthv1.Artifact{Source: "/bomb.zip", MaxSizeMib: 1}, fails: "limit"},
		"too large":         {a: &berthv1.Artifact{Source: "/big", MaxSizeMib: 1}, fails: "max_size of 1 MiB"},
		"too slow":          {a: &berthv1.Artifact{Source: "/slow", Timeout: durationpb.New(50 * time.Millisecond)}, fails: "longer than"},
		"no archive":        {a: &berthv1.Artifact{Source: "/page", Mode: "dir"}, fails: "no archive"},
		"unknown option":    {a: &berthv1.Artifact{Source: "/page", Options: map[string]string{"ref": "x"}}, fails: "no such option"},
		"destination leads": {a: &berthv1.Artifact{Source: "/page", Destination: "../x"}, fails: "not in the task's directory"},
	} {
		t.Run(name, func(t *testing.T) {
			tc.a.Source = server.URL + tc.a.Source
			r := request(t, tc.a)
			fetched, err := Fetch(t.Context(), r)
			if tc.fails != "" {
				if err == nil || !strings.Contains(err.Error(), tc.fails) {
					t.Errorf("error %v, want %q", err, tc.fails)
				}
				if left, _ := filepath.Glob(r.TaskDir + "/*/*"); len(left) > 0 {
					t.Errorf("left behind: %v", left)
				}
				return
			}
			if err != nil || !fetched {
				t.Fatalf("%v, %v", fetched, err)
			}
			for file, text := range tc.want {
				info, serr := os.Stat(filepath.Join(r.TaskDir, file))
				b, err := os.ReadFile(filepath.Join(r.TaskDir, file))
				if err != nil || serr != nil || string(b) != text || info.Mode()&(os.ModeSetuid|os.ModeSetgid) != 0 || info.Mode()&0o004 == 0 {
					t.Errorf("%s: %q, %v, %v", file, b, info, err)
				}
			}
			if left, _ := filepath.Glob(r.Private + "/*.part"); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
			// Again: nothing is asked; gone: it is.
			before := s.asked
			if again, err := Fetch(t.Context(), r); again || err != nil || s.asked != before {
				t.Errorf("fetched again: %v, %v", again, err)
			}
			_ = os.RemoveAll(r.TaskDir)
			_ = os.Mkdir(r.TaskDir, 0o755)
			if again, err := Fetch(t.Context(), r); !again || err != nil {
				t.Errorf("what was gone: %v, %v", again, err)
			}
		})
	}
}

func TestSourcesThatAreRefused(t *testing.T) {
	for source, fails := range map[string]string{
		"":                          "not a URL",
		"github.com/a/b":            "not a URL",
		"s3::https://a/b":           "not fetched",
		"s3://a/b":                  "not fetched",
		"hg::http://a/b":            "not fetched",
		"git::ssh://a/b":            "not fetched",
		"git::ext::sh":              "not fetched",
		"git::-u./x":                "not a URL",
		"git::https://a/b?sshkey=x": "no such option",
		"git::https://a/b?ref=-x":   "not allowed",
		"git::https://a/b//../x":    "leads out",
		"https://a/b?checksum=x":    "checksum stands in the source",
		"https://a/":                "no file name",
		"file://host/x":             "another host",
	} {
		if _, err := parse(&berthv1.Artifact{Source: source}); err == nil || !strings.Contains(err.Error(), fails) || !problem.Is(err, problem.Invalid) {
			t.Errorf("%q: %v, want %q", source, err, fails)
		}
	}
}

func TestFilesOfTheHost(t *testing.T) {
	dir := public(t)
	write(t, dir+"/open", 0o644)
	write(t, dir+"/closed", 0o600)
	r := request(t, &berthv1.Artifact{Source: "file://" + dir + "/open"})
	if _, err := Fetch(t.Context(), r); err != nil {
		t.Error(err)
	}
	if info, err := os.Lstat(r.TaskDir + "/local/open"); err != nil || !info.Mode().IsRegular() {
		t.Errorf("%v, %v", info, err)
	}
	for _, p := range []string{"/closed", "/link"} {
		_ = os.Symlink(dir+"/closed", dir+"/link")
		r := request(t, &berthv1.Artifact{Source: "file://" + dir + p})
		if _, err := Fetch(t.Context(), r); !problem.Is(err, problem.Invalid) {
			t.Errorf("%s was fetched: %v", p, err)
		}
	}
}

// TestLinksOfTheTask: a task that was here before leaves links where the artifact goes.
func TestLinksOfTheTask(t *testing.T) {
	src := public(t)
	write(t, src+"/f", 0o644)
	outside := t.TempDir()
	write(t, outside+"/f", 0o600)
	r := request(t, &berthv1.Artifact{Source: "file://" + src + "/f"})
	_ = os.Symlink(outside, r.TaskDir+"/local")
	if _, err := Fetch(t.Context(), r); !problem.Is(err, problem.Invalid) {
		t.Errorf("a link to a directory was followed: %v", err)
	}
	_ = os.Remove(r.TaskDir + "/local")
	_ = os.Mkdir(r.TaskDir+"/local", 0o755)
	_ = os.Symlink(outside+"/f", r.TaskDir+"/local/f")
	if _, err := Fetch(t.Context(), r); err != nil {
		t.Error(err)
	}
	if info, _ := os.Lstat(r.TaskDir + "/local/f"); !info.Mode().IsRegular() {
		t.Error("the link is still there")
	}
	if b, _ := os.ReadFile(outside + "/f"); string(b) != outside+"/f" {
		t.Error("a file outside was written")
	}
}

func TestGit(t *testing.T) {
	if _, err := exec.LookPath("git"); err != nil {
		t.Skip("there is no git")
	}
	repo := public(t)
	write(t, repo+"/file", 0o644)
	_ = os.Mkdir(repo+"/sub", 0o755)
	write(t, repo+"/sub/other", 0o644)
	_ = os.Symlink("sub/other", repo+"/inside")
	git := func(args ...string) {
		c := exec.Command("git", append([]string{"-C", repo, "-c", "user.name=n", "-c", "user.email=e@example.com"}, args...)...)
		if out, err := c.CombinedOutput(); err != nil {
			t.Fatalf("git %v: %v: %s", args, err, out)
		}
	}
	git("init", "-q", "-b", "main")
	git("add", ".")
	git("commit", "-q", "-m", "one")
	git("tag", "v1")
	_ = os.Symlink("/etc/passwd", repo+"/outside")
	git("add", ".")
	git("commit", "-q", "-m", "two")
	r := request(t, &berthv1.Artifact{Source: "git::file://" + repo, Options: map[string]string{"ref": "v1"}})
	if _, err := Fetch(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(r.TaskDir + "/local/inside"); err != nil {
		t.Error(err)
	}
	r = request(t, &berthv1.Artifact{Source: "git::file://" + repo + "//sub"})
	if _, err := Fetch(t.Context(), r); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(r.TaskDir + "/local/other"); err != nil {
		t.Error(err)
	}
	r = request(t, &berthv1.Artifact{Source: "git::file://" + repo})
	if _, err := Fetch(t.Context(), r); err == nil || !strings.Contains(err.Error(), "leads out") {
		t.Errorf("a link out of the repository: %v", err)
	}
	t.Setenv("PATH", "")
	if _, err := Fetch(t.Context(), r); !problem.Is(err, problem.Unsupported) {
		t.Errorf("without git: %v", err)
	}
}

func TestFetchIsInterrupted(t *testing.T) {
	server := httptest.NewServer(&site{})
	defer server.Close()
	r := request(t, &berthv1.Artifact{Source: server.URL + "/slow"})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := Fetch(ctx, r); err == nil {
		t.Error("no error")
	}
}

func write(t *testing.T, path string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, []byte(path), mode); err != nil {
		t.Fatal(err)
	}
	_ = os.Chmod(filepath.Dir(path), 0o755)
}

// public is a directory that everybody may look into.
func public(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Chmod(filepath.Dir(dir), 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}
