package shim

import (
	"strconv"

	"github.com/berthd/berth/drivers/cgroup"
)

// Spec is all that a shim and its stages need to know. The agent resolves everything;
// nothing is decided here.
type Spec struct {
	Supervisor
	Process
	View
}

// Supervisor is the shim's own part.
type Supervisor struct {
	BootID       string
	Task         string // name in the log files
	LogsDir      string
	MaxFiles     int
	MaxFileBytes int64
	// ShimProcs and TaskProcs are cgroup.procs files to join.
	ShimProcs, TaskProcs []string
	// Killer kills all of the task's processes.
	Killer cgroup.Killer
	// OOMFile has a line "oom_kill N".
	OOMFile string
	// PIDPrivate: the shim is the first process of a PID namespace.
	PIDPrivate             bool
	IPCPrivate, UTSPrivate bool
}

// Process is what is executed, as whom and with what power.
type Process struct {
	Command  string
	Args     []string
	Env      []string
	WorkDir  string
	UID, GID int
	Groups   []int
	// Bounding is the mask of capabilities that it can ever have, Ambient of those that
	// it has without being root.
	Bounding, Ambient uint64
	NoNewPrivileges   bool
	// Seccomp is a BPF program, 8 bytes an instruction in the host's byte order; empty: none.
	Seccomp     []byte
	Rlimits     []Rlimit
	OOMScoreAdj int
}

// Rlimit is a limit of a process, soft and hard alike.
type Rlimit struct {
	Resource int
	Value    uint64
}

// View is the file system that the task sees.
type View struct {
	// Rootfs is the directory whose entries are shown at the task's root; only those
	// named in Entries, where that is not empty.
	Rootfs   string
	Entries  []string
	ReadOnly bool
	// Binds are mounted in order; their sources are paths on the host without symlinks.
	Binds         []Bind
	ReadOnlyPaths []string
}

// Bind shows Source at Path.
type Bind struct {
	Source, Path string
	Writable     bool
	// Field is what the user called it, for errors; Optional: no error without the source.
	Field    string
	Optional bool
}

// Request is a command to run inside the task (EnterName). An agent may send it to a
// shim of an older build: what is added to it goes to the end, and is optional there.
type Request struct {
	Command       []string
	Env           []string // all of it
	TTY           bool
	Rows, Columns uint16
}

// Encode gives the spec as its memory file holds it.
func (s *Spec) Encode() []byte { e := &codec{writing: true}; s.code(e); return e.buf }

// DecodeSpec reads what Encode wrote; false: it is not one.
func DecodeSpec(b []byte) (*Spec, bool) {
	s, d := &Spec{}, &codec{buf: b}
	s.code(d)
	return s, !d.bad && len(d.buf) == 0
}

// Encode gives the request as it travels.
func (r *Request) Encode() []byte { e := &codec{writing: true}; r.code(e); return e.buf }

// DecodeRequest reads what Encode wrote; false: it is not one.
func DecodeRequest(b []byte) (*Request, bool) {
	r, d := &Request{}, &codec{buf: b}
	r.code(d)
	return r, !d.bad && len(d.buf) == 0
}

func (s *Spec) code(c *codec) {
	c.str(&s.BootID)
	c.str(&s.Task)
	c.str(&s.LogsDir)
	c.int(&s.MaxFiles)
	c.int64(&s.MaxFileBytes)
	c.strs(&s.ShimProcs)
	c.strs(&s.TaskProcs)
	c.str(&s.Killer.KillFile)
	c.str(&s.Killer.FreezeFile)
	c.str(&s.Killer.Procs)
	c.str(&s.OOMFile)
	c.bool(&s.PIDPrivate)
	c.bool(&s.IPCPrivate)
	c.bool(&s.UTSPrivate)

	c.str(&s.Command)
	c.strs(&s.Args)
	c.strs(&s.Env)
	c.str(&s.WorkDir)
	c.int(&s.UID)
	c.int(&s.GID)
	list(c, &s.Groups, func(g *int) { c.int(g) })
	c.uint64(&s.Bounding)
	c.uint64(&s.Ambient)
	c.bool(&s.NoNewPrivileges)
	c.bytes(&s.Seccomp)
	list(c, &s.Rlimits, func(r *Rlimit) { c.int(&r.Resource); c.uint64(&r.Value) })
	c.int(&s.OOMScoreAdj)

	c.str(&s.Rootfs)
	c.strs(&s.Entries)
	c.bool(&s.ReadOnly)
	list(c, &s.Binds, func(b *Bind) {
		c.str(&b.Source)
		c.str(&b.Path)
		c.bool(&b.Writable)
		c.str(&b.Field)
		c.bool(&b.Optional)
	})
	c.strs(&s.ReadOnlyPaths)
}

func (r *Request) code(c *codec) {
	c.strs(&r.Command)
	c.strs(&r.Env)
	c.bool(&r.TTY)
	rows, columns := uint64(r.Rows), uint64(r.Columns)
	c.uint64(&rows)
	c.uint64(&columns)
	r.Rows, r.Columns = uint16(rows), uint16(columns)
}

// codec writes values, or reads them in the same order: numbers as varints, the rest
// with its length before it. Both ends of a Spec are the same build of the same program,
// so it needs no field numbers.
type codec struct {
	writing bool
	buf     []byte
	bad     bool
}

func (c *codec) uint64(v *uint64) {
	if c.writing {
		x := *v
		for ; x >= 0x80; x >>= 7 {
			c.buf = append(c.buf, byte(x)|0x80)
		}
		c.buf = append(c.buf, byte(x))
		return
	}
	var x uint64
	for i := 0; i < len(c.buf) && i < 10; i++ {
		x |= uint64(c.buf[i]&0x7f) << (7 * i)
		if c.buf[i] < 0x80 {
			*v, c.buf = x, c.buf[i+1:]
			return
		}
	}
	c.bad = true
}

// Writing only reads what it codes: specs share their default lists.

func (c *codec) int64(v *int64) {
	u := uint64(*v)
	if c.uint64(&u); !c.writing {
		*v = int64(u)
	}
}

func (c *codec) int(v *int) {
	u := uint64(*v)
	if c.uint64(&u); !c.writing {
		*v = int(u)
	}
}

func (c *codec) bool(v *bool) {
	var u uint64
	if *v {
		u = 1
	}
	if c.uint64(&u); !c.writing {
		*v = u == 1
	}
}

// length codes the length of what follows; a bad one reads as 0.
func (c *codec) length(n int) int {
	u := uint64(n)
	c.uint64(&u)
	if !c.writing && (c.bad || u > uint64(len(c.buf))) {
		c.bad = true
		return 0
	}
	return int(u)
}

func (c *codec) bytes(v *[]byte) {
	n := c.length(len(*v))
	if c.writing {
		c.buf = append(c.buf, *v...)
		return
	}
	*v, c.buf = c.buf[:n:n], c.buf[n:]
}

func (c *codec) str(v *string) {
	b := []byte(*v)
	if c.bytes(&b); !c.writing {
		*v = string(b)
	}
}

func (c *codec) strs(v *[]string) { list(c, v, func(s *string) { c.str(s) }) }

func list[T any](c *codec, v *[]T, item func(*T)) {
	n := c.length(len(*v))
	if !c.writing {
		*v = make([]T, n)
	}
	for i := range *v {
		if c.bad {
			return
		}
		item(&(*v)[i])
	}
}

// Failure is what a stage or shim says when it cannot go on, in the fields of a problem.
type Failure struct {
	Kind, Field, Reason string
}

// The kinds are those of package problem.
const (
	kindInvalid     = "invalid"
	kindUnavailable = "unavailable"
	kindNotFound    = "not_found"
	kindUnsupported = "unsupported"
)

func (f *Failure) Error() string { return f.Reason }

// Encode gives the failure as it travels.
func (f *Failure) Encode() []byte {
	e := &codec{writing: true}
	f.code(e)
	return e.buf
}

// DecodeFailure reads what Encode wrote; false: it is not one.
func DecodeFailure(b []byte) (*Failure, bool) {
	f, d := &Failure{}, &codec{buf: b}
	f.code(d)
	return f, !d.bad && len(d.buf) == 0
}

func (f *Failure) code(c *codec) {
	c.str(&f.Kind)
	c.str(&f.Field)
	c.str(&f.Reason)
}

// failure makes a Failure of an error: what the host lacks now may be there later, what
// the user asked for will stay wrong.
func failure(kind, field, doing string, err error) *Failure {
	return &Failure{Kind: kind, Field: field, Reason: doing + ": " + err.Error()}
}

func itoa(n int) string { return strconv.Itoa(n) }
