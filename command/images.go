package command

import (
	"context"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

func (a *app) imageCommands() *cobra.Command {
	return a.group("image", "Look after the images of virtual machines that the cluster keeps",
		"A job names an image (image = \"debian-12\"), and every host that runs it fetches it from the servers. All instances of a version of a job run by the same bytes: those that the name meant when the job was submitted.",
		a.imageImport(), a.imageList(), a.imageInspect(), a.imageDelete())
}

func (a *app) imageImport() *cobra.Command {
	var o output
	var checksum string
	image := &berthv1.Image{}
	cmd := a.leaf("import NAME FILE", "Take an image in",
		"FILE is a disk image (qcow2, raw, VMDK, VDI, VHDX, ISO or OVA; what it is, its content tells) or, with -format file, a kernel or initrd. \"-\" reads standard input. "+
			"Images that have a backing file, or are cut off, are refused. A name may be imported again: jobs that were submitted before keep theirs.", nil)
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		if len(args) != 2 {
			return usageError(cmd, "%s is missing", []string{"NAME", "FILE", "nothing else"}[min(len(args), 2)])
		}
		return nil
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := a.api()
		if err != nil {
			return err
		}
		from, size, err := a.openImage(args[1])
		if err != nil {
			return err
		}
		defer from.Close()
		image.Name = args[0]
		if !o.forPrograms() {
			from = &meter{ReadCloser: from, progress: a.newProgress(), size: size}
		}
		got, err := c.ImportImage(cmd.Context(), image, checksum, from)
		if err != nil {
			return err
		}
		return a.show(&o, got, func() error {
			a.printf("%s@%s\n", got.GetName(), got.GetDigest())
			a.printf("%s\n", strings.Join(aboutImage(got), ", "))
			return nil
		})
	}
	cmd.Flags().StringVar(&checksum, "checksum", "", "`sha256:...` or sha512:... of the file")
	cmd.Flags().StringVar(&image.Arch, "arch", "", "`amd64 or arm64`; default: what its partitions say, else amd64")
	cmd.Flags().StringVar(&image.Os, "os", "", "operating system in it, such as `linux`; default: what it says itself")
	cmd.Flags().StringVar(&image.Format, "format", "auto", "`format` that it is to have; file: no disk")
	cmd.Flags().StringVar(&image.Description, "description", "", "`words` for people")
	cmd.ValidArgsFunction = completeAnyFile
	o.register(cmd)
	return cmd
}

// meter shows how much of a file is read, in MiB.
type meter struct {
	io.ReadCloser
	progress *progress
	size     int64 // 0: not known
	done     int64
}

func (m *meter) Read(p []byte) (int, error) {
	n, err := m.ReadCloser.Read(p)
	m.done += int64(n)
	if err == nil {
		m.progress.update([]stage{{label: "sent", done: int(m.done >> 20), of: int(max(m.size, m.done) >> 20), detail: "MiB"}})
	}
	return n, err
}

// openImage opens a file, or standard input; size is 0 where it is not known.
func (a *app) openImage(path string) (from io.ReadCloser, size int64, err error) {
	if path == "-" {
		return io.NopCloser(a.In), 0, nil
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, 0, problem.New(problem.Invalid, path, "the image cannot be read: %w", unpath(err))
	}
	info, err := f.Stat()
	if err != nil || info.IsDir() {
		_ = f.Close()
		return nil, 0, problem.New(problem.Invalid, path, "it is no file")
	}
	return f, info.Size(), nil
}

// aboutImage is what an image is, in words.
func aboutImage(i *berthv1.Image) []string {
	words := []string{i.GetFormat(), bytesIn(i.GetSize()) + " to fetch"}
	if i.GetFormat() != "file" {
		words = append(words, "a disk of "+bytesIn(i.GetVirtualSize()))
	}
	for _, w := range []string{i.GetArch(), i.GetOs(), i.GetFirmware()} {
		if w != "" {
			words = append(words, w)
		}
	}
	return words
}

func (a *app) imageList() *cobra.Command {
	var o output
	var prefix string
	cmd := a.leaf("list", "List images", "", func(ctx context.Context, _ []string) error {
		c, err := a.api()
		if err != nil {
			return err
		}
		list, err := collect(func(token string) ([]*berthv1.Image, string, error) {
			r, err := c.Images.ListImages(ctx, &berthv1.ListImagesRequest{PageToken: token, Prefix: prefix})
			return r.GetImages(), r.GetNextPageToken(), err
		})
		if err != nil {
			return err
		}
		return showList(a, &o, list, func() error {
			t := newTable(column{title: "IMAGE", shrink: 12}, column{title: "DIGEST"}, column{title: "FORMAT", drop: 3}, column{title: "DISK", drop: 2},
				column{title: "ARCH"}, column{title: "OS", drop: 4}, column{title: "IMPORTED", drop: 1})
			for _, i := range list {
				name := i.GetName()
				if !i.GetNewest() {
					name += " (older)"
				}
				t.add(name, shortDigest(i.GetDigest()), i.GetFormat(), bytesIn(i.GetVirtualSize()), i.GetArch(), i.GetOs(), ago(i.GetImportTime(), time.Now()))
			}
			return a.table(t)
		})
	})
	cmd.Flags().StringVar(&prefix, "prefix", "", "only names that begin with `words`")
	o.register(cmd)
	return cmd
}

// shortDigest is enough of a digest to tell it from others.
func shortDigest(digest string) string {
	return digest[:min(len(digest), len("sha256:")+12)]
}

func (a *app) imageInspect() *cobra.Command {
	var o output
	cmd := a.leaf("inspect NAME", "Show an image, and which jobs run by it", `NAME is "debian-12", or "debian-12@sha256:..." for one that is not the newest of its name.`,
		func(ctx context.Context, args []string) error {
			c, err := a.api()
			if err != nil {
				return err
			}
			i, err := c.Images.GetImage(ctx, &berthv1.GetImageRequest{Name: args[0]})
			if err != nil {
				return err
			}
			return a.show(&o, i, func() error {
				a.printf("%s@%s\n", a.paint(strong, i.GetName()), i.GetDigest())
				a.printf("%s\nimported %s\n", strings.Join(aboutImage(i), ", "), ago(i.GetImportTime(), time.Now()))
				if i.GetDescription() != "" {
					a.printf("%s\n", oneLine(i.GetDescription()))
				}
				for _, job := range i.GetJobs() {
					a.printf("job %s\n", job)
				}
				return nil
			})
		})
	o.register(cmd)
	return cmd
}

func (a *app) imageDelete() *cobra.Command {
	var force bool
	cmd := a.leaf("delete NAME", "Forget an image", `"debian-12" forgets all of that name, "debian-12@sha256:..." one. What jobs name stays, unless -force: machines that run go on.`,
		func(ctx context.Context, args []string) error {
			c, err := a.api()
			if err != nil {
				return err
			}
			r, err := c.Images.DeleteImage(ctx, &berthv1.DeleteImageRequest{Name: args[0], Force: force})
			if err != nil {
				return err
			}
			name, _, _ := strings.Cut(args[0], "@")
			for _, digest := range r.GetDigests() {
				a.printf("Image %s@%s is forgotten.\n", name, shortDigest(digest))
			}
			return nil
		})
	cmd.Flags().BoolVar(&force, "force", false, "even if jobs name it: their next instances will not start")
	return cmd
}
