// Package diskimage says what a disk's image is, by its content alone, and refuses what is
// cut off, broken, or leads to other files. It only reads, in bounded time and memory,
// whatever the image holds: images come from anywhere. Servers check by it what is
// imported, and the qemu driver what it fetches, before any other program opens it.
package diskimage

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"math"

	"github.com/berthd/berth/problem"
)

// Format is how an image is written.
type Format string

// The formats. File is anything: a kernel.
const (
	Raw   Format = "raw"
	QCOW2 Format = "qcow2"
	VMDK  Format = "vmdk"
	VDI   Format = "vdi"
	VHDX  Format = "vhdx"
	ISO   Format = "iso"
	OVA   Format = "ova"
	File  Format = "file"
)

// Info is what is known of an image.
type Info struct {
	Format Format
	// VirtualSize is what a guest sees, in bytes; of an OVA its disk's.
	VirtualSize int64
	Hints       Hints
	// Disk is the disk in an OVA.
	Disk *Member
}

// Hints are what an image says of itself; empty: nothing.
type Hints struct {
	// Arch is "amd64" or "arm64".
	Arch string `json:"arch,omitempty"`
	// OS is "linux", "windows", or another word of an OVF's.
	OS string `json:"os,omitempty"`
	// Firmware is "uefi" where it boots by that only, "bios" where by that only.
	Firmware string `json:"firmware,omitempty"`
}

const sector = 512

// Inspect looks at the first size bytes of r. want is the format that it should have; "" and
// "auto" take what it has. A problem is Invalid, and without a field.
func Inspect(r io.ReaderAt, size int64, want Format) (*Info, error) {
	f := &file{r: r, size: size}
	if want == File {
		return &Info{Format: File, VirtualSize: size}, nil
	}
	found, err := f.detect()
	if err != nil {
		return nil, err
	}
	auto := want == "" || want == "auto"
	switch {
	case found == "" && (want == Raw || auto && f.bootable()):
		found = Raw
	case found == ISO && want == Raw:
		found = Raw // a medium that is written to a disk as it is
	case found == "" && auto:
		return nil, problem.New(problem.Invalid, "", "its content is no image of a known format").
			WithRemedy(`say image_format = "raw" if that is what it is`)
	}
	if !auto && found != want {
		is := "not"
		if found != "" {
			is = string(found) + ", not"
		}
		return nil, problem.New(problem.Invalid, "", "its content is %s %s", is, want)
	}
	info, err := inspectors[found](f)
	if err != nil {
		return nil, fmt.Errorf("looking at a %s: %w", found, err)
	}
	info.Format = found
	if info.VirtualSize <= 0 {
		return nil, invalid("it says that it is %d bytes large", info.VirtualSize)
	}
	return info, nil
}

var inspectors map[Format]func(*file) (*Info, error)

func init() {
	// Not in the variable's declaration: an OVA's disk is inspected in turn.
	inspectors = map[Format]func(*file) (*Info, error){
		Raw: inspectRaw, QCOW2: inspectQCOW2, VMDK: inspectVMDK, VDI: inspectVDI, VHDX: inspectVHDX, ISO: inspectISO, OVA: inspectOVA,
	}
}

// foreign are beginnings of what is refused with its name.
var foreign = []struct{ begins, is string }{
	{"\x1f\x8b", "compressed by gzip"}, {"\xfd7zXZ\x00", "compressed by xz"}, {"\x28\xb5\x2f\xfd", "compressed by zstd"},
	{"BZh", "compressed by bzip2"}, {"PK\x03\x04", "a zip archive"}, {"7z\xbc\xaf", "a 7z archive"},
	{"QED\x00", "a QED image"}, {"conectix", "a VHD image (the older kind)"}, {"COWD", "a VMDK of an old kind"},
	{"# Disk DescriptorFile", "a VMDK that names other files"}, {"LUKS\xba\xbe", "encrypted by LUKS"},
	{"<!DOCTYPE", "a page for people"}, {"<html", "a page for people"},
}

// detect gives the format by its marks; "" where it has none.
func (f *file) detect() (Format, error) {
	head := f.upTo(0, 8)
	switch {
	case f.size == 0:
		return "", invalid("it is empty")
	case bytes.HasPrefix(head, []byte("QFI\xfb")):
		return QCOW2, nil
	case bytes.HasPrefix(head, []byte("KDMV")):
		return VMDK, nil
	case string(head) == "vhdxfile":
		return VHDX, nil
	case bytes.Equal(f.upTo(0x40, 4), []byte{0x7f, 0x10, 0xda, 0xbe}):
		return VDI, nil
	case string(f.upTo(257, 5)) == "ustar":
		return OVA, nil
	case string(f.upTo(isoDescriptor+1, 5)) == "CD001":
		return ISO, nil
	}
	start := f.upTo(0, 32)
	for _, x := range foreign {
		if bytes.HasPrefix(start, []byte(x.begins)) {
			return "", problem.New(problem.Invalid, "", "it is %s", x.is).
				WithRemedy("convert it to qcow2 or raw first (qemu-img convert)")
		}
	}
	return "", nil
}

func invalid(format string, args ...any) error {
	return problem.New(problem.Invalid, "", format, args...)
}

func refused(reason, remedy string) error {
	return problem.New(problem.Invalid, "", "%s", reason).WithRemedy("%s", remedy)
}

// file is an image that is read in places.
type file struct {
	r    io.ReaderAt
	size int64
}

// read gives n bytes at off. All lengths are bounded by those who call it.
func (f *file) read(off, n int64) ([]byte, error) {
	if off < 0 || n < 0 || off > f.size || n > f.size-off {
		return nil, invalid("it is cut off: %d bytes at %d are beyond its end at %d", n, off, f.size)
	}
	b := make([]byte, n)
	if _, err := f.r.ReadAt(b, off); err != nil && err != io.EOF {
		return nil, fmt.Errorf("reading an image: %w", err)
	}
	return b, nil
}

// upTo gives what is there of n bytes at off.
func (f *file) upTo(off, n int64) []byte {
	if off >= f.size {
		return nil
	}
	b, err := f.read(off, min(n, f.size-off))
	if err != nil {
		return nil
	}
	return b
}

// section is a part of the image, whose offset and length are within it.
func (f *file) section(off, n int64) *io.SectionReader { return io.NewSectionReader(f.r, off, n) }

// offset is a number in an image as one of ours: what is too large becomes what no file holds.
func offset(n uint64) int64 { return int64(min(n, math.MaxInt64>>1)) }

var (
	le = binary.LittleEndian
	be = binary.BigEndian
)
