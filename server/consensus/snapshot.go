package consensus

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/hashicorp/raft"

	"github.com/berthd/berth/problem"
)

// A snapshot file is: the 8 bytes "BERTHSNP", the length of the header (4 bytes, little
// endian), the header (JSON of SnapshotInfo), what the FSM wrote (SnapshotInfo.Size
// bytes), and the SHA-256 of all that. Nothing follows.
const (
	snapshotMagic  = "BERTHSNP"
	snapshotFormat = 1
	maxInfo        = 1 << 20 // bytes of header; what is longer is no snapshot
)

// SnapshotInfo is the header of a snapshot file.
type SnapshotInfo struct {
	Format  int       `json:"format"`
	Cluster string    `json:"cluster"`
	Server  string    `json:"server"` // ID of who wrote it
	Version string    `json:"version"`
	Created time.Time `json:"created"`
	Index   uint64    `json:"index"` // newest entry in it
	Term    uint64    `json:"term"`
	Size    int64     `json:"size"` // bytes of the FSM's part
}

// errSnapshot makes the problem of a file that cannot be used.
func errSnapshot(format string, args ...any) error {
	return problem.New(problem.Invalid, "snapshot", format, args...).
		WithRemedy("nothing was changed; take another copy of the file, or an older snapshot")
}

// SaveSnapshot writes the whole state as one file. Any server can; the state is as new as that server's.
func (c *Consensus) SaveSnapshot(ctx context.Context, w io.Writer) (SnapshotInfo, error) {
	var future raft.SnapshotFuture
	err := c.await(ctx, "taking a snapshot", func(r *running) raft.Future {
		future = r.raft.Snapshot()
		return future
	})
	if errors.Is(err, raft.ErrNothingNewToSnapshot) {
		return SnapshotInfo{}, problem.New(problem.Unavailable, "", "this server has no state yet").WithRemedy("try again once the cluster has a leader")
	}
	if err != nil {
		return SnapshotInfo{}, err
	}
	m, r, err := future.Open()
	if err != nil {
		return SnapshotInfo{}, storeProblem(c.stores.dir, snapshotsDir, fmt.Errorf("reading the snapshot: %w: %w", errDamaged, err))
	}
	defer func() { _ = r.Close() }()
	info := SnapshotInfo{Format: snapshotFormat, Cluster: c.conf.Cluster, Server: c.conf.ID, Version: c.conf.Version,
		Created: time.Now().UTC(), Index: m.Index, Term: m.Term, Size: m.Size}
	return info, writeSnapshot(w, info, r)
}

func writeSnapshot(w io.Writer, info SnapshotInfo, state io.Reader) error {
	header, err := json.Marshal(info)
	if err != nil {
		return err
	}
	sum := sha256.New()
	both := io.MultiWriter(w, sum)
	head := append([]byte(snapshotMagic), binary.LittleEndian.AppendUint32(nil, uint32(len(header)))...)
	if _, err := both.Write(append(head, header...)); err != nil {
		return fmt.Errorf("writing the snapshot: %w", err)
	}
	n, err := io.Copy(both, state)
	if err == nil && n != info.Size {
		err = fmt.Errorf("the state has %d bytes, and %d were announced", n, info.Size)
	}
	if err == nil {
		_, err = w.Write(sum.Sum(nil))
	}
	if err != nil {
		return fmt.Errorf("writing the snapshot: %w", err)
	}
	return nil
}

// ReadSnapshot checks a snapshot file and copies the FSM's part to w, which may be nil. What w got is good
// only if there is no error.
func ReadSnapshot(r io.Reader, w io.Writer) (SnapshotInfo, error) {
	if w == nil {
		w = io.Discard
	}
	in := bufio.NewReader(r)
	sum := sha256.New()
	hashed := io.TeeReader(in, sum)
	var head [len(snapshotMagic) + 4]byte
	if _, err := io.ReadFull(hashed, head[:]); err != nil {
		return SnapshotInfo{}, shortSnapshot(err)
	}
	if string(head[:len(snapshotMagic)]) != snapshotMagic {
		return SnapshotInfo{}, errSnapshot("it is no snapshot of Berth")
	}
	n := binary.LittleEndian.Uint32(head[len(snapshotMagic):])
	if n > maxInfo {
		return SnapshotInfo{}, errSnapshot("its header is damaged")
	}
	header := make([]byte, n)
	if _, err := io.ReadFull(hashed, header); err != nil {
		return SnapshotInfo{}, shortSnapshot(err)
	}
	var info SnapshotInfo
	if err := json.Unmarshal(header, &info); err != nil || info.Size < 0 {
		return SnapshotInfo{}, errSnapshot("its header is damaged")
	}
	if info.Format != snapshotFormat {
		return SnapshotInfo{}, problem.New(problem.Unsupported, "snapshot", "it has format %d, and this server reads %d", info.Format, snapshotFormat).
			WithRemedy("restore it with the Berth version that wrote it, %s", info.Version)
	}
	// Reading errors come from r, writing errors from w; they are told apart by what is
	// missing.
	copied, err := io.CopyN(w, hashed, info.Size)
	if err != nil && !errors.Is(err, io.EOF) {
		return info, fmt.Errorf("reading the snapshot after %d bytes of state: %w", copied, err)
	}
	if err != nil {
		return info, shortSnapshot(err)
	}
	trailer := make([]byte, sha256.Size)
	if _, err := io.ReadFull(in, trailer); err != nil {
		return info, shortSnapshot(err)
	}
	if !bytes.Equal(trailer, sum.Sum(nil)) {
		return info, errSnapshot("its checksum does not match: it is damaged")
	}
	switch _, err := in.ReadByte(); {
	case err == nil:
		return info, errSnapshot("something follows its end: it is damaged")
	case !errors.Is(err, io.EOF):
		return info, fmt.Errorf("reading the snapshot: %w", err)
	}
	return info, nil
}

func shortSnapshot(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errSnapshot("it is cut short")
	}
	return fmt.Errorf("reading the snapshot: %w", err)
}

// RestoreSnapshot replaces the whole state of the cluster by that of a snapshot file,
// which is read and checked to its end before anything changes. Leader only. The duties of the
// leader begin anew.
func (c *Consensus) RestoreSnapshot(ctx context.Context, file io.Reader) (SnapshotInfo, error) {
	if err := c.VerifyLeader(ctx); err != nil {
		return SnapshotInfo{}, err
	}
	spool, err := os.CreateTemp(c.conf.DataDir, "restore-*")
	if err != nil {
		return SnapshotInfo{}, storeProblem(c.conf.DataDir, "", err)
	}
	defer func() { _ = errors.Join(spool.Close(), os.Remove(spool.Name())) }()
	info, err := ReadSnapshot(file, spool)
	if err != nil {
		return info, err
	}
	if c.conf.CheckSnapshot != nil {
		if _, err := spool.Seek(0, io.SeekStart); err != nil {
			return info, storeProblem(c.conf.DataDir, filepath.Base(spool.Name()), err)
		}
		if err := c.conf.CheckSnapshot(bufio.NewReader(spool)); err != nil {
			return info, fmt.Errorf("checking the snapshot's content: %w", err)
		}
	}
	if _, err := spool.Seek(0, io.SeekStart); err != nil {
		return info, storeProblem(c.conf.DataDir, filepath.Base(spool.Name()), err)
	}
	if err := c.restore(ctx, info, bufio.NewReader(spool)); err != nil {
		return info, err
	}
	c.logger.Info("a snapshot was restored", "index", info.Index, "from_cluster", info.Cluster, "written", info.Created)
	return info, nil
}

// restore has Raft take the state. It is not given up half way when ctx ends.
func (c *Consensus) restore(ctx context.Context, info SnapshotInfo, state io.Reader) error {
	err := c.await(context.WithoutCancel(ctx), "restoring the snapshot", func(r *running) raft.Future {
		err := r.raft.Restore(&raft.SnapshotMeta{Version: 1, Index: info.Index, Term: info.Term, Size: info.Size}, state, 0)
		poke(r.renew)
		return done{err}
	})
	return err
}

// done is a raft.Future that is settled.
type done struct{ err error }

func (d done) Error() error { return d.err }
