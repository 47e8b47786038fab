package diskimage

import (
	"bytes"
	"compress/flate"
	"errors"
	"fmt"
	"io"
)

// Bits of a qcow2 header's incompatible features (QEMU's docs/interop/qcow2.txt).
const (
	qcow2Dirty = 1 << iota
	qcow2Corrupt
	qcow2DataFile
	qcow2Compression
	qcow2ExtendedL2
)

const (
	qcow2MaxL1       = 32 << 20 // bytes, as in QEMU
	qcow2MaxRefcount = 8 << 20
	qcow2OffsetMask  = 0x00ff_ffff_ffff_fe00
	qcow2Zstd        = 1
	qcow2DataFileExt = 0x44415441
	qcow2CryptoExt   = 0x0537be77
)

// qcow2 is an image that has no parts outside of itself.
type qcow2 struct {
	f           *file
	virtual     int64
	clusterBits uint
	entryBytes  int64 // of an L2 table
	l1          []byte
	zstd        bool
	// The L2 table and the cluster that were read last.
	tableAt, dataAt int64
	table, data     []byte
}

// Overlay gives the size and the backing file's name, "" for none, of a qcow2 that a machine
// writes to. Its data are in it, or in what backs it.
func Overlay(r io.ReaderAt, size int64) (virtual int64, backing string, err error) {
	f := &file{r: r, size: size}
	h, err := f.read(0, 72)
	if err != nil {
		return 0, "", err
	}
	if string(h[:4]) != "QFI\xfb" {
		return 0, "", invalid("its content is not qcow2")
	}
	at, length := offset(be.Uint64(h[8:])), int64(be.Uint32(h[16:]))
	if at > 0 {
		if length == 0 || length > 1023 {
			return 0, "", invalid("its backing file's name is %d bytes long", length)
		}
		name, err := f.read(at, length)
		if err != nil {
			return 0, "", err
		}
		backing = string(name)
	}
	q, err := openQCOW2(f, true)
	if err != nil {
		return 0, "", err
	}
	return q.virtual, backing, nil
}

func inspectQCOW2(f *file) (*Info, error) {
	q, err := openQCOW2(f, false)
	if err != nil {
		return nil, err
	}
	if err := q.checkTables(); err != nil {
		return nil, err
	}
	return &Info{VirtualSize: q.virtual, Hints: diskHints(&file{r: q, size: q.virtual})}, nil
}

func openQCOW2(f *file, backed bool) (*qcow2, error) {
	h, err := f.read(0, 72)
	if err != nil {
		return nil, err
	}
	version := be.Uint32(h[4:])
	q := &qcow2{f: f, clusterBits: uint(be.Uint32(h[20:])), virtual: offset(be.Uint64(h[24:])), entryBytes: 8, tableAt: -1, dataAt: -1}
	switch {
	case version != 2 && version != 3:
		return nil, invalid("its version is %d, not 2 or 3", version)
	case !backed && (be.Uint64(h[8:]) != 0 || be.Uint32(h[16:]) != 0):
		return nil, refused("it has a backing file", "give a whole image: qemu-img convert -O qcow2 OLD NEW")
	case q.clusterBits < 9 || q.clusterBits > 21:
		return nil, invalid("its clusters are of 2^%d bytes", q.clusterBits)
	case be.Uint32(h[32:]) != 0:
		return nil, refused("it is encrypted", "")
	case be.Uint32(h[60:]) > 65536:
		return nil, invalid("it says that it has %d snapshots", be.Uint32(h[60:]))
	}
	headerLength := int64(72)
	if version == 3 {
		if headerLength, err = q.features(); err != nil {
			return nil, err
		}
	}
	if err := q.extensions(headerLength); err != nil {
		return nil, err
	}
	refcounts, refcountBytes := offset(be.Uint64(h[48:])), int64(be.Uint32(h[56:]))<<q.clusterBits
	if refcountBytes == 0 || refcountBytes > qcow2MaxRefcount || refcounts%q.cluster() != 0 || refcounts == 0 || refcounts+refcountBytes > f.size {
		return nil, invalid("its table of references is not in it: it is cut off or broken")
	}
	at, entries := offset(be.Uint64(h[40:])), int64(be.Uint32(h[36:]))
	perEntry := q.cluster() / q.entryBytes * q.cluster()
	if at%q.cluster() != 0 || entries*8 > qcow2MaxL1 || entries < q.virtual/perEntry+min(1, q.virtual%perEntry) {
		return nil, invalid("its first table has %d entries at %d, which does not fit its size of %d bytes", entries, at, q.virtual)
	}
	q.l1, err = f.read(at, entries*8)
	return q, err
}

func (q *qcow2) cluster() int64 { return 1 << q.clusterBits }

// features reads what version 3 added, and gives the header's length.
func (q *qcow2) features() (int64, error) {
	h, err := q.f.read(72, 32)
	if err != nil {
		return 0, err
	}
	bits, length := be.Uint64(h), int64(be.Uint32(h[28:]))
	switch {
	case length < 104 || length > q.cluster() || length%8 != 0:
		return 0, invalid("its header is %d bytes long", length)
	case be.Uint32(h[24:]) > 6:
		return 0, invalid("its references are of 2^%d bits", be.Uint32(h[24:]))
	case bits&qcow2DataFile != 0:
		return 0, refused("its data are in another file", "give a whole image: qemu-img convert -O qcow2 OLD NEW")
	case bits&qcow2Corrupt != 0:
		return 0, refused("it is marked as broken", "repair it: qemu-img check -r all")
	case bits&^(qcow2Dirty|qcow2Compression|qcow2ExtendedL2) != 0:
		return 0, invalid("it needs features that are not known (%#x)", bits)
	}
	if bits&qcow2ExtendedL2 != 0 {
		q.entryBytes = 16
		if q.clusterBits < 14 {
			return 0, invalid("its clusters are too small to have parts")
		}
	}
	if bits&qcow2Compression != 0 {
		c, err := q.f.read(104, 1)
		if err != nil {
			return 0, err
		}
		if length < 112 || c[0] > qcow2Zstd {
			return 0, invalid("it is compressed in a way that is not known")
		}
		q.zstd = c[0] == qcow2Zstd
	}
	return length, nil
}

// extensions of the header are walked for those that lead out of the file.
func (q *qcow2) extensions(at int64) error {
	for at+8 <= q.cluster() {
		h, err := q.f.read(at, 8)
		if err != nil {
			return err
		}
		kind, length := be.Uint32(h), int64(be.Uint32(h[4:]))
		switch kind {
		case 0:
			return nil
		case qcow2DataFileExt:
			return refused("it names a file for its data", "give a whole image: qemu-img convert -O qcow2 OLD NEW")
		case qcow2CryptoExt:
			return refused("it is encrypted", "")
		}
		at += 8 + (length+7)/8*8
	}
	return nil
}

// checkTables follows both levels of tables. What they name must be in the file, but for
// the last cluster, which may be written in part.
func (q *qcow2) checkTables() error {
	read := int64(0)
	for i := 0; i < len(q.l1); i += 8 {
		at := offset(be.Uint64(q.l1[i:]) & qcow2OffsetMask)
		if at == 0 {
			continue
		}
		if read += q.cluster(); read > q.f.size {
			return invalid("its tables share their space")
		}
		table, err := q.f.read(at, q.cluster())
		if err != nil {
			return err
		}
		for e := int64(0); e < q.cluster(); e += q.entryBytes {
			data, length, _ := q.entry(be.Uint64(table[e:]))
			if data > 0 && data+length > q.f.size+q.cluster() || data >= q.f.size {
				return invalid("it is cut off: it has data at %d, and ends at %d", data, q.f.size)
			}
		}
	}
	return nil
}

// entry says where the data of an L2 entry are; at is 0 for what was never written.
func (q *qcow2) entry(e uint64) (at, length int64, compressed bool) {
	if e&(1<<62) != 0 {
		bits := 62 - (q.clusterBits - 8)
		at = int64(e & (1<<bits - 1))
		sectors := int64(e>>bits&(1<<(q.clusterBits-8)-1)) + 1
		return at, sectors*sector - at%sector, true
	}
	return offset(e & qcow2OffsetMask), q.cluster(), false
}

// ReadAt reads what a guest sees. Parts of clusters in extended tables are not told apart:
// it is for looking at partition tables.
func (q *qcow2) ReadAt(p []byte, off int64) (int, error) {
	for n := 0; n < len(p); {
		at := off + int64(n)
		if at >= q.virtual {
			return n, io.EOF
		}
		c, err := q.clusterAt(at &^ (q.cluster() - 1))
		if err != nil {
			return n, err
		}
		n += copy(p[n:], c[at%q.cluster():])
	}
	return len(p), nil
}

func (q *qcow2) clusterAt(guest int64) ([]byte, error) {
	if guest == q.dataAt {
		return q.data, nil
	}
	perTable := q.cluster() / q.entryBytes
	index := guest >> q.clusterBits
	tableAt := offset(be.Uint64(q.l1[index/perTable*8:]) & qcow2OffsetMask)
	if tableAt == 0 {
		return make([]byte, q.cluster()), nil
	}
	if tableAt != q.tableAt {
		table, err := q.f.read(tableAt, q.cluster())
		if err != nil {
			return nil, err
		}
		q.tableAt, q.table = tableAt, table
	}
	e := be.Uint64(q.table[index%perTable*q.entryBytes:])
	data, err := q.clusterData(e)
	if err != nil {
		return nil, err
	}
	q.dataAt, q.data = guest, data
	return data, nil
}

func (q *qcow2) clusterData(e uint64) ([]byte, error) {
	at, length, compressed := q.entry(e)
	data := make([]byte, q.cluster())
	switch {
	case !compressed && (at == 0 || e&1 != 0):
		return data, nil
	case compressed && q.zstd:
		return nil, errors.ErrUnsupported
	case !compressed:
		copy(data, q.f.upTo(at, length))
		return data, nil
	}
	if _, err := io.ReadFull(flate.NewReader(bytes.NewReader(q.f.upTo(at, length))), data); err != nil {
		return nil, fmt.Errorf("reading a compressed cluster: %w", err)
	}
	return data, nil
}
