package shim

import (
	"errors"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// oldRoot is where the host's file system is while the view is made, in the view.
const oldRoot = "/.host"

// Paths that tell of the host or steer it, as container runtimes hide and protect them.
var (
	maskedPaths = []string{
		"/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
		"/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/proc/interrupts", "/sys/firmware",
		"/sys/kernel/debug", "/sys/kernel/tracing", "/sys/devices/virtual/powercap",
	}
	protectedPaths = []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}
)

// makeView makes the file system that the task sees, in a mount namespace of its own: an
// empty root in memory, onto which everything is mounted from the host. Nothing is
// written to the host or the rootfs, and all of it goes with the namespace.
func makeView(v *View, suid, ownIPC bool) *Failure {
	if err := newRoot(); err != nil {
		return failure(kindUnavailable, "", "making the task's root", err)
	}
	m := &mounter{flags: unix.MOUNT_ATTR_NODEV}
	if !suid {
		m.flags |= unix.MOUNT_ATTR_NOSUID
	}
	for _, step := range []func(*View) *Failure{m.entries, m.kernel, m.binds, m.protect} {
		if f := step(v); f != nil {
			return f
		}
	}
	if ownIPC {
		// Best effort: a kernel may lack POSIX message queues.
		if os.Mkdir("/dev/mqueue", 0o755) == nil {
			_ = unix.Mount("mqueue", "/dev/mqueue", "mqueue", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "")
		}
	}
	if err := unix.Unmount(oldRoot, unix.MNT_DETACH); err != nil {
		return failure(kindUnavailable, "", "letting go of the host's file system", err)
	}
	_ = os.Remove(oldRoot)
	if v.ReadOnly || v.Rootfs == "/" {
		if err := remount("/", unix.MOUNT_ATTR_RDONLY, false); err != nil {
			return failure(kindUnavailable, "", "making the root read-only", err)
		}
	}
	return nil
}

// newRoot mounts an empty root and goes there; the host's is at oldRoot.
func newRoot() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
		return err
	}
	// Relative: the state directory is the working directory, and its path may be long.
	if err := unix.Mount("berth", RootDir, "tmpfs", unix.MS_NODEV|unix.MS_NOSUID, "mode=755,size=4m"); err != nil {
		return err
	}
	if err := os.Mkdir(RootDir+oldRoot, 0o700); err != nil {
		return err
	}
	err := unix.PivotRoot(RootDir, RootDir+oldRoot)
	if errors.Is(err, unix.EINVAL) {
		// The host runs from its initial RAM disk, which cannot be pivoted away.
		err = moveRoot()
	}
	if err != nil {
		return err
	}
	return unix.Chdir("/")
}

func moveRoot() error {
	if err := unix.Mount("/", RootDir+oldRoot, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return err
	}
	if err := unix.Chdir(RootDir); err != nil {
		return err
	}
	if err := unix.Mount(".", "/", "", unix.MS_MOVE, ""); err != nil {
		return err
	}
	return unix.Chroot(".")
}

// mounter mounts into a view.
type mounter struct {
	flags uint64 // attributes of everything that comes from the host
}

// entries shows what is at the top of the rootfs.
func (m *mounter) entries(v *View) *Failure {
	names, field := v.Entries, ""
	top := oldRoot + v.Rootfs
	if len(names) == 0 {
		field = "config.rootfs"
		list, err := os.ReadDir(top)
		if err != nil {
			return failure(kindInvalid, field, "reading "+v.Rootfs, err)
		}
		for _, e := range list {
			switch name := e.Name(); name {
			case "proc", "sys", "dev", "tmp":
			default:
				names = append(names, name)
			}
		}
	}
	for _, name := range names {
		if err := m.entry(top+"/"+name, "/"+name, v.ReadOnly || v.Rootfs == "/"); err != nil {
			return failure(kindUnavailable, field, "showing /"+name, err)
		}
	}
	return nil
}

func (m *mounter) entry(source, path string, readOnly bool) error {
	info, err := os.Lstat(source)
	if os.IsNotExist(err) {
		return nil
	} else if err != nil {
		return err
	}
	if info.Mode()&os.ModeSymlink != 0 {
		target, err := os.Readlink(source)
		if err != nil {
			return err
		}
		return os.Symlink(target, path)
	}
	if !info.IsDir() && !info.Mode().IsRegular() {
		return nil // sockets, pipes and devices at the top are the host's business
	}
	return m.bind(source, path, readOnly)
}

// bind shows source at path, which is made if it is not there.
func (m *mounter) bind(source, path string, readOnly bool) error {
	info, err := os.Stat(source)
	if err != nil {
		return err
	}
	if err := makePoint(path, info.IsDir()); err != nil {
		return err
	}
	if err := unix.Mount(source, path, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return err
	}
	flags := m.flags
	if readOnly {
		flags |= unix.MOUNT_ATTR_RDONLY
	}
	return remount(path, flags, true)
}

func makePoint(path string, dir bool) error {
	if _, err := os.Stat(path); err == nil {
		return nil
	}
	if dir {
		return os.MkdirAll(path, 0o755)
	}
	if err := os.MkdirAll(path[:strings.LastIndexByte(path, '/')+1], 0o755); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDONLY|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	return f.Close()
}

// remount sets attributes of a mount, and of all below it where the kernel can (5.12).
func remount(path string, attributes uint64, all bool) error {
	flags := uint(0)
	if all {
		flags = unix.AT_RECURSIVE
	}
	err := unix.MountSetattr(unix.AT_FDCWD, path, flags, &unix.MountAttr{Attr_set: attributes})
	if err != unix.ENOSYS {
		return err
	}
	old := uintptr(unix.MS_REMOUNT | unix.MS_BIND)
	for _, f := range []struct{ attribute, flag uint64 }{
		{unix.MOUNT_ATTR_RDONLY, unix.MS_RDONLY},
		{unix.MOUNT_ATTR_NOSUID, unix.MS_NOSUID},
		{unix.MOUNT_ATTR_NODEV, unix.MS_NODEV},
	} {
		if attributes&f.attribute != 0 {
			old |= uintptr(f.flag)
		}
	}
	return unix.Mount("", path, "", old, "")
}

// binds shows what the driver and the user asked for.
func (m *mounter) binds(v *View) *Failure {
	for _, b := range v.Binds {
		if b.Optional {
			if _, err := os.Stat(oldRoot + b.Source); err != nil {
				continue
			}
		}
		if err := m.bind(oldRoot+b.Source, b.Path, !b.Writable); err != nil {
			if b.Optional {
				continue
			}
			kind := kindInvalid
			if b.Field == "" {
				kind = kindUnavailable
			}
			return failure(kind, b.Field, "showing "+b.Source+" at "+b.Path, err)
		}
	}
	return nil
}

// protect hides and write-protects paths.
func (m *mounter) protect(v *View) *Failure {
	for _, path := range protectedPaths {
		if _, err := os.Stat(path); err != nil {
			continue
		}
		if err := m.readOnly(path); err != nil {
			return failure(kindUnavailable, "", "protecting "+path, err)
		}
	}
	for _, path := range v.ReadOnlyPaths {
		if err := m.readOnly(path); err != nil {
			return failure(kindInvalid, "config.read_only_paths", "protecting "+path, err)
		}
	}
	for _, path := range maskedPaths {
		info, err := os.Stat(path)
		if err != nil {
			continue
		}
		if info.IsDir() {
			err = unix.Mount("berth", path, "tmpfs", unix.MS_RDONLY|unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "size=4k")
		} else {
			err = unix.Mount("/dev/null", path, "", unix.MS_BIND, "")
		}
		if err != nil {
			return failure(kindUnavailable, "", "hiding "+path, err)
		}
	}
	return nil
}

func (m *mounter) readOnly(path string) error {
	if err := unix.Mount(path, path, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return err
	}
	return remount(path, m.flags|unix.MOUNT_ATTR_RDONLY, true)
}

// kernel makes /proc, /sys, /dev.
func (m *mounter) kernel(*View) *Failure {
	const quiet = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
	for _, dir := range []string{"/proc", "/sys", "/dev", "/tmp"} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return failure(kindUnavailable, "", "making "+dir, err)
		}
	}
	if err := unix.Mount("proc", "/proc", "proc", quiet, ""); err != nil {
		return failure(kindUnavailable, "", "mounting /proc", err)
	}
	if err := m.bind(oldRoot+"/sys", "/sys", true); err != nil {
		return failure(kindUnavailable, "", "showing /sys", err)
	}
	if err := m.devices(); err != nil {
		return failure(kindUnavailable, "", "making /dev", err)
	}
	return nil
}

// devices makes a /dev of what every program may expect.
func (m *mounter) devices() error {
	if err := unix.Mount("berth", "/dev", "tmpfs", unix.MS_NOSUID|unix.MS_NOEXEC, "mode=755,size=1m"); err != nil {
		return err
	}
	for _, d := range []struct {
		name         string
		major, minor uint32
	}{
		{"null", 1, 3}, {"zero", 1, 5}, {"full", 1, 7}, {"random", 1, 8}, {"urandom", 1, 9}, {"tty", 5, 0},
	} {
		path := "/dev/" + d.name
		err := unix.Mknod(path, unix.S_IFCHR|0o666, int(unix.Mkdev(d.major, d.minor)))
		if err == nil {
			err = os.Chmod(path, 0o666)
		} else if err = makePoint(path, false); err == nil {
			err = unix.Mount(oldRoot+path, path, "", unix.MS_BIND, "")
		}
		if err != nil {
			return err
		}
	}
	for _, l := range [][2]string{
		{"/proc/self/fd", "/dev/fd"}, {"fd/0", "/dev/stdin"}, {"fd/1", "/dev/stdout"}, {"fd/2", "/dev/stderr"}, {"pts/ptmx", "/dev/ptmx"},
	} {
		if err := os.Symlink(l[0], l[1]); err != nil {
			return err
		}
	}
	for _, mount := range []struct{ dir, kind, options string }{
		{"/dev/pts", "devpts", "newinstance,ptmxmode=0666,mode=0620,gid=5"},
		{"/dev/shm", "tmpfs", "mode=1777"},
	} {
		if err := os.Mkdir(mount.dir, 0o755); err != nil {
			return err
		}
		if err := unix.Mount(mount.kind, mount.dir, mount.kind, unix.MS_NOSUID|unix.MS_NOEXEC, mount.options); err != nil {
			return err
		}
	}
	return nil
}
