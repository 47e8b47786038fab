package qemu

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berthd/berth/drivers"
	"github.com/berthd/berth/drivers/config"
	"github.com/berthd/berth/drivers/qemu/image"
	"github.com/berthd/berth/drivers/qemu/machine"
	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// prepared is what Prepare made, in the order of the config.
type prepared struct {
	Disks  []preparedDisk `json:"disks,omitempty"`
	Cdroms []string       `json:"cdroms,omitempty"` // paths; "": no medium
	// Kernel, Initrd and Seed are paths; "": none.
	Kernel   string           `json:"kernel,omitempty"`
	Initrd   string           `json:"initrd,omitempty"`
	Seed     string           `json:"seed,omitempty"`
	Firmware machine.Firmware `json:"firmware"`
}

type preparedDisk struct {
	Path     string          `json:"path"`
	Format   string          `json:"format"`
	Base     []machine.Layer `json:"base,omitempty"`
	Buffered bool            `json:"buffered,omitempty"`
}

// disksOf are the disks of a config; the image's, "root", comes first.
func disksOf(c *berthv1.QemuConfig) ([]*berthv1.QemuDisk, error) {
	disks := slices.Clone(c.GetDisks())
	root := slices.IndexFunc(disks, func(d *berthv1.QemuDisk) bool { return d.GetName() == "root" })
	if root < 0 && c.GetImage() == "" {
		return disks, nil
	}
	r := &berthv1.QemuDisk{}
	if root >= 0 {
		r = disks[root]
		disks = slices.Delete(disks, root, root+1)
	} else if err := config.Decode(nil, r); err != nil && !problem.Is(err, problem.Invalid) {
		return nil, err // Invalid: it has no name yet
	}
	r.Name = "root"
	r.Bus, r.Format, r.Cache = cmp.Or(r.GetBus(), "virtio"), cmp.Or(r.GetFormat(), "qcow2"), cmp.Or(r.GetCache(), "none")
	r.Preallocation = cmp.Or(r.GetPreallocation(), "off")
	if r.GetImage() == "" {
		r.Image, r.Checksum = c.GetImage(), cmp.Or(r.GetChecksum(), c.GetChecksum())
		r.Signature = cmp.Or(r.GetSignature(), c.GetSignature())
	}
	return append([]*berthv1.QemuDisk{r}, disks...), nil
}

// place is where a machine's own files lie: on the group's sticky disk if it has one,
// else in the task's directory.
func place(t *drivers.Task) string {
	if data := filepath.Join(t.Dirs.Shared, "data"); exists(data) {
		return filepath.Join(data, t.Name+"-machine")
	}
	return filepath.Join(t.Dirs.Task, "machine")
}

// preparer makes one machine's files.
type preparer struct {
	d        *Driver
	t        *drivers.Task
	c        *berthv1.QemuConfig
	store    *image.Store
	dir      string
	progress func(string)
	p        prepared
}

// Prepare implements drivers.Driver: it fetches images and makes disks, the medium for
// cloud-init, and UEFI's variables. What is there already stays as it is.
func (d *Driver) Prepare(ctx context.Context, t *drivers.Task, progress func(string)) error {
	_, err := d.prepare(ctx, t, progress)
	return err
}

func (d *Driver) prepare(ctx context.Context, t *drivers.Task, progress func(string)) (*prepared, error) {
	c, err := decode(t)
	if err != nil {
		return nil, err
	}
	if progress == nil {
		progress = func(string) {}
	}
	m := &preparer{d: d, t: t, c: c, dir: place(t), progress: progress}
	if err := m.check(ctx); err != nil {
		return nil, err
	}
	if m.store, err = d.store(); err != nil {
		return nil, unavailable("opening the store of images", err)
	}
	if err := os.MkdirAll(m.dir, 0o711); err != nil {
		return nil, unavailable("making the machine's directory", err)
	}
	for _, step := range []func(context.Context) error{m.disks, m.cdroms, m.kernel, m.seed, m.firmware} {
		if err := step(ctx); err != nil {
			return nil, err
		}
	}
	return &m.p, stateDir(t.Dirs.State).write(preparedFile, &m.p)
}

// check builds the machine as it will be: what cannot be is refused before anything is fetched.
func (m *preparer) check(ctx context.Context) error {
	disks, err := disksOf(m.c)
	if err != nil {
		return err
	}
	p := prepared{Firmware: machine.Firmware{Code: "code", Vars: "vars", Format: "raw"}}
	for _, d := range disks {
		p.Disks = append(p.Disks, preparedDisk{Path: "disk", Format: d.GetFormat()})
	}
	for range m.c.GetCdroms() {
		p.Cdroms = append(p.Cdroms, "cdrom")
	}
	if m.c.GetKernel() != "" {
		p.Kernel = "kernel"
	}
	if m.c.GetInitrd() != "" {
		p.Initrd = "initrd"
	}
	if m.c.GetCloudInit() != nil {
		p.Seed = "seed"
	}
	in, err := m.d.input(ctx, m.t, m.c, &p)
	if err != nil {
		return err
	}
	_, err = machine.Build(*in)
	return err
}

func (m *preparer) ensure(ctx context.Context, field string, src image.Source) (*image.Base, func(), error) {
	src.Dir = m.t.Dirs.Task
	base, release, err := m.store.Ensure(ctx, src, m.progress)
	if err != nil && ctx.Err() == nil {
		if p := problem.From(err); p.Field == "" || !strings.HasPrefix(p.Field, "config.") {
			// Problems of the store name no field, or one of the source's.
			named := *p
			named.Field = "config." + field
			return nil, nil, &named
		}
	}
	return base, release, err
}

func (m *preparer) disks(ctx context.Context) error {
	disks, err := disksOf(m.c)
	if err != nil {
		return err
	}
	for i, d := range disks {
		if err := m.disk(ctx, d, i); err != nil {
			return err
		}
	}
	return nil
}

func (m *preparer) disk(ctx context.Context, d *berthv1.QemuDisk, i int) error {
	made := preparedDisk{Path: filepath.Join(m.dir, d.GetName()+"."+d.GetFormat()), Format: d.GetFormat(), Buffered: !direct(m.dir)}
	spec := image.DiskSpec{
		Path: made.Path, SizeBytes: int64(d.GetSizeMib()) << 20, Format: d.GetFormat(),
		ClusterBytes: int64(d.GetClusterKib()) << 10, Preallocation: d.GetPreallocation(),
	}
	var base *image.Base
	if d.GetImage() != "" {
		field, format := fmt.Sprintf("disk[%d].image", i), "auto"
		if d.GetName() == "root" {
			field, format = "image", cmp.Or(m.c.GetImageFormat(), "auto")
		}
		b, release, err := m.ensure(ctx, field, image.Source{Ref: d.GetImage(), Checksum: d.GetChecksum(), Signature: d.GetSignature(), Format: format})
		if err != nil {
			return err
		}
		defer release()
		base = b
		spec.Clone = d.GetClone()
		if spec.Clone == "" {
			spec.Clone = "linked"
			if d.GetFormat() == "raw" {
				spec.Clone = "full"
			}
		}
		if spec.Clone == "linked" {
			made.Base = []machine.Layer{{Path: made.Path + ".base", Format: base.Format}}
		}
	}
	m.progress("making the disk " + d.GetName())
	if err := m.store.MakeDisk(ctx, base, spec); err != nil {
		return err
	}
	m.p.Disks = append(m.p.Disks, made)
	return nil
}

// link makes an image readable in the machine's directory; "" of no image.
func (m *preparer) link(ctx context.Context, field string, src image.Source, file string) (string, error) {
	if src.Ref == "" {
		return "", nil
	}
	base, release, err := m.ensure(ctx, field, src)
	if err != nil {
		return "", err
	}
	defer release()
	path := filepath.Join(m.dir, file)
	return path, m.store.Link(ctx, base, path)
}

func (m *preparer) cdroms(ctx context.Context) error {
	for i, c := range m.c.GetCdroms() {
		src := image.Source{Ref: c.GetImage(), Checksum: c.GetChecksum(), Signature: c.GetSignature(), Format: "iso"}
		path, err := m.link(ctx, fmt.Sprintf("cdrom[%d].image", i), src, c.GetName()+".iso")
		if err != nil {
			return err
		}
		m.p.Cdroms = append(m.p.Cdroms, path)
	}
	return nil
}

func (m *preparer) kernel(ctx context.Context) (err error) {
	if m.p.Kernel, err = m.link(ctx, "kernel", image.Source{Ref: m.c.GetKernel(), Format: "file"}, "kernel"); err != nil {
		return err
	}
	m.p.Initrd, err = m.link(ctx, "initrd", image.Source{Ref: m.c.GetInitrd(), Format: "file"}, "initrd")
	return err
}

// firmware gives the machine variables of its own, once.
func (m *preparer) firmware(ctx context.Context) error {
	host := m.d.host.get(ctx)
	choice, err := machine.Choose(m.c, host, m.c.GetKernel() != "")
	if err != nil || !choice.UEFI() {
		return err
	}
	m.p.Firmware = host.Guests[choice.Arch].Firmware[choice.Firmware]
	vars := filepath.Join(m.dir, "firmware-vars")
	if !exists(vars) {
		if err := copyFile(m.p.Firmware.Vars, vars); err != nil {
			return unavailable("copying the firmware's variables", err)
		}
	}
	m.p.Firmware.Vars = vars
	return nil
}

// copyFile makes a copy that is whole or not there.
func copyFile(from, to string) error {
	b, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	part := to + partSuffix
	return errors.Join(os.WriteFile(part, b, 0o600), os.Rename(part, to))
}

// direct says whether a directory's file system takes direct I/O.
func direct(dir string) bool {
	path := filepath.Join(dir, fmt.Sprintf(".direct-%d", time.Now().UnixNano()))
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL|unix.O_DIRECT|unix.O_CLOEXEC, 0o600)
	defer os.Remove(path)
	if err != nil {
		return !errors.Is(err, unix.EINVAL)
	}
	unix.Close(fd)
	return true
}
