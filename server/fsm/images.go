package fsm

import (
	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

func (a *applier) imageRegistered(f *berthv1.ImageRegistered) error {
	i := f.GetImage()
	if i.GetName() == "" || i.GetDigest() == "" {
		return problem.New(problem.Invalid, "image", "an image without a name or digest")
	}
	stored := a.Image(i.GetName() + "@" + i.GetDigest())
	a.PutImage(revised(i, func(n *berthv1.Image) {
		n.CreateRevision = a.Revision()
		if stored != nil {
			n.CreateRevision = stored.GetCreateRevision()
		}
		n.ModifyRevision, n.ImportTime, n.Newest, n.Jobs = a.Revision(), a.timestamp, false, nil
	}))
	return nil
}

func (a *applier) imageDeleted(f *berthv1.ImageDeleted) {
	for _, digest := range f.GetDigests() {
		a.DeleteImage(f.GetName(), digest)
	}
}
