package qemu

import (
	"encoding/binary"
	"errors"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"github.com/berthd/berth/drivers/logs"
)

// tail moves what QEMU appends to a file into the task's logs, and gives back the disk
// that the file takes by punching holes into what was moved. How far it has come is in a
// file beside it, so that nothing is lost or comes twice when the agent dies between two
// pieces.
type tail struct {
	file, place *os.File
	at, punched int64
	logs        *logs.Writer
	buf         []byte
}

// placeSuffix names the file that says how far a file has been moved.
const placeSuffix = ".moved"

// openTail goes on where the last one stopped.
func openTail(path string, w *logs.Writer) (*tail, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	place, err := os.OpenFile(path+placeSuffix, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		file.Close()
		return nil, err
	}
	t := &tail{file: file, place: place, logs: w, buf: make([]byte, 32<<10)}
	var b [8]byte
	if _, err := place.ReadAt(b[:], 0); err == nil {
		t.at = int64(binary.LittleEndian.Uint64(b[:]))
	}
	if size, err := file.Seek(0, io.SeekEnd); err == nil {
		t.at = min(max(t.at, 0), size)
	}
	return t, nil
}

func (t *tail) close() {
	t.file.Close()
	t.place.Close()
	t.logs.Close()
}

// move moves all that there is; seen gets it as well.
func (t *tail) move(seen func([]byte)) error {
	for {
		n, err := t.file.ReadAt(t.buf, t.at)
		if n > 0 {
			_, _ = t.logs.Write(t.buf[:n]) // it never fails
			t.at += int64(n)
			var b [8]byte
			binary.LittleEndian.PutUint64(b[:], uint64(t.at))
			if _, err := t.place.WriteAt(b[:], 0); err != nil {
				return err
			}
			seen(t.buf[:n])
			t.punch()
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// punch gives back what was moved, a good piece at a time. Where the file system cannot,
// the file keeps its size.
func (t *tail) punch() {
	const piece = 256 << 10
	if n := (t.at - t.punched) &^ (piece - 1); n > 0 {
		_ = unix.Fallocate(int(t.file.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, t.punched, n)
		t.punched += n
	}
}
