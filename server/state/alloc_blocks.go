package state

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"math"
	"slices"

	"google.golang.org/protobuf/proto"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// A snapshot has the allocations in blocks of rows: about 35 bytes an allocation, and a
// fraction of a microsecond to read or write. A block is a byte with the format, then
// cohorts one after the other: their keys, grants and nodes, and their rows. The order is
// by cohort, index and id, so equal states have equal blocks, however they came about.

// blockVersion is the newest format of blocks.
const blockVersion = 1

// blockRows and blockBytes bound a block: whoever reads has one in memory.
const (
	blockRows  = 4096
	blockBytes = 1 << 20
)

// blocks iterates over the blocks of a table. A block is only good until the next one.
func (t *allocTable) blocks() iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		w := blockWriter{t: t}
		for _, slots := range t.byCohort() {
			for len(slots) > 0 {
				slots = slots[w.cohort(slots):]
				if (w.rows >= blockRows || len(w.buf) >= blockBytes) && !yield(w.take()) {
					return
				}
			}
		}
		if w.rows > 0 {
			yield(w.take())
		}
	}
}

// byCohort gives the slots of each cohort, in the order of the blocks.
func (t *allocTable) byCohort() [][]uint32 {
	lists := map[*cohort][]uint32{}
	for slot := range t.all() {
		c := *t.cohorts.at(t.fixed.at(slot).cohort)
		lists[c] = append(lists[c], slot)
	}
	cohorts := make([]*cohort, 0, len(lists))
	for c := range lists {
		cohorts = append(cohorts, c)
	}
	slices.SortFunc(cohorts, func(a, b *cohort) int { return cmp.Or(a.compare(b), cmp.Compare(a.number, b.number)) })
	var out [][]uint32
	for i, c := range cohorts {
		if i > 0 && c.compare(cohorts[i-1]) == 0 { // one, as far as anybody can tell
			out[len(out)-1] = append(out[len(out)-1], lists[c]...)
		} else {
			out = append(out, lists[c])
		}
	}
	for _, slots := range out {
		slices.SortFunc(slots, func(a, b uint32) int {
			x, y := t.fixed.at(a), t.fixed.at(b)
			return cmp.Or(cmp.Compare(x.index, y.index), x.key.compare(y.key))
		})
	}
	return out
}

func (c *cohort) compare(o *cohort) int {
	return cmp.Or(cmp.Compare(c.createRevision, o.createRevision), cmp.Compare(c.job.namespace, o.job.namespace), cmp.Compare(c.job.name, o.job.name),
		cmp.Compare(c.group, o.group), cmp.Compare(c.evalID, o.evalID), cmp.Compare(c.version, o.version), cmp.Compare(c.createNano, o.createNano))
}

type blockWriter struct {
	t    *allocTable
	buf  []byte
	rows int
	body []byte
}

func (w *blockWriter) take() []byte {
	b := w.buf
	w.buf, w.rows = w.buf[:0], 0
	return b
}

// cohort writes as many of a cohort's rows as the block takes, at least one, and gives
// their number.
func (w *blockWriter) cohort(slots []uint32) int {
	t := w.t
	if len(w.buf) == 0 {
		w.buf = append(w.buf, blockVersion)
	}
	c := t.row(slots[0]).cohort
	for _, s := range []string{c.job.namespace, c.job.name, c.group, c.evalID} {
		w.buf = appendText(w.buf, s)
	}
	w.buf = binary.AppendUvarint(w.buf, uint64(c.version))
	w.buf = binary.AppendUvarint(w.buf, c.createRevision)
	w.buf = binary.AppendVarint(w.buf, c.createNano)

	var grants, nodes table
	w.body = w.body[:0]
	index, n := uint32(0), 0
	for ; n < len(slots) && w.rows < blockRows && len(w.buf)+len(w.body) < blockBytes; n++ {
		r := t.row(slots[n])
		w.body = append(w.body, byteOf(r.fixed.key)...)
		w.body = binary.AppendUvarint(w.body, nodes.number(r.node.id, r.node.name))
		w.body = binary.AppendUvarint(w.body, uint64(r.fixed.index-index))
		w.body = binary.AppendUvarint(w.body, w.grant(&grants, &r))
		w.body = appendHot(w.body, r.hot, c)
		w.body = appendText(w.body, r.cold)
		index = r.fixed.index
		w.rows++
	}
	w.buf = grants.append(w.buf)
	w.buf = nodes.append(w.buf)
	w.buf = binary.AppendUvarint(w.buf, uint64(n))
	w.buf = append(w.buf, w.body...)
	return n
}

// grant gives a row's grant in the block; 0: it has none.
func (w *blockWriter) grant(grants *table, r *AllocRow) uint64 {
	a := r.Assignment()
	if a == nil {
		return 0
	}
	if grants.last == a {
		return grants.lastNumber + 1
	}
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(a)
	if err != nil {
		panic("state: an assignment cannot be encoded: " + err.Error())
	}
	grants.last, grants.lastNumber = a, grants.number(string(b), "")
	return grants.lastNumber + 1
}

// appendHot writes what changes of a row, by its difference to what it was made with.
func appendHot(b []byte, h hotRow, c *cohort) []byte {
	status := h.status
	if h.statusTime == noTime {
		status |= noStatusTime
	}
	b = append(b, h.desired, status)
	b = binary.AppendVarint(b, int64(h.version)-int64(c.version))
	b = binary.AppendVarint(b, int64(h.modifyRevision-c.createRevision))
	b = binary.AppendVarint(b, int64(h.assignRevision-c.createRevision))
	b = binary.AppendVarint(b, h.modifyTime-c.createNano)
	if h.statusTime == noTime {
		return b
	}
	return binary.AppendVarint(b, h.statusTime-h.modifyTime)
}

// noStatusTime is a bit of the status: no time follows.
const noStatusTime = 0x80

func byteOf(k allocKey) []byte {
	id := k.id()
	return id[:]
}

func appendText(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// table numbers what rows of a cohort name, in the order of its first use.
type table struct {
	numbers map[[2]string]uint64
	encoded []byte

	last       *berthv1.Assignment // whose number is lastNumber
	lastNumber uint64
}

func (t *table) number(a, b string) uint64 {
	key := [2]string{a, b}
	n, known := t.numbers[key]
	if !known {
		if t.numbers == nil {
			t.numbers = map[[2]string]uint64{}
		}
		n = uint64(len(t.numbers))
		t.numbers[key] = n
		t.encoded = appendText(appendText(t.encoded, a), b)
	}
	return n
}

func (t *table) append(b []byte) []byte {
	return append(binary.AppendUvarint(b, uint64(len(t.numbers))), t.encoded...)
}

var errBlock = errors.New("a block of allocations is damaged")

// blockReader reads primitives; the first error stays.
type blockReader struct {
	b   []byte
	bad bool
}

func (r *blockReader) uint() uint64 {
	v, n := binary.Uvarint(r.b)
	return r.step(v, n)
}

func (r *blockReader) int() int64 {
	v, n := binary.Varint(r.b)
	return int64(r.step(uint64(v), n))
}

func (r *blockReader) step(v uint64, n int) uint64 {
	if n <= 0 {
		r.b, r.bad = nil, true
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *blockReader) take(n uint64) []byte {
	if n > uint64(len(r.b)) {
		r.b, r.bad = nil, true
		return nil
	}
	v := r.b[:n]
	r.b = r.b[n:]
	return v
}

func (r *blockReader) text() string { return string(r.take(r.uint())) }

// pairs reads a table.
func (r *blockReader) pairs() (out [][2]string) {
	for n := r.uint(); n > 0 && !r.bad; n-- {
		out = append(out, [2]string{r.text(), r.text()})
	}
	return out
}

// loadAllocs takes the allocations of a block in, while a snapshot is read.
func (tx *Tx) loadAllocs(block []byte) error {
	err := tx.allocs.load(block, tx.revision)
	tx.allocRevised()
	return err
}

// load takes the allocations of a block in.
func (t *allocTable) load(block []byte, revision uint64) error {
	r := &blockReader{b: block}
	if v := r.take(1); r.bad || v[0] == 0 || v[0] > blockVersion {
		return fmt.Errorf("%w, or a newer server wrote it", errBlock)
	}
	for len(r.b) > 0 {
		if err := t.loadCohort(r, revision); err != nil {
			return err
		}
	}
	return nil
}

func (t *allocTable) loadCohort(r *blockReader, revision uint64) error {
	namespace, name := r.text(), r.text()
	c := &cohort{group: r.text(), evalID: r.text(), version: uint32(r.uint()), createRevision: r.uint(), createNano: r.int()}
	grants, nodes, n := r.pairs(), r.pairs(), r.uint()
	if r.bad || n == 0 || len(grants) >= noGrant || len(nodes) == 0 || uint64(len(r.b)) < n*16 {
		return errBlock
	}
	c.job, c.createTime = t.job(namespace, name), timestampOf(c.createNano)
	for _, g := range grants {
		a := &berthv1.Assignment{}
		if err := proto.Unmarshal([]byte(g[0]), a); err != nil {
			return fmt.Errorf("%w: %w", errBlock, err)
		}
		c.grants = append(c.grants, grant{a, g[0]})
	}
	t.register(c)
	c.job.revised.Store(revision)
	on := make([]*allocNode, len(nodes))
	for i, id := range nodes {
		on[i] = t.node(id[0], id[1])
		on[i].revised.Store(revision)
	}
	index := uint32(0)
	for ; n > 0; n-- {
		id := AllocID{}
		copy(id[:], r.take(16))
		node := r.uint()
		index += uint32(r.uint())
		grant := r.uint()
		hot := r.hot(c)
		cold := r.text()
		if r.bad || node >= uint64(len(on)) || grant > uint64(len(grants)) {
			return errBlock
		}
		if cold != "" {
			rest := &berthv1.Alloc{}
			if proto.Unmarshal([]byte(cold), rest) != nil {
				return errBlock
			}
			hot.marks = marksOf(rest)
		}
		f := fixedRow{key: keyOf(id), cohort: c.number, node: on[node].number, index: index, grant: uint16(grant - 1)} // 0 is noGrant
		t.insert(f, hot, cold, c, on[node])
	}
	return nil
}

func (r *blockReader) hot(c *cohort) (h hotRow) {
	timed := false
	if states := r.take(2); !r.bad {
		h.desired, h.status, h.statusTime = states[0], states[1]&^noStatusTime, noTime
		timed = states[1]&noStatusTime == 0
	}
	h.version = uint32(min(max(0, int64(c.version)+r.int()), math.MaxUint32))
	h.modifyRevision = c.createRevision + uint64(r.int())
	h.assignRevision = c.createRevision + uint64(r.int())
	h.modifyTime = c.createNano + r.int()
	if timed {
		h.statusTime = h.modifyTime + r.int()
	}
	return h
}

// loaded ends the loading. false: an id was there twice.
func (t *allocTable) loaded() bool {
	t.w.loading = nil
	return !t.w.twice
}
