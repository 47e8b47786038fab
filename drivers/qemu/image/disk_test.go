package image

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/berthd/berth/problem"
)

// here puts a file into a directory that stands for a task's, and names it.
func here(t testing.TB, b []byte) Source {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(dir+"/image", b, 0o600); err != nil {
		t.Fatal(err)
	}
	return Source{Ref: "./image", Dir: dir}
}

const ovf = `<Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/1" xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1">
  <References><File ovf:id="f1" ovf:href="disk.vmdk"/></References>
  <DiskSection><Disk ovf:diskId="d1" ovf:fileRef="f1"/></DiskSection><VirtualSystem/></Envelope>`

// TestFormats: from each format a base with the same content.
func TestFormats(t *testing.T) {
	b := disk(1)
	dir := t.TempDir()
	if err := os.WriteFile(dir+"/raw", b, 0o600); err != nil {
		t.Fatal(err)
	}
	s := newStore(t, nil)
	for _, tc := range []struct{ source, format, options string }{
		{"raw", "raw", ""}, {"qcow2", "qcow2", ""}, {"qcow2", "qcow2", "cluster_size=2M"}, {"vmdk", "qcow2", ""},
		{"vmdk", "qcow2", "subformat=streamOptimized"}, {"vdi", "qcow2", ""}, {"vhdx", "qcow2", ""}, {"ova", "qcow2", "subformat=streamOptimized"},
	} {
		t.Run(tc.source+" "+tc.options, func(t *testing.T) {
			format := tc.source
			if format == "ova" {
				format = "vmdk"
			}
			args := []string{"convert", "-O", format}
			if tc.options != "" {
				args = append(args, "-o", tc.options)
			}
			img(t, append(args, "-f", "raw", dir+"/raw", dir+"/x")...)
			x, err := os.ReadFile(dir + "/x")
			if err != nil {
				t.Fatal(err)
			}
			whole := x
			if tc.source == "ova" {
				whole = archive(t, x)
			}
			base := ensure(t, s, here(t, whole))
			if base.Source != tc.source || base.Format != tc.format || base.Digest != sum256(whole) || base.VirtualSize != int64(len(b)) {
				t.Errorf("%+v", base)
			}
			holds(t, base, b)
			before := len(files(t, s))
			for _, cut := range [][]byte{whole[:len(whole)/2], whole[:len(whole)-len(whole)/5]} {
				if base, _, err := s.Ensure(t.Context(), here(t, cut), nil); !problem.Is(err, problem.Invalid) {
					t.Errorf("cut off, and taken: %+v, %v", base, err)
				}
			}
			if after := len(files(t, s)); after != before {
				t.Errorf("%d files, %d before", after, before)
			}
		})
	}
	kernel := here(t, []byte("a kernel"))
	kernel.Format = "file"
	if base := ensure(t, s, kernel); !strings.HasSuffix(base.Path, ".file") || base.VirtualSize != 8 {
		t.Errorf("%+v", base)
	}
}

func archive(t *testing.T, disk []byte) []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, m := range []struct {
		name string
		b    []byte
	}{{"vm.ovf", []byte(ovf)}, {"disk.vmdk", disk}} {
		if err := w.WriteHeader(&tar.Header{Name: m.name, Size: int64(len(m.b)), Mode: 0o600}); err != nil {
			t.Fatal(err)
		}
		_, _ = w.Write(m.b)
	}
	_ = w.Close()
	return b.Bytes()
}

// about is what qemu-img says of a disk.
func about(t *testing.T, path string) (a struct {
	VirtualSize int64  `json:"virtual-size"`
	ActualSize  int64  `json:"actual-size"`
	Cluster     int64  `json:"cluster-size"`
	Backing     string `json:"backing-filename"`
	Format      string
}) {
	t.Helper()
	if err := json.Unmarshal([]byte(img(t, "info", "--output=json", "--backing-chain", path))[1:], &a); err != nil {
		if err := json.Unmarshal([]byte(img(t, "info", "--output=json", path)), &a); err != nil {
			t.Fatal(err)
		}
	}
	return a
}

func TestDisks(t *testing.T) {
	img(t, "--version")
	b := disk(1)
	s := newStore(t, nil)
	base := ensure(t, s, here(t, b))
	dir := t.TempDir()
	for name, tc := range map[string]struct {
		base    *Base
		spec    DiskSpec
		want    int64
		least   int64 // on disk
		cluster int64
	}{
		"linked":       {base: base, spec: DiskSpec{Format: "qcow2", Clone: "linked"}, want: 4 * mib, cluster: 65536},
		"linked large": {base: base, spec: DiskSpec{Format: "qcow2", Clone: "linked", SizeBytes: 64 * mib, ClusterBytes: 1 * mib}, want: 64 * mib, cluster: mib},
		"full":         {base: base, spec: DiskSpec{Format: "qcow2", Clone: "full", ClusterBytes: 4096}, want: 4 * mib, cluster: 4096},
		"full large":   {base: base, spec: DiskSpec{Format: "qcow2", Clone: "full", SizeBytes: 64 * mib, Preallocation: "metadata"}, want: 64 * mib, cluster: 65536},
		"raw":          {base: base, spec: DiskSpec{Format: "raw", Clone: "full", SizeBytes: 8 * mib}, want: 8 * mib},
		"raw full":     {base: base, spec: DiskSpec{Format: "raw", Clone: "full", SizeBytes: 8 * mib, Preallocation: "falloc"}, want: 8 * mib, least: 8 * mib},
		"empty":        {spec: DiskSpec{Format: "qcow2", SizeBytes: 10 * mib}, want: 10 * mib, cluster: 65536},
		"empty raw":    {spec: DiskSpec{Format: "raw", SizeBytes: 10*mib - 1, Preallocation: "full"}, want: 10 * mib, least: 10 * mib},
	} {
		t.Run(name, func(t *testing.T) {
			spec := tc.spec
			spec.Path = filepath.Join(dir, name)
			for range 2 { // the second finds it
				if err := s.MakeDisk(t.Context(), tc.base, spec); err != nil {
					t.Fatal(err)
				}
			}
			a := about(t, spec.Path)
			if a.VirtualSize != tc.want || a.Format != spec.Format || a.Cluster != tc.cluster || a.ActualSize < tc.least {
				t.Errorf("%+v", a)
			}
			if tc.base != nil {
				img(t, "convert", "-f", spec.Format, "-O", "raw", spec.Path, dir+"/out")
				got, _ := os.ReadFile(dir + "/out")
				if !bytes.Equal(got[:len(b)], b) {
					t.Error("another content")
				}
			}
			spec.SizeBytes = tc.want + mib
			if err := s.MakeDisk(t.Context(), tc.base, spec); err != nil || about(t, spec.Path).VirtualSize != tc.want+mib {
				t.Errorf("did not grow: %v", err)
			}
			if err := s.Remove(spec.Path); err != nil {
				t.Error(err)
			}
		})
	}
	_ = os.Remove(dir + "/out")
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	for field, spec := range map[string]DiskSpec{
		"size": {Format: "qcow2", SizeBytes: mib}, "format": {Format: "vdi"}, "clone": {Format: "raw", Clone: "linked"},
		"preallocation": {Format: "qcow2", Clone: "linked", Preallocation: "full"}, "cluster_size": {Format: "qcow2", ClusterBytes: 1000},
	} {
		spec.Path = dir + "/bad"
		if err := s.MakeDisk(t.Context(), base, spec); !problem.Is(err, problem.Invalid) || problem.From(err).Field != field {
			t.Errorf("%s: %v", field, err)
		}
	}
}

// TestLinkedClone: it keeps its base in use, moves with its directory, and a header that leads
// elsewhere is refused.
func TestLinkedClone(t *testing.T) {
	img(t, "--version")
	b := disk(1)
	s := newStore(t, func(c *Config) { c.MaxBytes = 1 })
	base, release, err := s.Ensure(t.Context(), here(t, b), nil)
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "task")
	_ = os.Mkdir(dir, 0o700)
	spec := DiskSpec{Path: dir + "/root.qcow2", Format: "qcow2", Clone: "linked"}
	if err := s.MakeDisk(t.Context(), base, spec); err != nil {
		t.Fatal(err)
	}
	release()
	if freed, err := s.Tidy(t.Context()); freed != 0 || err != nil {
		t.Errorf("a base in use went: %d, %v", freed, err)
	}
	moved := dir + "-moved"
	if err := os.Rename(dir, moved); err != nil {
		t.Fatal(err)
	}
	spec.Path = moved + "/root.qcow2"
	img(t, "compare", "-f", "raw", "-F", "qcow2", base.Path, spec.Path)
	if err := s.MakeDisk(t.Context(), base, spec); err != nil {
		t.Error(err)
	}
	secret := filepath.Join(t.TempDir(), "secret")
	_ = os.WriteFile(secret, b, 0o600)
	img(t, "rebase", "-u", "-b", secret, "-F", "raw", spec.Path)
	if err := s.MakeDisk(t.Context(), base, spec); !problem.Is(err, problem.Denied) {
		t.Errorf("a disk that leads elsewhere: %v", err)
	}
	_ = os.Remove(spec.Path)
	_ = os.Symlink(secret, spec.Path)
	if err := s.MakeDisk(t.Context(), base, spec); err == nil {
		t.Error("a link in a disk's place was taken")
	}
	if err := os.RemoveAll(moved); err != nil {
		t.Fatal(err)
	}
	if freed, err := s.Tidy(t.Context()); freed == 0 || err != nil {
		t.Errorf("a base that nobody uses stays: %d, %v", freed, err)
	}
}

// TestLimits: a qemu-img that wants more than it may, and one that is not wanted any more.
func TestLimits(t *testing.T) {
	img(t, "--version")
	path := filepath.Join(t.TempDir(), "x")
	l := limits{memoryMiB: 2048, cpuSeconds: 60, fileBytes: mib}
	if err := qemuImg(t.Context(), l, "create", "-q", "-f", "raw", "-o", "preallocation=full", path, "8M"); err == nil {
		t.Error("it wrote more than it may")
	}
	l = limits{memoryMiB: 1, cpuSeconds: 60, fileBytes: mib}
	if err := qemuImg(t.Context(), l, "--version"); err == nil {
		t.Error("it took more memory than it may")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := qemuImg(ctx, limits{2048, 60, 64 * mib}, "create", "-q", "-f", "raw", path+"2", "1M"); err == nil {
		t.Error("it ran")
	}
	s := newStore(t, nil)
	if v, err := s.Probe(t.Context()); err != nil || !strings.Contains(v, ".") {
		t.Errorf("%q, %v", v, err)
	}
}

// artifact is what "oras push" makes of a file.
func artifact(t *testing.T, blobs ...[]byte) v1.Image {
	t.Helper()
	image := mutate.MediaType(empty.Image, types.OCIManifestSchema1)
	for _, b := range blobs {
		var err error
		if image, err = mutate.AppendLayers(image, static.NewLayer(b, "application/vnd.example.disk")); err != nil {
			t.Fatal(err)
		}
	}
	return image
}

func TestOCI(t *testing.T) {
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	defer server.Close()
	registryTest(t, strings.TrimPrefix(server.URL, "http://"))
	t.Run("nobody there", func(t *testing.T) {
		server.Close()
		s := newStore(t, nil)
		if _, _, err := s.Ensure(t.Context(), Source{Ref: "oci://" + strings.TrimPrefix(server.URL, "http://") + "/x:1"}, nil); !problem.Is(err, problem.Unavailable) {
			t.Error(err)
		}
	})
}

// TestDebianRegistry is TestOCI with another registry.
func TestDebianRegistry(t *testing.T) {
	tool, err := exec.LookPath("docker-registry")
	if err != nil {
		t.Skip("docker-registry is not installed (Debian: docker-registry)")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	host := l.Addr().String()
	_ = l.Close()
	dir := t.TempDir()
	config := "version: 0.1\nlog: {level: error}\nstorage: {filesystem: {rootdirectory: " + dir + "/data}}\nhttp: {addr: \"" + host + "\"}\n"
	if err := os.WriteFile(dir+"/config.yml", []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	c := exec.CommandContext(t.Context(), tool, "serve", dir+"/config.yml")
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Process.Kill(); _ = c.Wait() }()
	for {
		if answer, err := http.Get("http://" + host + "/v2/"); err == nil {
			_ = answer.Body.Close()
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	registryTest(t, host)
}

func registryTest(t *testing.T, host string) {
	b := disk(1)
	push := func(tag string, image v1.Image) string {
		t.Helper()
		ref, err := name.ParseReference(host + "/disks/debian:" + tag)
		if err == nil {
			err = remote.Write(ref, image)
		}
		if err != nil {
			t.Fatal(err)
		}
		return "oci://" + ref.String()
	}
	s := newStore(t, nil)
	good := push("12", artifact(t, b))
	base := ensure(t, s, Source{Ref: good, Checksum: sum256(b)})
	holds(t, base, b)
	if got := ensure(t, s, Source{Ref: good}); got.Path != base.Path {
		t.Errorf("%+v", got)
	}
	push("12", artifact(t, disk(2)))
	if got := ensure(t, s, Source{Ref: good}); got.Digest != sum256(disk(2)) {
		t.Errorf("the tag has moved on: %+v", got)
	}
	for ref, kind := range map[string]problem.Kind{
		push("two", artifact(t, b, disk(2))): problem.Invalid, "oci://" + host + "/disks/debian:none": problem.NotFound, "oci://a b": problem.Invalid,
	} {
		if _, _, err := s.Ensure(t.Context(), Source{Ref: ref}, nil); !problem.Is(err, kind) {
			t.Errorf("%s: %v", ref, err)
		}
	}
}

func TestSignature(t *testing.T) {
	tool, err := exec.LookPath("minisign")
	if err != nil {
		t.Skip("minisign is not installed (Debian: minisign)")
	}
	dir := t.TempDir()
	run := func(args ...string) {
		t.Helper()
		if out, err := exec.Command(tool, args...).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	read := func(name string) string {
		b, err := os.ReadFile(dir + "/" + name)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	for _, k := range []string{"one", "two"} {
		run("-G", "-W", "-p", dir+"/"+k+".pub", "-s", dir+"/"+k+".key")
	}
	_ = os.WriteFile(dir+"/image", disk(1), 0o600)
	run("-S", "-s", dir+"/one.key", "-m", dir+"/image", "-t", "of a test")
	run("-S", "-s", dir+"/two.key", "-m", dir+"/image", "-x", dir+"/by-two")
	run("-S", "-l", "-s", dir+"/one.key", "-m", dir+"/image", "-x", dir+"/legacy")
	good := read("image.minisig")
	s := newStore(t, func(c *Config) { c.Keys = []string{read("one.pub")} })
	src := Source{Ref: "./image", Dir: dir}
	for says, signature := range map[string]string{
		"signed images only": "", "does not trust": "./by-two", "whole image in memory": "./legacy", "not of minisign": "x\ny",
		"does not match the image": strings.Replace(good, "of a test", "of a fest", 1),
	} {
		src.Signature = signature
		// The checksum alone does not let it in.
		src.Checksum = sum256(disk(1))
		if _, _, err := s.Ensure(t.Context(), src, nil); !problem.Is(err, problem.Denied) || !strings.Contains(err.Error(), says) {
			t.Errorf("%q: %v", says, err)
		}
	}
	if left := files(t, s); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	for _, signature := range []string{"./image.minisig", good} {
		src.Signature = signature
		holds(t, ensure(t, s, src), disk(1))
	}
	_ = os.WriteFile(dir+"/image", disk(2), 0o600)
	src.Checksum = ""
	if _, _, err := s.Ensure(t.Context(), src, nil); !problem.Is(err, problem.Denied) {
		t.Errorf("another image by the same signature: %v", err)
	}
	if _, err := New(Config{Dir: dir, Keys: []string{"x"}}); !problem.Is(err, problem.Invalid) {
		t.Error(err)
	}
}
