package artifact

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"io"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// linked is an archive with links: "name" a file that has its name, "name -> target" a
// symbolic link, "name => target" a hard one.
func linked(t *testing.T, words ...string) []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, word := range words {
		h := tar.Header{Name: word, Mode: 0o644, Typeflag: tar.TypeReg, Size: int64(len(word))}
		if name, target, ok := strings.Cut(word, " -> "); ok {
			h = tar.Header{Name: name, Linkname: target, Mode: 0o777, Typeflag: tar.TypeSymlink}
		} else if name, target, ok := strings.Cut(word, " => "); ok {
			h = tar.Header{Name: name, Linkname: target, Mode: 0o644, Typeflag: tar.TypeLink}
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeReg {
			_, _ = io.WriteString(w, word)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func zippedLink(t *testing.T, name, target string) []byte {
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for _, f := range []string{"bin/app-2", name} {
		h := &zip.FileHeader{Name: f}
		h.SetMode(0o644)
		text := f
		if f == name {
			h.SetMode(0o777 | os.ModeSymlink)
			text = target
		}
		e, err := w.CreateHeader(h)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(e, text)
	}
	_ = w.Close()
	return b.Bytes()
}

func TestLinksInArchives(t *testing.T) {
	const outside = "leads out of it, or to nothing"
	s := &site{files: map[string][]byte{}}
	server := httptest.NewServer(s)
	defer server.Close()
	for name, tc := range map[string]struct {
		file  string
		data  []byte
		want  map[string]string // link -> what is read there
		fails string
	}{
		"inside":                 {"a.tar", linked(t, "lib/so.1", "./lib/so -> so.1", "top -> lib/so"), map[string]string{"lib/so": "lib/so.1", "top": "lib/so.1"}, ""},
		"to a directory":         {"a.tar", linked(t, "v2/app", "current -> v2"), map[string]string{"current/app": "v2/app"}, ""},
		"before what it names":   {"a.tar", linked(t, "now -> app", "app"), map[string]string{"now": "app"}, ""},
		"hard":                   {"a.tar", linked(t, "app", "d/twin => app", "third => /d/twin"), map[string]string{"d/twin": "app", "third": "app"}, ""},
		"hard to a link":         {"a.tar", linked(t, "app", "l -> app", "h => l"), map[string]string{"h": "app"}, ""},
		"replaced by a file":     {"a.tar", linked(t, "x", "app -> x", "app"), map[string]string{"app": "app"}, ""},
		"in a zip":               {"a.zip", zippedLink(t, "app", "bin/app-2"), map[string]string{"app": "bin/app-2"}, ""},
		"absolute":               {"a.tar", linked(t, "app -> /etc/passwd"), nil, outside},
		"up":                     {"a.tar", linked(t, "d/app -> ../../x"), nil, outside},
		"up by another":          {"a.tar", linked(t, "d/f", "up -> ..", "app -> up/up/task"), nil, outside},
		"to nothing":             {"a.tar", linked(t, "app -> none"), nil, outside},
		"to itself":              {"a.tar", linked(t, "app -> app"), nil, outside},
		"hard to itself":         {"a.tar", linked(t, "app => app"), nil, outside},
		"hard and up":            {"a.tar", linked(t, "app => ../../x"), nil, outside},
		"hard to nothing":        {"a.tar", linked(t, "app => none"), nil, outside},
		"hard by way of a link":  {"a.tar", linked(t, "out -> /etc", "h => out/passwd"), nil, outside},
		"a file by way of one":   {"a.tar", linked(t, "out -> /tmp", "out/x"), nil, "out"},
		"up, in a zip":           {"a.zip", zippedLink(t, "app", "../../x"), nil, outside},
		"too long, in a zip":     {"a.zip", zippedLink(t, "app", strings.Repeat("x/", maxTarget)), nil, "too long"},
		"an entry that leads up": {"a.tar", linked(t, "../app -> x"), nil, ".."},
	} {
		t.Run(name, func(t *testing.T) {
			s.files["/"+tc.file] = tc.data
			r := request(t, &berthv1.Artifact{Source: server.URL + "/" + tc.file})
			_, err := Fetch(t.Context(), r)
			if tc.fails != "" {
				if err == nil || !strings.Contains(err.Error(), tc.fails) {
					t.Errorf("error %v, want %q", err, tc.fails)
				}
				if left, _ := filepath.Glob(r.TaskDir + "/*/*"); len(left) > 0 {
					t.Errorf("left behind: %v", left)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			for link, want := range tc.want {
				if b, err := os.ReadFile(filepath.Join(r.TaskDir, "local", link)); err != nil || string(b) != want {
					t.Errorf("%s: %q, %v", link, b, err)
				}
			}
		})
	}
}

// Archives as tar makes them, of every compression that is here.
func TestLinksInRealArchives(t *testing.T) {
	from := t.TempDir()
	for _, err := range []error{
		os.Mkdir(from+"/lib", 0o755), os.WriteFile(from+"/lib/so.1", []byte("so"), 0o644),
		os.Symlink("so.1", from+"/lib/so"), os.Link(from+"/lib/so.1", from+"/twin"),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	s := &site{files: map[string][]byte{}}
	server := httptest.NewServer(s)
	defer server.Close()
	made := 0
	for _, kind := range []string{"tar", "tar.gz", "tar.bz2", "tar.xz", "tar.zst"} {
		archive := filepath.Join(t.TempDir(), "a."+kind)
		if out, err := exec.CommandContext(t.Context(), "tar", "-caf", archive, "-C", from, ".").CombinedOutput(); err != nil {
			t.Logf("%s: %s", kind, out)
			continue
		}
		made++
		b, err := os.ReadFile(archive)
		if err != nil {
			t.Fatal(err)
		}
		s.files["/a."+kind] = b
		r := request(t, &berthv1.Artifact{Source: server.URL + "/a." + kind})
		if _, err := Fetch(t.Context(), r); err != nil {
			t.Errorf("%s: %v", kind, err)
			continue
		}
		one, err1 := os.Stat(r.TaskDir + "/local/lib/so.1")
		two, err2 := os.Stat(r.TaskDir + "/local/twin")
		if to, err := os.Readlink(r.TaskDir + "/local/lib/so"); to != "so.1" || err != nil || err1 != nil || err2 != nil || !os.SameFile(one, two) {
			t.Errorf("%s: %q, %v %v %v", kind, to, err, err1, err2)
		}
	}
	if made < 2 {
		t.Errorf("tar made %d archives", made)
	}
}
