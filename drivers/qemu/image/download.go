package image

import (
	"bytes"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"fmt"
	"hash"
	"os"
	"regexp"
	"strings"

	"golang.org/x/crypto/blake2b"

	"github.com/berthd/berth/problem"
)

// download takes an image's bytes in order. Long runs of zeros become holes.
type download struct {
	file  *os.File
	size  int64 // bytes so far
	limit int64
	room  func(int64) error
	tell  Progress
	told  int64
	total int64 // expected; 0: not known

	sha256, sha512, blake hash.Hash
}

func newDownload(f *os.File, limit int64, room func(int64) error, tell Progress) *download {
	blake, err := blake2b.New512(nil)
	if err != nil {
		panic(err) // a key that is too long; there is none
	}
	return &download{file: f, limit: limit, room: room, tell: tell, sha256: sha256.New(), sha512: sha512.New(), blake: blake}
}

// expect says how many bytes there will be in all.
func (d *download) expect(total int64) error {
	if total > d.limit {
		return problem.New(problem.Invalid, "image", "it is %s, and this host takes up to %s", size(total), size(d.limit))
	}
	d.total = total
	return d.room(total - d.size)
}

var hole [64 << 10]byte

func (d *download) Write(p []byte) (int, error) {
	if d.size+int64(len(p)) > d.limit {
		return 0, problem.New(problem.Invalid, "image", "it is more than %s", size(d.limit))
	}
	for _, h := range []hash.Hash{d.sha256, d.sha512, d.blake} {
		_, _ = h.Write(p) // never fails
	}
	for n := 0; n < len(p); {
		part := p[n:min(len(p), n+len(hole))]
		if !bytes.Equal(part, hole[:len(part)]) {
			if _, err := d.file.WriteAt(part, d.size); err != nil {
				return n, err
			}
		}
		n += len(part)
		d.size += int64(len(part))
	}
	if d.size-d.told >= 64<<20 {
		d.told = d.size
		words := "fetched " + size(d.size)
		if d.total > 0 {
			words += " of " + size(d.total)
		}
		d.tell(words)
	}
	return len(p), nil
}

// finish compares what came with the checksum, if there is one.
func (d *download) finish(checksum string) error {
	if err := d.file.Truncate(d.size); err != nil {
		return err
	}
	if checksum == "" {
		return nil
	}
	kind, want, _ := strings.Cut(checksum, ":")
	h := d.sha256
	if kind == "sha512" {
		h = d.sha512
	}
	if got := hex.EncodeToString(h.Sum(nil)); !strings.EqualFold(got, want) {
		return problem.New(problem.Invalid, "checksum", "it does not match: what came is %s:%s", kind, got).
			WithRemedy("if the source has a new image, take its checksum from where you trust it")
	}
	return nil
}

func (d *download) digest() string { return "sha256:" + hex.EncodeToString(d.sha256.Sum(nil)) }

var checksums = regexp.MustCompile(`^(sha256:[0-9a-fA-F]{64}|sha512:[0-9a-fA-F]{128})$`)

func checkSum(text string) error {
	if text != "" && !checksums.MatchString(text) {
		return problem.New(problem.Invalid, "checksum", "%q is neither sha256:<64 hex digits> nor sha512:<128 hex digits>", text)
	}
	return nil
}

func digestOf(text string) string { return fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(text))) }
