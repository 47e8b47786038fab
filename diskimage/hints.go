package diskimage

import "bytes"

// kinds of partitions that say something of the system on a disk.
var kinds = []struct {
	guid     []byte
	arch, os string
	esp      bool // the file system from which UEFI boots
	bios     bool // GRUB's own, for a BIOS
}{
	{guid: guid("C12A7328-F81F-11D2-BA4B-00A0C93EC93B"), esp: true},
	{guid: guid("21686148-6449-6E6F-744E-656564454649"), bios: true},
	{guid: guid("4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709"), os: "linux", arch: "amd64"},
	{guid: guid("B921B045-1DF0-41C3-AF44-4C6F280D3FAE"), os: "linux", arch: "arm64"},
	{guid: guid("0FC63DAF-8483-4772-8E79-3D69D8477DE4"), os: "linux"},
	{guid: guid("E3C9E316-0B5C-4DB8-817D-F92DF00215AE"), os: "windows"},
}

const (
	gptEntries = 128
	// espScan is how far the file system of UEFI is looked through for its programs' names.
	espScan = 16 << 20
)

// diskHints reads a disk's partition table. What cannot be read gives no hints.
func diskHints(f *file) (h Hints) {
	boot := f.upTo(0, sector)
	if len(boot) < sector || boot[510] != 0x55 || boot[511] != 0xaa {
		return h
	}
	code := boot[0] != 0
	if !bytes.HasPrefix(f.upTo(sector, 8), gptMark) {
		return mbrHints(boot, code)
	}
	var esp, bios bool
	header := f.upTo(sector, 92)
	if len(header) < 92 || le.Uint32(header[84:]) != 128 {
		return h
	}
	table := f.upTo(offset(min(le.Uint64(header[72:]), 1<<40))*sector, gptEntries*128)
	for ; len(table) >= 128; table = table[128:] {
		for _, k := range kinds {
			if !bytes.Equal(table[:16], k.guid) {
				continue
			}
			esp, bios = esp || k.esp, bios || k.bios
			if k.os != "" {
				h.OS = k.os
			}
			if k.arch != "" {
				h.Arch = k.arch
			}
			if k.esp && h.Arch == "" {
				h.Arch = f.espArch(offset(min(le.Uint64(table[32:]), 1<<40)) * sector)
			}
		}
	}
	switch {
	case esp && !bios && !code:
		h.Firmware = "uefi"
	case !esp && (bios || code):
		h.Firmware = "bios"
	}
	return h
}

// mbrHints reads the old kind of partition table.
func mbrHints(boot []byte, code bool) (h Hints) {
	const esp, linux, ntfs = 0xef, 0x83, 0x07
	for i := range 4 {
		e := boot[446+16*i:]
		switch {
		case e[4] == linux:
			h.OS = "linux"
		case e[4] == ntfs && e[0] == 0x80:
			h.OS = "windows"
		case e[4] == esp:
			code = false
		}
	}
	if code && h.OS != "" {
		h.Firmware = "bios"
	}
	return h
}

// espArch looks for the name of the program that UEFI starts: it has the architecture.
func (f *file) espArch(at int64) string {
	amd, arm := []byte("BOOTX64 EFI"), []byte("BOOTAA64EFI")
	const window = 1 << 20
	var isAMD, isARM bool
	for end := at + espScan; at < end; at += window - 16 {
		b := f.upTo(at, window)
		isAMD, isARM = isAMD || bytes.Contains(b, amd), isARM || bytes.Contains(b, arm)
		if len(b) < window {
			break
		}
	}
	switch {
	case isAMD && !isARM:
		return "amd64"
	case isARM && !isAMD:
		return "arm64"
	}
	return ""
}
