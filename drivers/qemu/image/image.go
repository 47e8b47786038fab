// Package image keeps the images of virtual machines on a host, and makes disks of them.
//
// A Store is one directory. What is fetched is checked by its content before anything opens
// it: a qcow2 with a backing file, a VMDK that names other files, what is cut off or larger
// than allowed is refused. What is whole is stored once by its digest and read-only (a
// base); a crash at any time leaves nothing half. Disks, CD-ROMs and kernels of machines
// are made from bases: by a hard link beside them, so that a base that anything uses has
// more than one link, whoever forgot about it. Nothing else is remembered: after a restart
// of the agent Tidy still knows what is in use.
//
// The qemu driver is the caller, in Prepare and Remove.
package image

import (
	"context"
	"io"
	"log/slog"

	"github.com/berthd/berth/diskimage"
)

// Config is of a Store. Zero values mean the defaults.
type Config struct {
	// Dir is the store's own directory, on the file system of the tasks' directories.
	Dir string
	// MaxBytes bounds what unused bases take on disk; 32 GiB by default.
	MaxBytes int64
	// MaxImageBytes bounds what is fetched, MaxVirtualBytes the size that a guest sees;
	// 256 GiB and 16 TiB by default.
	MaxImageBytes, MaxVirtualBytes int64
	// HostDirs are those from which images may be named by an absolute path.
	HostDirs []string
	// Keys are public keys of minisign ("RW..."). With any, every image that does not come
	// from the cluster's store needs a signature by one of them.
	Keys []string
	// Cluster has the images that are named; nil: none.
	Cluster Cluster
	Log     *slog.Logger
}

// Cluster is where the agent fetches the images that the cluster keeps.
type Cluster interface {
	// Resolve gives the digest ("sha256:...") that name ("debian-12", "debian-12@sha256:...")
	// has now.
	Resolve(ctx context.Context, name string) (digest string, err error)
	// Fetch writes the image's bytes from offset on.
	Fetch(ctx context.Context, digest string, offset int64, to io.Writer) error
}

// Source says where an image comes from.
type Source struct {
	// Ref is "https://...", "http://...", "oci://registry/repository:tag", a path
	// (absolute, or in Dir with a "/" in it, such as "./disk.img"), or a name in the
	// cluster's store.
	Ref string
	// Dir is what relative paths are relative to, and do not leave.
	Dir string
	// Checksum is "sha256:..." or "sha512:..." of what is fetched; "": not known.
	Checksum string
	// Signature is minisign's of what is fetched: an address, a path, or its text.
	Signature string
	// Format is "auto", "qcow2", "raw", "vmdk", "vdi", "vhdx", "iso", "ova", or "file" for
	// what is no disk (a kernel).
	Format string
}

// Base is an image in the store. Nobody writes to it.
type Base struct {
	Path string `json:"-"`
	// Format is "raw" or "qcow2": how QEMU reads Path.
	Format string `json:"format"`
	// Source is the format that was fetched.
	Source string `json:"source"`
	// VirtualSize is what a guest sees, in bytes.
	VirtualSize int64 `json:"virtual_size"`
	// Digest is "sha256:..." of what was fetched.
	Digest string `json:"digest"`
	// Hints are what the image says of itself.
	Hints diskimage.Hints `json:"hints"`
}

// DiskSpec is a disk to be made.
type DiskSpec struct {
	// Path of the disk. A linked clone has its base beside it, at Path + ".base".
	Path string
	// SizeBytes is at least the base's; 0: the base's.
	SizeBytes int64
	// Format is "qcow2" or "raw".
	Format string
	// Clone is "linked" (a qcow2 overlay) or "full".
	Clone string
	// ClusterBytes is qcow2's; 0: QEMU's default.
	ClusterBytes int64
	// Preallocation is "off", "metadata" (qcow2), "falloc" or "full"; "off" of a linked clone.
	Preallocation string
}

// Progress takes words for people.
type Progress func(string)
