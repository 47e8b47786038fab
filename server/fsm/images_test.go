package fsm

import (
	"bytes"
	"slices"
	"testing"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/server/state"
)

func TestImages(t *testing.T) {
	w := newWorld(t)
	register := func(name, digest string) error {
		return w.put(&berthv1.LogEntry{Fact: &berthv1.LogEntry_ImageRegistered{ImageRegistered: &berthv1.ImageRegistered{
			Image: &berthv1.Image{Name: name, Digest: digest, Newest: true, Jobs: []string{"x"}},
		}}})
	}
	remove := func(name string, digests ...string) {
		t.Helper()
		if err := w.put(&berthv1.LogEntry{Fact: &berthv1.LogEntry_ImageDeleted{ImageDeleted: &berthv1.ImageDeleted{Name: name, Digests: digests}}}); err != nil {
			t.Fatal(err)
		}
	}
	digests := func(name string) (all []string) {
		for i := range w.store.View().ImagesNamed(name) {
			all = append(all, i.GetDigest())
		}
		return all
	}
	for _, digest := range []string{"a", "b", "a"} {
		if err := register("debian", digest); err != nil {
			t.Fatal(err)
		}
	}
	if err := register("debian", ""); err == nil {
		t.Error("an image without a digest was taken")
	}
	_ = register("debian-13", "c")
	if got := digests("debian"); !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("%v: the one that was imported last is to be the first", got)
	}
	view := w.store.View()
	a := view.Image("debian")
	if a.GetDigest() != "a" || a.GetCreateRevision() >= a.GetModifyRevision() || a.GetNewest() || a.GetJobs() != nil || a.GetImportTime() == nil {
		t.Errorf("%v", a)
	}
	if view.Image("debian@b").GetDigest() != "b" || view.Image("debian@c") != nil || view.Image("deb") != nil {
		t.Error("found by another name or digest")
	}
	var b bytes.Buffer
	if err := view.Write(&b); err != nil {
		t.Fatal(err)
	}
	restored, err := state.Read(&b)
	if err != nil || !bytes.Equal(restored.View().Hash(), view.Hash()) || restored.View().Image("debian@b") == nil {
		t.Errorf("a snapshot lost images: %v", err)
	}
	remove("debian", "a", "none")
	if got := digests("debian"); !slices.Equal(got, []string{"b"}) {
		t.Errorf("%v", got)
	}
	if changes, ok := w.store.Changes(view.Revision(), 10); len(changes) != 1 || changes[0].Table != state.TableImages || changes[0].Item() != nil {
		t.Errorf("%v, %v", changes, ok)
	}
	remove("debian", "b")
	if w.store.View().Image("debian") != nil || w.store.View().Image("debian-13") == nil {
		t.Error("not what was to be forgotten")
	}
}
