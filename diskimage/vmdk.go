package diskimage

import "bytes"

// inspectVMDK takes images in one file only. The text in them that describes them may name
// others: a parent, or further extents.
func inspectVMDK(f *file) (*Info, error) {
	h, err := f.read(0, sector)
	if err != nil {
		return nil, err
	}
	const tableAtEnd = 0xffff_ffff_ffff_ffff // a stream: the table's place is told in a footer
	capacity, table := le.Uint64(h[12:]), le.Uint64(h[56:])
	if v := le.Uint32(h[4:]); v < 1 || v > 3 {
		return nil, invalid("its version is %d", v)
	}
	if capacity == 0 {
		return nil, refused("it names other files", "export it as one file (streamOptimized)")
	}
	if table == tableAtEnd {
		footer, err := f.read(f.size-2*sector, sector)
		if err != nil || !bytes.HasPrefix(footer, []byte("KDMV")) || le.Uint64(footer[12:]) != capacity {
			return nil, invalid("it is cut off: its end has no footer")
		}
		table = le.Uint64(footer[56:])
	}
	if offset(table) > f.size/sector {
		return nil, invalid("it is cut off: its table is at sector %d, and it has %d", table, f.size/sector)
	}
	// QEMU reads the text where the header says and at sector 1.
	at := offset(min(le.Uint64(h[28:]), 1<<40)) * sector
	for _, text := range [][]byte{f.upTo(at, 64<<10), f.upTo(sector, 64<<10)} {
		if end := bytes.IndexByte(text, 0); end >= 0 {
			text = text[:end]
		}
		if err := checkVMDKText(text); err != nil {
			return nil, err
		}
	}
	return &Info{VirtualSize: offset(min(capacity, 1<<50)) * sector}, nil
}

// checkVMDKText wants at most one extent, whose data are in the file itself.
func checkVMDKText(text []byte) error {
	extents := 0
	for line := range bytes.Lines(bytes.ToLower(text)) {
		line = bytes.TrimSpace(line)
		switch {
		case bytes.Contains(line, []byte("parentfilenamehint")),
			bytes.HasPrefix(line, []byte("parentcid")) && !bytes.HasSuffix(line, []byte("ffffffff")):
			return refused("it has a parent", "export it as one whole file")
		case bytes.HasPrefix(line, []byte("rw ")) || bytes.HasPrefix(line, []byte("rdonly ")):
			if extents++; extents > 1 || !bytes.Contains(line, []byte(" sparse ")) {
				return refused("it names other files", "export it as one file (streamOptimized)")
			}
		}
	}
	return nil
}
