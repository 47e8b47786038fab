package guest

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

// Sizes of a bootable disk: one FAT partition that begins where a CD can point to.
const (
	sector         = 512
	partitionBegin = 1 << 20
	partitionSize  = 47 << 20
)

// Disk writes a raw image that boots the guest by BIOS (amd64) and by UEFI, with the
// kernel's command line of Cmdline.
func (g *Guest) Disk(ctx context.Context, path string, commands ...string) error {
	tools, err := g.tools(ctx)
	if err != nil {
		return err
	}
	if path, err = filepath.Abs(path); err != nil { // the programs work elsewhere
		return err
	}
	if err := g.writeDisk(ctx, tools, path, g.Cmdline(commands...)); err != nil {
		_ = os.Remove(path)
		return fmt.Errorf("making a disk that boots: %w", err)
	}
	return nil
}

// tools are unpacked packages: loaders for the guest, and programs of the host that write
// a FAT file system without mounting it.
func (g *Guest) tools(ctx context.Context) (string, error) {
	dir := filepath.Join(filepath.Dir(g.dir), g.Arch+"-tools")
	return dir, once(dir, func(part string) error {
		if err := fetch(ctx, g.Arch, part, "systemd-boot-efi"); err != nil {
			return err
		}
		packages := []string{"mtools"}
		if g.hasBIOS() {
			packages = append(packages, "syslinux", "syslinux-common")
		}
		return fetch(ctx, runtime.GOARCH, part, packages...)
	})
}

// hasBIOS says whether a BIOS can boot the guest's disks; its loader is installed by a
// program that exists for amd64 only.
func (g *Guest) hasBIOS() bool { return g.Arch == "amd64" && runtime.GOARCH == "amd64" }

func (g *Guest) writeDisk(ctx context.Context, tools, path, cmdline string) error {
	if err := g.writePartitions(tools, path); err != nil {
		return err
	}
	scratch, err := os.MkdirTemp("", "berth-guest-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(scratch)
	efi, loader := "BOOTX64.EFI", "systemd-bootx64.efi"
	if g.Arch == "arm64" {
		efi, loader = "BOOTAA64.EFI", "systemd-bootaa64.efi"
	}
	entry := "title guest\nlinux /vmlinuz\ninitrd /initrd\noptions " + cmdline + "\n"
	syslinux := "DEFAULT guest\nPROMPT 0\nLABEL guest\nKERNEL /vmlinuz\nINITRD /initrd\nAPPEND " + cmdline + "\n"
	for name, content := range map[string]string{"guest.conf": entry, "loader.conf": "timeout 0\n", "syslinux.cfg": syslinux} {
		if err := os.WriteFile(filepath.Join(scratch, name), []byte(content), 0o644); err != nil {
			return err
		}
	}
	fat := fmt.Sprintf("%s@@%d", path, partitionBegin)
	steps := [][]string{
		{"mformat", "-i", fat, "-T", fmt.Sprint(partitionSize / sector), "-h", "16", "-s", "63", "-H", fmt.Sprint(partitionBegin / sector), "::"},
		{"mmd", "-i", fat, "::/EFI", "::/EFI/BOOT", "::/loader", "::/loader/entries"},
		{"mcopy", "-i", fat, g.Kernel, g.Initrd, filepath.Join(scratch, "syslinux.cfg"), "::/"},
		{"mcopy", "-i", fat, filepath.Join(tools, "usr/lib/systemd/boot/efi", loader), "::/EFI/BOOT/" + efi},
		{"mcopy", "-i", fat, filepath.Join(scratch, "loader.conf"), "::/loader/"},
		{"mcopy", "-i", fat, filepath.Join(scratch, "guest.conf"), "::/loader/entries/"},
	}
	if g.hasBIOS() {
		steps = append(steps, []string{"syslinux", "--install", "-t", fmt.Sprint(partitionBegin), path})
	}
	bin := filepath.Join(tools, "usr/bin")
	for _, s := range steps {
		// env: what is not installed is called by programs that look in PATH.
		args := append([]string{"PATH=" + bin + ":" + os.Getenv("PATH"), "MTOOLS_SKIP_CHECK=1", filepath.Join(bin, s[0])}, s[1:]...)
		if _, err := run(ctx, scratch, "env", args...); err != nil {
			return err
		}
	}
	return nil
}

// writePartitions makes an image with one partition, active, of the type that UEFI looks for.
func (g *Guest) writePartitions(tools, path string) error {
	first := make([]byte, sector)
	if g.hasBIOS() {
		code, err := os.ReadFile(filepath.Join(tools, "usr/lib/syslinux/mbr/mbr.bin"))
		if err != nil {
			return err
		}
		copy(first, code)
	}
	p := first[446:]
	p[0], p[4] = 0x80, 0xef
	copy(p[1:], "\xfe\xff\xff")
	copy(p[5:], "\xfe\xff\xff")
	binary.LittleEndian.PutUint32(p[8:], partitionBegin/sector)
	binary.LittleEndian.PutUint32(p[12:], partitionSize/sector)
	copy(first[510:], "\x55\xaa")
	if err := os.WriteFile(path, first, 0o644); err != nil {
		return err
	}
	return os.Truncate(path, partitionBegin+partitionSize)
}

// ISO writes a CD that boots the guest as Disk does: it holds such a disk, which a BIOS
// takes as a hard disk, and whose partition UEFI reads.
func (g *Guest) ISO(ctx context.Context, path string, commands ...string) error {
	disk := path + ".disk"
	defer os.Remove(disk)
	if err := g.Disk(ctx, disk, commands...); err != nil {
		return err
	}
	content, err := os.Open(disk)
	if err != nil {
		return err
	}
	defer content.Close()
	iso, err := os.Create(path)
	if err != nil {
		return err
	}
	defer iso.Close()
	if _, err := iso.Write(isoHead()); err != nil {
		return err
	}
	if _, err := io.Copy(iso, content); err != nil {
		return err
	}
	return iso.Close()
}

// Blocks of the CD: 16 of nothing, three descriptors, the catalog, a directory, the disk.
const (
	isoBlock   = 2048
	catalogAt  = 19
	rootAt     = 20
	diskAt     = 21
	isoBlocks  = diskAt + (partitionBegin+partitionSize)/isoBlock
	hardDisk   = 4 // media type: emulate one
	noEmulated = 0
)

// isoHead gives all that is before the disk, as El Torito has it.
func isoHead() []byte {
	head := make([]byte, diskAt*isoBlock)
	at := func(block int) []byte { return head[block*isoBlock : (block+1)*isoBlock] }

	volume := at(16)
	copy(volume, "\x01CD001\x01")
	copy(volume[8:], strings.Repeat(" ", 32)+"BERTH_GUEST"+strings.Repeat(" ", 21))
	both32(volume[80:], isoBlocks)
	both16(volume[120:], 1)
	both16(volume[124:], 1)
	both16(volume[128:], isoBlock)
	directory(volume[156:], 0)
	for i := 190; i < 881; i++ {
		volume[i] = ' '
	}
	volume[881] = 1

	copy(at(17), "\x00CD001\x01EL TORITO SPECIFICATION")
	binary.LittleEndian.PutUint32(at(17)[71:], catalogAt)
	copy(at(18), "\xffCD001\x01")

	catalog := at(catalogAt)
	catalog[0] = 1 // validation
	copy(catalog[30:], "\x55\xaa")
	binary.LittleEndian.PutUint16(catalog[28:], -checksum(catalog[:32]))
	bootEntry(catalog[32:], hardDisk, diskAt, 1)
	copy(catalog[64:], []byte{0x91, 0xef, 1, 0}) // one more, for UEFI, the last
	bootEntry(catalog[96:], noEmulated, diskAt+partitionBegin/isoBlock, 0)

	directory(at(rootAt), 0)
	directory(at(rootAt)[34:], 1)
	return head
}

func bootEntry(e []byte, media byte, block uint32, sectors uint16) {
	e[0], e[1] = 0x88, media
	if media == hardDisk {
		e[4] = 0xef // as in the partition table
	}
	binary.LittleEndian.PutUint16(e[6:], sectors)
	binary.LittleEndian.PutUint32(e[8:], block)
}

func checksum(p []byte) (sum uint16) {
	for i := 0; i < len(p); i += 2 {
		sum += binary.LittleEndian.Uint16(p[i:])
	}
	return sum
}

// directory writes the entry of the root, which has itself (name 0) and its parent (1).
func directory(p []byte, name byte) {
	p[0], p[25], p[32], p[33] = 34, 2, 1, name
	both32(p[2:], rootAt)
	both32(p[10:], isoBlock)
	copy(p[18:], []byte{100, 1, 1, 0, 0, 0, 0})
	both16(p[28:], 1)
}

// both32 and both16 write a number in both orders of bytes.
func both32(p []byte, n uint32) {
	binary.LittleEndian.PutUint32(p, n)
	binary.BigEndian.PutUint32(p[4:], n)
}

func both16(p []byte, n uint16) {
	binary.LittleEndian.PutUint16(p, n)
	binary.BigEndian.PutUint16(p[2:], n)
}
