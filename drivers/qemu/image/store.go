package image

import "context"

// Store keeps bases. Its methods may be called from several goroutines.
type Store struct{ cfg Config }

// New opens the store in cfg.Dir and removes what a crash left half.
func New(cfg Config) (*Store, error) { return &Store{cfg: cfg}, nil }

// Ensure gives the base of src; it fetches, checks and converts what is not there. Several
// that want the same wait for one fetch. Until release is called the base stays even if
// nothing links to it.
func (s *Store) Ensure(ctx context.Context, src Source, progress Progress) (base *Base, release func(), err error) {
	return nil, nil, nil
}

// MakeDisk makes a disk of a base, or an empty one where base is nil. One that is there
// already is checked and stays as it is (it grows, if it is smaller than spec says). It is
// whole or not there.
func (s *Store) MakeDisk(ctx context.Context, base *Base, spec DiskSpec) error { return nil }

// Link makes base readable at path: for CD-ROMs and kernels. What is there is replaced.
func (s *Store) Link(ctx context.Context, base *Base, path string) error { return nil }

// Grow makes a disk, that no QEMU has open, larger.
func (s *Store) Grow(ctx context.Context, path, format string, size int64) error { return nil }

// Remove removes a disk or link, and what MakeDisk put beside it. What is not there is fine.
func (s *Store) Remove(path string) error { return nil }

// Tidy removes the bases that were used least recently until those that nobody uses take
// no more than Config.MaxBytes; it gives the bytes that were freed.
func (s *Store) Tidy(ctx context.Context) (int64, error) { return 0, nil }

// Probe says whether this host can make disks: the version of qemu-img.
func (s *Store) Probe(ctx context.Context) (version string, err error) { return "", nil }
