package diskimage

import "bytes"

// inspectVDI reads VirtualBox's header (version 1.1).
func inspectVDI(f *file) (*Info, error) {
	h, err := f.read(0, 512)
	if err != nil {
		return nil, err
	}
	const dynamic, static = 1, 2
	kind := le.Uint32(h[0x4c:])
	table, data := int64(le.Uint32(h[0x154:])), int64(le.Uint32(h[0x158:]))
	block, blocks, allocated := int64(le.Uint32(h[0x178:])), int64(le.Uint32(h[0x180:])), int64(le.Uint32(h[0x184:]))
	virtual := offset(le.Uint64(h[0x170:]))
	switch {
	case le.Uint32(h[0x44:]) != 0x00010001:
		return nil, invalid("its version is %#x", le.Uint32(h[0x44:]))
	case kind != dynamic && kind != static:
		return nil, refused("it has a parent", "clone it to a whole one: VBoxManage clonemedium")
	case block != 1<<20 || blocks*block < virtual || allocated > blocks:
		return nil, invalid("its header contradicts itself: %d of %d blocks of %d bytes for %d", allocated, blocks, block, virtual)
	case table+4*blocks > f.size || data+allocated*block > f.size:
		return nil, invalid("it is cut off: its blocks end at %d, and it at %d", data+allocated*block, f.size)
	}
	return &Info{VirtualSize: virtual}, nil
}

// GUIDs of a VHDX, as they are in the file.
var (
	vhdxBlocks   = guid("2DC27766-F623-4200-9D64-115E9BFD4A08")
	vhdxMetadata = guid("8B7CA206-4790-4B9A-B8FE-575F050F886E")
	vhdxFile     = guid("CAA16737-FA36-4D43-B3B6-33F0AA44E76B")
	vhdxSize     = guid("2FA54224-CD1B-4876-B211-5DBED83BF4B8")
)

// inspectVHDX finds the size in the region of metadata (MS-VHDX 2.2 and 2.6).
func inspectVHDX(f *file) (*Info, error) {
	const regions, hasParent = 192 << 10, 2
	h, err := f.read(regions, 64<<10)
	if err != nil {
		return nil, err
	}
	if string(h[:4]) != "regi" || le.Uint32(h[8:]) > 2047 {
		return nil, invalid("it has no table of regions")
	}
	var metadata, blocks, blocksLength int64
	for i := range int(le.Uint32(h[8:])) {
		e := h[16+32*i:]
		at, length := offset(le.Uint64(e[16:])), int64(le.Uint32(e[24:]))
		if at+length > f.size {
			return nil, invalid("it is cut off: a region ends at %d, and it at %d", at+length, f.size)
		}
		switch {
		case bytes.Equal(e[:16], vhdxMetadata):
			metadata = at
		case bytes.Equal(e[:16], vhdxBlocks):
			blocks, blocksLength = at, length
		}
	}
	m, err := f.read(metadata, 64<<10)
	if err != nil {
		return nil, err
	}
	info := &Info{}
	if string(m[:8]) != "metadata" || le.Uint16(m[10:]) > 2047 {
		return nil, invalid("it has no metadata")
	}
	var block int64
	for i := range int(le.Uint16(m[10:])) {
		e := m[32+32*i:]
		value, err := f.read(metadata+int64(le.Uint32(e[16:])), 8)
		switch {
		case err != nil:
			return nil, err
		case bytes.Equal(e[:16], vhdxSize):
			info.VirtualSize = offset(le.Uint64(value))
		case bytes.Equal(e[:16], vhdxFile) && le.Uint32(value[4:])&hasParent != 0:
			return nil, refused("it has a parent", "merge it to a whole one: Merge-VHD")
		case bytes.Equal(e[:16], vhdxFile):
			block = int64(le.Uint32(value))
		}
	}
	return info, f.checkVHDXBlocks(blocks, blocksLength, block)
}

// checkVHDXBlocks looks for blocks that are beyond the end of the file.
func (f *file) checkVHDXBlocks(at, length, block int64) error {
	const present, piece = 6, 1 << 20
	for end := at + length; at < end; at += piece {
		table, err := f.read(at, min(piece, end-at))
		if err != nil {
			return err
		}
		for ; len(table) >= 8; table = table[8:] {
			e := le.Uint64(table)
			if data := int64(e >> 20 << 20 & (1<<62 - 1)); e&7 == present && data+block > f.size {
				return invalid("it is cut off: a block ends at %d, and it at %d", data+block, f.size)
			}
		}
	}
	return nil
}
