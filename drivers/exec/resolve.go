package exec

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"

	"github.com/moby/sys/user"
	"golang.org/x/sys/unix"

	"github.com/berthd/berth/drivers"
	"github.com/berthd/berth/drivers/config"
	"github.com/berthd/berth/drivers/exec/shim"
	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

type execConfig = berthv1.ExecConfig

// Where a task finds its directories.
const (
	localDir   = "/local"
	sharedDir  = "/alloc"
	secretsDir = "/secrets"
)

// hostEntries are what a task without a rootfs sees of the host, read-only.
var hostEntries = []string{"bin", "sbin", "lib", "lib32", "lib64", "libx32", "usr", "etc", "opt"}

// defaultUser is who a task runs as that names nobody: nobody.
var defaultUser = user.ExecUser{Uid: 65534, Gid: 65534}

// resolve makes of a task all that its shim needs to know, but for the cgroups. Its
// errors are of the task's config and name the field.
func (d *Driver) resolve(t *drivers.Task) (*shim.Spec, error) {
	c, err := decode(t)
	if err != nil {
		return nil, err
	}
	for _, dir := range []string{t.Dirs.Task, t.Dirs.Logs, t.Dirs.State} {
		if !filepath.IsAbs(dir) {
			return nil, problem.New(problem.Internal, "dirs", "task, logs and state directories must be absolute, one is %q", dir)
		}
	}
	s := &shim.Spec{}
	s.Supervisor = shim.Supervisor{
		BootID: bootID(), Task: t.Name, LogsDir: t.Dirs.Logs,
		MaxFiles: t.Logs.MaxFiles, MaxFileBytes: t.Logs.MaxFileBytes,
		PIDPrivate: c.GetPidMode() == "private", IPCPrivate: c.GetIpcMode() == "private", UTSPrivate: c.GetUtsMode() == "private",
	}
	s.Process = shim.Process{
		Command: c.GetCommand(), Args: c.GetArgs(), Env: environment(t), WorkDir: localDir,
		NoNewPrivileges: c.NoNewPrivileges == nil || c.GetNoNewPrivileges(),
		Rlimits:         rlimits(c.GetRlimits()), OOMScoreAdj: int(c.GetOomScoreAdj()),
	}
	if c.GetWorkDir() != "" {
		s.WorkDir = c.GetWorkDir()
		if !filepath.IsAbs(s.WorkDir) {
			return nil, problem.New(problem.Invalid, "config.work_dir", "%q is not an absolute path", s.WorkDir)
		}
	}
	if err := resolveView(t, c, &s.View); err != nil {
		return nil, err
	}
	if err := resolveUser(t.User, s.Rootfs, &s.Process); err != nil {
		return nil, err
	}
	if s.Bounding, s.Ambient, err = capabilities(c, s.UID); err != nil {
		return nil, err
	}
	if c.GetSeccomp() == "default" && seccompAvailable() {
		if s.Seccomp, err = seccompFilter(); err != nil {
			return nil, problem.New(problem.Internal, "config.seccomp", "building the filter: %w", err)
		}
	}
	return s, nil
}

func decode(t *drivers.Task) (*execConfig, error) {
	c := &execConfig{}
	if err := config.Decode(t.Config, c); err != nil {
		return nil, err
	}
	if strings.TrimSpace(c.GetCommand()) == "" {
		return nil, problem.New(problem.Invalid, "config.command", "is empty")
	}
	return c, nil
}

// environment is the task's, sorted. The agent gives directories by their paths on the
// host; where a value begins with one, the task gets the path by which it sees it.
func environment(t *drivers.Task) []string {
	paths := []struct{ host, seen string }{
		{t.Dirs.Task, localDir}, {t.Dirs.Shared, sharedDir}, {t.Dirs.Secrets, secretsDir},
	}
	env := map[string]string{"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": localDir}
	for k, v := range t.Env {
		for _, p := range paths {
			if p.host != "" && (v == p.host || strings.HasPrefix(v, p.host+"/")) {
				v = p.seen + strings.TrimPrefix(v, p.host)
				break
			}
		}
		env[k] = v
	}
	return sorted(env)
}

func sorted(env map[string]string) []string {
	list := make([]string, 0, len(env))
	for k, v := range env {
		list = append(list, k+"="+v)
	}
	sort.Strings(list)
	return list
}

func resolveView(t *drivers.Task, c *execConfig, v *shim.View) error {
	v.Rootfs, v.ReadOnly = "", c.GetReadOnlyRootfs()
	if c.GetRootfs() == "" {
		v.Entries, v.ReadOnly = hostEntries, true
	} else {
		path, err := hostPath("config.rootfs", c.GetRootfs())
		if err != nil {
			return err
		}
		if info, err := os.Stat(path); err != nil || !info.IsDir() {
			return problem.New(problem.Invalid, "config.rootfs", "%s is not a directory", c.GetRootfs())
		}
		v.Rootfs = path
	}
	v.Binds = append(v.Binds, resolver(c)...)
	for _, dir := range []struct{ host, seen string }{
		{filepath.Join(t.Dirs.Task, "tmp"), "/tmp"}, {t.Dirs.Task, localDir}, {t.Dirs.Shared, sharedDir}, {t.Dirs.Secrets, secretsDir},
	} {
		if filepath.IsAbs(dir.host) {
			v.Binds = append(v.Binds, shim.Bind{Source: dir.host, Path: dir.seen, Writable: true})
		}
	}
	for i, m := range c.GetMounts() {
		at := fmt.Sprintf("config.mount[%d]", i)
		source, err := hostPath(at+".host_path", m.GetHostPath())
		if err != nil {
			return err
		}
		if path := m.GetPath(); !filepath.IsAbs(path) || filepath.Clean(path) == "/" {
			return problem.New(problem.Invalid, at+".path", "%q is not an absolute path below /", path)
		}
		v.Binds = append(v.Binds, shim.Bind{Source: source, Path: filepath.Clean(m.GetPath()), Writable: m.GetWritable(), Field: at + ".path"})
	}
	for _, p := range c.GetReadOnlyPaths() {
		if !filepath.IsAbs(p) {
			return problem.New(problem.Invalid, "config.read_only_paths", "%q is not an absolute path", p)
		}
		v.ReadOnlyPaths = append(v.ReadOnlyPaths, filepath.Clean(p))
	}
	return nil
}

// resolver shows the host's name resolution: the network is the host's, too. Where
// /etc/resolv.conf is a link into /run, which a task does not see, its target is shown.
func resolver(c *execConfig) []shim.Bind {
	const file = "/etc/resolv.conf"
	target, err := filepath.EvalSymlinks(file)
	if err != nil {
		return nil
	}
	if c.GetRootfs() != "" {
		if _, err := os.Stat(c.GetRootfs() + file); err != nil {
			return nil
		}
		return []shim.Bind{{Source: target, Path: file, Optional: true}}
	}
	if strings.HasPrefix(target, "/run/") {
		return []shim.Bind{{Source: target, Path: target, Optional: true}}
	}
	return nil
}

// hostPath resolves a path on the host to one without symlinks.
func hostPath(field, path string) (string, error) {
	if !filepath.IsAbs(path) {
		return "", problem.New(problem.Invalid, field, "%q is not an absolute path", path)
	}
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return "", problem.New(problem.Invalid, field, "the host has no %s: %w", path, errors.Unwrap(err))
	}
	return real, nil
}

// resolveUser finds the user and groups in the task's file system, or takes numbers.
func resolveUser(name, rootfs string, p *shim.Process) error {
	if name == "" {
		p.UID, p.GID = defaultUser.Uid, defaultUser.Gid
		return nil
	}
	passwd, group := readIn(rootfs, "etc/passwd"), readIn(rootfs, "etc/group")
	defaults := defaultUser
	u, err := user.GetExecUser(name, &defaults, passwd, group)
	if err != nil {
		return problem.New(problem.Invalid, "user", "%q: %s", name, err.Error()).
			WithRemedy("name a user that the node or the rootfs has, or numbers such as 1000:1000")
	}
	p.UID, p.GID, p.Groups = u.Uid, u.Gid, u.Sgids
	return nil
}

// readIn reads a file below a root, never following a link out of it.
func readIn(root, file string) io.Reader {
	f, err := os.OpenInRoot(filepath.Join("/", root), file)
	if err != nil {
		return strings.NewReader("")
	}
	defer f.Close()
	const most = 16 << 20
	b, err := io.ReadAll(io.LimitReader(f, most))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return strings.NewReader("")
	}
	return bytes.NewReader(b)
}

func rlimits(r *berthv1.ExecRlimits) []shim.Rlimit {
	if r == nil {
		return nil
	}
	var list []shim.Rlimit
	for _, l := range []struct {
		resource int
		value    *uint64
	}{
		{unix.RLIMIT_NOFILE, r.Nofile}, {unix.RLIMIT_NPROC, r.Nproc}, {unix.RLIMIT_CORE, r.Core},
		{unix.RLIMIT_MEMLOCK, r.Memlock}, {unix.RLIMIT_STACK, r.Stack}, {unix.RLIMIT_FSIZE, r.Fsize},
		{unix.RLIMIT_MSGQUEUE, r.Msgqueue}, {unix.RLIMIT_SIGPENDING, r.Sigpending},
	} {
		if l.value != nil {
			list = append(list, shim.Rlimit{Resource: l.resource, Value: *l.value})
		}
	}
	return list
}

func itoa(n uint32) string { return strconv.FormatUint(uint64(n), 10) }
