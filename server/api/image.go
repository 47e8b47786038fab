package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/berthd/berth/diskimage"
	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/server/images"
	"github.com/berthd/berth/server/state"
)

// retained is how many images of a name are kept when another one is imported, beside
// those that jobs name.
const retained = 3

// imageService is about the images that the cluster keeps.
type imageService struct {
	berthv1.UnimplementedImageServiceServer
	a *API
}

var imageName = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,126}$`)

// ImportImage runs on the leader. What it takes in is checked before anybody hears of it,
// and on its disk before it is in the state; the other servers copy it then.
func (s imageService) ImportImage(stream grpc.ClientStreamingServer[berthv1.ImportImageRequest, berthv1.Image]) error {
	if s.a.images == nil {
		return problem.New(problem.Unsupported, "", "this server keeps no images")
	}
	first, err := stream.Recv()
	if errors.Is(err, io.EOF) {
		err = problem.New(problem.Invalid, "image", "nothing was sent")
	}
	if err != nil {
		return err
	}
	image := proto.CloneOf(first.GetImage())
	if err := checkImage(image); err != nil {
		return err
	}
	in, err := s.a.images.Begin()
	if err != nil {
		return err
	}
	defer in.Abort()
	for chunk := first; ; {
		if _, err := in.Write(chunk.GetData()); err != nil {
			return err
		}
		if chunk, err = stream.Recv(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return err
		}
	}
	if err := in.Check(first.GetChecksum()); err != nil {
		return err
	}
	if err := describe(image, in); err != nil {
		return err
	}
	if err := in.Commit(); err != nil {
		return err
	}
	_, err = s.a.propose(stream.Context(), func(e *berthv1.LogEntry) {
		e.Fact = &berthv1.LogEntry_ImageRegistered{ImageRegistered: &berthv1.ImageRegistered{Image: image}}
	})
	if err != nil {
		return err
	}
	if err := s.retire(stream.Context(), image.GetName()); err != nil {
		return err
	}
	stored, err := findImage(s.a.store.View(), image.GetName()+"@"+image.GetDigest())
	if err != nil {
		return err
	}
	return stream.SendAndClose(stored)
}

func checkImage(i *berthv1.Image) error {
	formats := []string{"", "auto", "qcow2", "raw", "vmdk", "vdi", "vhdx", "iso", "ova", "file"}
	switch {
	case !imageName.MatchString(i.GetName()):
		return problem.New(problem.Invalid, "image.name", "%.140q is not a name for an image", i.GetName()).
			WithRemedy(`use small letters, digits, ".", "-" and "_", at most 127, such as "debian-12"`)
	case !slices.Contains([]string{"", "amd64", "arm64"}, i.GetArch()):
		return problem.New(problem.Invalid, "image.arch", "%q is neither amd64 nor arm64", i.GetArch())
	case !slices.Contains(formats, i.GetFormat()):
		return problem.New(problem.Invalid, "image.format", "%q is no format of an image", i.GetFormat()).WithRemedy("use %s", orList(formats[1:]))
	case len(i.GetDescription()) > 1024 || len(i.GetOs()) > 64 || len(i.GetFirmware()) > 16:
		return problem.New(problem.Invalid, "image.description", "is too long")
	}
	return nil
}

// describe fills in what the bytes say, and refuses what contradicts them.
func describe(image *berthv1.Image, in *images.Incoming) error {
	info, err := diskimage.Inspect(in, in.Size(), diskimage.Format(image.GetFormat()))
	if err != nil {
		return err
	}
	if info.Disk != nil {
		if err := info.Disk.Verify(); err != nil {
			return err
		}
	}
	image.Format, image.Digest = string(info.Format), in.Digest()
	image.Size, image.VirtualSize = uint64(in.Size()), uint64(info.VirtualSize)
	if h := info.Hints.Arch; h != "" && image.GetArch() != "" && h != image.GetArch() {
		return problem.New(problem.Invalid, "image.arch", "it is to be of %s, and its partitions are of %s", image.GetArch(), h)
	}
	for field, hint := range map[*string]string{&image.Arch: info.Hints.Arch, &image.Os: info.Hints.OS, &image.Firmware: info.Hints.Firmware} {
		if *field == "" {
			*field = hint
		}
	}
	if image.GetArch() == "" {
		image.Arch = "amd64"
	}
	return nil
}

// retire forgets the oldest images of a name, but for those that jobs name.
func (s imageService) retire(ctx context.Context, name string) error {
	view := s.a.store.View()
	kept := 0
	var old []string
	for i := range view.ImagesNamed(name) {
		if kept++; kept > retained && len(jobsOf(view, i)) == 0 {
			old = append(old, i.GetDigest())
		}
	}
	if len(old) == 0 {
		return nil
	}
	return s.forget(ctx, name, old)
}

func (s imageService) forget(ctx context.Context, name string, digests []string) error {
	_, err := s.a.propose(ctx, func(e *berthv1.LogEntry) {
		e.Fact = &berthv1.LogEntry_ImageDeleted{ImageDeleted: &berthv1.ImageDeleted{Name: name, Digests: digests}}
	})
	return err
}

func (s imageService) ListImages(ctx context.Context, q *berthv1.ListImagesRequest) (*berthv1.ListImagesResponse, error) {
	p, err := newPager(q, &berthv1.Image{})
	if err != nil {
		return nil, err
	}
	return read(ctx, s.a, q, []state.Topic{{Table: state.TableImages}}, func(view *state.View) (*berthv1.ListImagesResponse, error) {
		page, next, err := p.page(ctx, pageOfImages(view, p), imageKey)
		return &berthv1.ListImagesResponse{Images: page, NextPageToken: next}, err
	})
}

// imageKey is the place of an image in lists.
func imageKey(i *berthv1.Image) string {
	return fmt.Sprintf("%s@%d", i.GetName(), i.GetModifyRevision())
}

// pageOfImages is the images to look at for a page, each marked whether it is the newest.
func pageOfImages(view *state.View, p *pager[*berthv1.Image]) iter.Seq[*berthv1.Image] {
	name, revision, _ := strings.Cut(p.from, "@")
	from, _ := strconv.ParseUint(revision, 10, 64)
	return func(yield func(*berthv1.Image) bool) {
		for i := range within(view.Images(max(name, p.prefix)), p.prefix, (*berthv1.Image).GetName, true) {
			if i.GetName() == name && i.GetModifyRevision() > from {
				continue // on the page before
			}
			c := proto.CloneOf(i)
			c.Newest = view.Image(i.GetName()) == i
			if !yield(c) {
				return
			}
		}
	}
}

func (s imageService) GetImage(ctx context.Context, q *berthv1.GetImageRequest) (*berthv1.Image, error) {
	return read(ctx, s.a, q, []state.Topic{{Table: state.TableImages}}, func(view *state.View) (*berthv1.Image, error) {
		i, err := findImage(view, q.GetName())
		if err != nil {
			return nil, err
		}
		i.Jobs = jobsOf(view, i)
		return i, nil
	})
}

// findImage gives a copy of an image that answers may add to.
func findImage(view *state.View, ref string) (*berthv1.Image, error) {
	i := view.Image(ref)
	if i == nil {
		return nil, problem.New(problem.NotFound, "image", "the cluster keeps no image %q", ref).
			WithRemedy("berth image list shows them; berth image import takes one in")
	}
	c := proto.CloneOf(i)
	c.Newest = view.Image(i.GetName()) == i
	return c, nil
}

func (s imageService) DeleteImage(ctx context.Context, q *berthv1.DeleteImageRequest) (*berthv1.DeleteImageResponse, error) {
	view := s.a.store.View()
	name, digest, pinned := strings.Cut(q.GetName(), "@")
	if _, err := findImage(view, q.GetName()); err != nil {
		return nil, err
	}
	resp := &berthv1.DeleteImageResponse{}
	for i := range view.ImagesNamed(name) {
		if pinned && i.GetDigest() != digest {
			continue
		}
		if jobs := jobsOf(view, i); len(jobs) > 0 && !q.GetForce() {
			return nil, problem.New(problem.Conflict, "name", "%s is the image %s@%s", orList(jobs), name, i.GetDigest()).
				WithRemedy("stop what runs by it, or use -force: its next instances will not start")
		}
		resp.Digests = append(resp.Digests, i.GetDigest())
	}
	return resp, s.forget(ctx, name, resp.GetDigests())
}
