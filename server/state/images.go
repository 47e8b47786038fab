package state

import (
	"cmp"
	"iter"
	"strings"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// compareImages sorts by name, the newest of a name first.
func compareImages(a, b *berthv1.Image) int {
	return cmp.Or(cmp.Compare(a.GetName(), b.GetName()), cmp.Compare(b.GetModifyRevision(), a.GetModifyRevision()), cmp.Compare(a.GetDigest(), b.GetDigest()))
}

// newestRevision is above every revision, and so before the newest image of a name.
const newestRevision = ^uint64(0)

// Images iterates over the images by name, starting at the first whose name is not below
// start; of each name the newest comes first.
func (t *tables) Images(start string) iter.Seq[*berthv1.Image] {
	return from(t.images, &berthv1.Image{Name: start, ModifyRevision: newestRevision}, nil)
}

// ImagesNamed iterates over the images of a name, the newest first.
func (t *tables) ImagesNamed(name string) iter.Seq[*berthv1.Image] {
	return from(t.images, &berthv1.Image{Name: name, ModifyRevision: newestRevision}, func(i *berthv1.Image) bool {
		return i.GetName() == name
	})
}

// Image gives the image that "name" or "name@sha256:..." means; nil: there is none.
func (t *tables) Image(ref string) *berthv1.Image {
	name, digest, pinned := strings.Cut(ref, "@")
	for i := range t.ImagesNamed(name) {
		if !pinned || i.GetDigest() == digest {
			return i
		}
	}
	return nil
}

// PutImage stores an image, in place of one with its name and digest.
func (tx *Tx) PutImage(i *berthv1.Image) {
	before := tx.Image(i.GetName() + "@" + i.GetDigest())
	if before != nil {
		tx.images.Delete(before)
	}
	tx.images.Set(i)
	tx.changed(change{table: TableImages, key: i.GetName(), after: i, before: orNil(before, before != nil)})
}

// DeleteImage forgets an image.
func (tx *Tx) DeleteImage(name, digest string) {
	if before := tx.Image(name + "@" + digest); before != nil {
		tx.images.Delete(before)
		tx.changed(change{table: TableImages, key: name, before: before})
	}
}
