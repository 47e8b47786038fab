package server

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/server/consensus"
)

// rawDisk is a disk with a boot sector and a partition.
func rawDisk(seed byte) []byte {
	b := make([]byte, 1<<20)
	b[0], b[1], b[510], b[511], b[446+4] = 0xeb, seed, 0x55, 0xaa, 0x83
	binary.LittleEndian.PutUint32(b[446+8:], 64)
	binary.LittleEndian.PutUint32(b[446+12:], 64)
	return b
}

func digestOf(b []byte) string { return fmt.Sprintf("sha256:%x", sha256.Sum256(b)) }

// imports sends an image in pieces.
func imports(ctx context.Context, conn grpc.ClientConnInterface, image *berthv1.Image, checksum string, b []byte) (*berthv1.Image, error) {
	stream, err := berthv1.NewImageServiceClient(conn).ImportImage(ctx)
	if err != nil {
		return nil, problem.From(err)
	}
	part := &berthv1.ImportImageRequest{Image: image, Checksum: checksum}
	for piece := range slices.Chunk(b, 100<<10) {
		part.Data = piece
		if err := stream.Send(part); err != nil {
			break
		}
		part = &berthv1.ImportImageRequest{}
	}
	got, err := stream.CloseAndRecv()
	if err != nil {
		return nil, problem.From(err)
	}
	return got, nil
}

// fetched is what an agent gets from a server.
func fetched(ctx context.Context, conn grpc.ClientConnInterface, digest string, offset int64) ([]byte, error) {
	stream, err := berthv1.NewAgentServiceClient(conn).FetchImage(ctx, &berthv1.FetchImageRequest{Digest: digest, Offset: offset})
	if err != nil {
		return nil, problem.From(err)
	}
	var b []byte
	for {
		chunk, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return b, nil
		}
		if err != nil {
			return b, problem.From(err)
		}
		if chunk.GetOffset() != offset+int64(len(b)) {
			return nil, fmt.Errorf("a chunk at %d after %d bytes", chunk.GetOffset(), len(b))
		}
		b = append(b, chunk.GetData()...)
	}
}

// images are three servers on loopback, with stores on disk.
type imageCluster struct {
	servers []*Server
	conns   []*grpc.ClientConn
	dirs    []string
}

func startThree(t *testing.T) *imageCluster {
	ctx, cancel := context.WithCancel(context.Background())
	c := &imageCluster{}
	var ended []chan error
	gossip := ""
	for i := range 3 {
		g := listen(t)
		address := g.Addr().String()
		_ = g.Close()
		if gossip == "" {
			gossip = address
		}
		cfg := Config{GRPCListener: listen(t), HTTPListener: listen(t)}
		cfg.Consensus = consensus.Config{
			Name: fmt.Sprint("s", i), Cluster: "test", DataDir: t.TempDir(), Listener: listen(t), GossipBind: address,
			GRPCAddress: cfg.GRPCListener.Addr().String(), BootstrapExpect: 3, Join: []string{gossip},
		}
		s, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		go func() { done <- s.Run(ctx) }()
		conn, err := grpc.NewClient("passthrough:///"+cfg.Consensus.GRPCAddress, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			t.Fatal(err)
		}
		c.servers, c.conns, c.dirs, ended = append(c.servers, s), append(c.conns, conn), append(c.dirs, cfg.Consensus.DataDir), append(ended, done)
	}
	t.Cleanup(func() {
		cancel()
		for i, done := range ended {
			if err := <-done; err != nil {
				t.Errorf("server %d ended: %v", i, err)
			}
			_ = c.conns[i].Close()
		}
	})
	return c
}

// until waits for something that is to become so.
func until(t *testing.T, what string, so func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !so(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}

func vm(name, image string) *berthv1.Job {
	config, _ := structpb.NewStruct(map[string]any{
		"image": image, "disk": []any{map[string]any{"name": "data", "image": "https://example.org/x"}, map[string]any{"name": "more", "image": image}},
	})
	return &berthv1.Job{Name: name, Groups: []*berthv1.Group{{Name: "g", Tasks: []*berthv1.Task{{Name: "t", Driver: "qemu", Config: config}}}}}
}

func TestImagesOfTheCluster(t *testing.T) {
	c := startThree(t)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	one, two := rawDisk(1), rawDisk(2)

	if _, err := berthv1.NewNamespaceServiceClient(c.conns[2]).SetNamespace(ctx, &berthv1.SetNamespaceRequest{Namespace: &berthv1.Namespace{Name: "a"}}); err != nil {
		t.Fatal(err) // there is a leader now
	}
	// Any server takes one in, and all come to have it.
	got, err := imports(ctx, c.conns[2], &berthv1.Image{Name: "debian"}, digestOf(one), one)
	if err != nil {
		t.Fatal(err)
	}
	if got.GetDigest() != digestOf(one) || got.GetFormat() != "raw" || got.GetArch() != "amd64" || got.GetOs() != "linux" || got.GetFirmware() != "bios" || !got.GetNewest() {
		t.Errorf("%v", got)
	}
	for i := range c.conns {
		until(t, fmt.Sprintf("server %d knows the image", i), func() bool { return c.servers[i].Store().View().Image("debian") != nil })
		b, err := fetched(ctx, c.conns[i], digestOf(one), 1000)
		if err != nil || !bytes.Equal(b, one[1000:]) {
			t.Errorf("server %d: %d bytes, %v", i, len(b), err)
		}
		file := filepath.Join(c.dirs[i], "cluster-images", "sha256", strings.TrimPrefix(digestOf(one), "sha256:"))
		until(t, file, func() bool { _, err := os.Stat(file); return err == nil })
	}
	if _, err := fetched(ctx, c.conns[0], digestOf(two), 0); !problem.Is(err, problem.NotFound) {
		t.Error(err)
	}
	resolved, err := berthv1.NewAgentServiceClient(c.conns[1]).ResolveImage(ctx, &berthv1.ResolveImageRequest{Name: "debian"})
	if err != nil || resolved.GetDigest() != digestOf(one) {
		t.Errorf("%v, %v", resolved, err)
	}

	// What is bad is refused, and nothing is left.
	for name, tc := range map[string]struct {
		image    *berthv1.Image
		checksum string
		b        []byte
	}{
		"name": {&berthv1.Image{Name: "a b"}, "", one}, "checksum": {&berthv1.Image{Name: "x"}, digestOf(two), one},
		"arch": {&berthv1.Image{Name: "x", Arch: "mips"}, "", one}, "format": {&berthv1.Image{Name: "x", Format: "qcow2"}, "", one},
		"page": {&berthv1.Image{Name: "x"}, "", []byte("<html>")}, "cut": {&berthv1.Image{Name: "x"}, "", one[:40<<10]}, "empty": {&berthv1.Image{Name: "x"}, "", nil},
	} {
		if i, err := imports(ctx, c.conns[0], tc.image, tc.checksum, tc.b); !problem.Is(err, problem.Invalid) {
			t.Errorf("%s: %v, %v", name, i, err)
		}
	}
	for _, dir := range c.dirs {
		if left, _ := filepath.Glob(filepath.Join(dir, "cluster-images", "temp", "*")); len(left) > 0 {
			t.Errorf("left: %v", left)
		}
	}
	c.jobs(ctx, t, one, two)
}

// jobs run by the image that a name meant when they were submitted.
func (c *imageCluster) jobs(ctx context.Context, t *testing.T, one, two []byte) {
	api := berthv1.NewJobServiceClient(c.conns[0])
	images := berthv1.NewImageServiceClient(c.conns[0])
	register := func(image string) (*berthv1.Job, bool, error) {
		r, err := api.RegisterJob(ctx, &berthv1.RegisterJobRequest{Job: vm("web", image)})
		if err != nil {
			return nil, false, problem.From(err)
		}
		job, err := api.GetJob(ctx, &berthv1.GetJobRequest{Job: "web"})
		return job, r.GetUnchanged(), err
	}
	if _, _, err := register("nothing"); !problem.Is(err, problem.NotFound) || !strings.Contains(err.Error(), "job.groups[g].tasks[t].config.image") {
		t.Errorf("%v", err)
	}
	job, _, err := register("debian")
	if err != nil {
		t.Fatal(err)
	}
	check := func(job *berthv1.Job, b []byte) {
		t.Helper()
		fields := job.GetGroups()[0].GetTasks()[0].GetConfig().GetFields()
		more := fields["disks"].GetListValue().GetValues()
		if fields["image"].GetStringValue() != "debian@"+digestOf(b) || more[1].GetStructValue().GetFields()["image"].GetStringValue() != "debian@"+digestOf(b) ||
			more[0].GetStructValue().GetFields()["image"].GetStringValue() != "https://example.org/x" {
			t.Errorf("%v", fields)
		}
		cs := job.GetGroups()[0].GetConstraints()
		if len(cs) != 1 || cs[0].GetAttribute() != "node.arch" || cs[0].GetValue() != "amd64" {
			t.Errorf("%v", cs)
		}
	}
	check(job, one)
	if _, unchanged, err := register("debian"); !unchanged || err != nil {
		t.Errorf("the same job is another: %v", err)
	}
	if _, err := images.DeleteImage(ctx, &berthv1.DeleteImageRequest{Name: "debian"}); !problem.Is(problem.From(err), problem.Conflict) || !strings.Contains(err.Error(), "default/web") {
		t.Errorf("deleted under a job: %v", err)
	}
	if _, err := imports(ctx, c.conns[1], &berthv1.Image{Name: "debian", Description: "newer"}, "", two); err != nil {
		t.Fatal(err)
	}
	job, err = api.GetJob(ctx, &berthv1.GetJobRequest{Job: "web"})
	if err != nil {
		t.Fatal(err)
	}
	check(job, one)
	plan, err := api.PlanJob(ctx, &berthv1.PlanJobRequest{Job: vm("web", "debian"), Diff: true})
	if err != nil || !plan.GetChanges() {
		t.Errorf("the plan does not say that the name means another image: %v", err)
	}
	if job, _, err = register("debian"); err != nil {
		t.Fatal(err)
	}
	check(job, two)
	list, err := images.ListImages(ctx, &berthv1.ListImagesRequest{PageSize: 1})
	if err != nil || len(list.GetImages()) != 1 || list.GetImages()[0].GetDigest() != digestOf(two) || !list.GetImages()[0].GetNewest() {
		t.Errorf("%v, %v", list, err)
	}
	list, err = images.ListImages(ctx, &berthv1.ListImagesRequest{PageToken: list.GetNextPageToken()})
	if err != nil || len(list.GetImages()) != 1 || list.GetImages()[0].GetDigest() != digestOf(one) || list.GetImages()[0].GetNewest() {
		t.Errorf("%v, %v", list, err)
	}
	if i, err := images.GetImage(ctx, &berthv1.GetImageRequest{Name: "debian"}); err != nil || !slices.Equal(i.GetJobs(), []string{"default/web"}) {
		t.Errorf("%v, %v", i, err)
	}
	// The one that nobody names goes; by force, the other.
	if r, err := images.DeleteImage(ctx, &berthv1.DeleteImageRequest{Name: "debian@" + digestOf(one)}); err != nil || len(r.GetDigests()) != 1 {
		t.Errorf("%v, %v", r, err)
	}
	if r, err := images.DeleteImage(ctx, &berthv1.DeleteImageRequest{Name: "debian", Force: true}); err != nil || len(r.GetDigests()) != 1 {
		t.Errorf("%v, %v", r, err)
	}
	// Only so many of a name are kept.
	for i := range byte(5) {
		if _, err := imports(ctx, c.conns[0], &berthv1.Image{Name: "many"}, "", rawDisk(10+i)); err != nil {
			t.Fatal(err)
		}
	}
	if list, err := images.ListImages(ctx, &berthv1.ListImagesRequest{Prefix: "many"}); err != nil || len(list.GetImages()) != 3 {
		t.Errorf("%d images, %v", len(list.GetImages()), err)
	}
}
