package diskimage

import (
	"bytes"
	"encoding/hex"
	"strings"
)

const isoDescriptor = 16 * 2048

// inspectISO checks that the volume is all there.
func inspectISO(f *file) (*Info, error) {
	d, err := f.read(isoDescriptor, 2048)
	if err != nil {
		return nil, err
	}
	if volume := int64(le.Uint32(d[80:])) * int64(le.Uint16(d[128:])); volume > f.size {
		return nil, invalid("it is cut off: its volume has %d bytes, and it %d", volume, f.size)
	}
	return &Info{VirtualSize: f.size, Hints: diskHints(f)}, nil
}

// inspectRaw checks that the partitions, and the copy of their table at the end of the disk,
// are in it.
func inspectRaw(f *file) (*Info, error) {
	if f.size%sector != 0 {
		return nil, invalid("it is %d bytes long, no whole number of sectors: it is cut off, or no disk", f.size)
	}
	if h := f.upTo(sector, 92); bytes.HasPrefix(h, gptMark) && len(h) == 92 && string(f.upTo(isoDescriptor+1, 5)) != "CD001" {
		if last := offset(min(le.Uint64(h[32:]), 1<<50)) * sector; last >= f.size {
			return nil, invalid("it is cut off: its partition table ends at %d, and it at %d", last+sector, f.size)
		}
	}
	if boot := f.upTo(0, sector); bytes.HasSuffix(boot, []byte{0x55, 0xaa}) {
		for e := boot[446:510]; len(e) > 0; e = e[16:] {
			// A type of 0xee stands for a table of the other kind. File systems may begin with
			// such a mark too, and have their program here: 0 and 0x80 begin an entry.
			first, count := int64(le.Uint32(e[8:])), int64(le.Uint32(e[12:]))
			if plain := e[0]&0x7f == 0 && e[4] != 0 && e[4] != 0xee && first > 0; plain && (first+count)*sector > f.size {
				return nil, invalid("it is cut off: a partition ends at %d, and it at %d", (first+count)*sector, f.size)
			}
		}
	}
	return &Info{VirtualSize: f.size, Hints: diskHints(f)}, nil
}

var gptMark = []byte("EFI PART")

// bootable says whether it begins as a disk does: by a boot sector, a partition table or a
// file system.
func (f *file) bootable() bool {
	return bytes.Equal(f.upTo(510, 2), []byte{0x55, 0xaa}) || bytes.Equal(f.upTo(sector, 8), gptMark) ||
		bytes.Equal(f.upTo(1080, 2), []byte{0x53, 0xef}) || string(f.upTo(0, 4)) == "XFSB"
}

// guid gives the 16 bytes of a GUID as Microsoft's formats store it.
func guid(text string) []byte {
	b, err := hex.DecodeString(strings.ReplaceAll(text, "-", ""))
	if err != nil || len(b) != 16 {
		panic("diskimage: no GUID: " + text)
	}
	b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7] = b[3], b[2], b[1], b[0], b[5], b[4], b[7], b[6]
	return b
}
