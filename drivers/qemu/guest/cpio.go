package guest

import (
	"fmt"
	"io"
)

// archive writes a cpio archive in the format that the kernel unpacks ("newc"). The first
// error sticks.
type archive struct {
	w    io.Writer
	size int // so far
	ino  int
	err  error
}

// Kinds of files, as in st_mode.
const (
	modeDir    = 0o040000
	modeFile   = 0o100000
	modeDevice = 0o020000
)

func (a *archive) dir(name string) { a.entry(name, modeDir|0o755, 0, 0, nil) }

func (a *archive) file(name string, permissions int, content []byte) {
	a.entry(name, modeFile|permissions, 0, 0, content)
}

// device adds a character device.
func (a *archive) device(name string, major, minor int) {
	a.entry(name, modeDevice|0o600, major, minor, nil)
}

// end writes what the kernel looks for at the end.
func (a *archive) end() { a.entry("TRAILER!!!", 0, 0, 0, nil) }

func (a *archive) entry(name string, mode, major, minor int, content []byte) {
	a.ino++
	a.write(fmt.Appendf(nil, "070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X",
		a.ino, mode, 0, 0, 1, 0, len(content), 0, 0, major, minor, len(name)+1, 0))
	a.write(append([]byte(name), 0))
	a.pad()
	a.write(content)
	a.pad()
}

// pad fills up to a multiple of 4 bytes.
func (a *archive) pad() { a.write(make([]byte, -a.size&3)) }

func (a *archive) write(p []byte) {
	if a.err != nil {
		return
	}
	n, err := a.w.Write(p)
	a.size += n
	a.err = err
}
