package guest

import (
	"bufio"
	"bytes"
	"debug/elf"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// modules are what a guest may need and its kernel may not have built in.
var modules = []string{
	"virtio_pci", "virtio_mmio", "virtio_blk", "virtio_scsi", "virtio_net", "virtio_console", "virtio_rng", "virtio_balloon",
	"sd_mod", "sr_mod", "ahci", "nvme", "e1000", "e1000e", "ext4", "isofs", "vfat", "nls_ascii", "nls_cp437",
	"button", "evdev", "gpio_keys", "gpio_pl061", "pvpanic", "pvpanic-mmio", "pvpanic-pci", "i6300esb",
}

// writeInitrd packs busybox, the modules and the init script. It is not compressed: to
// unpack it would cost an emulated machine more than to load it.
func writeInitrd(path, packages, version string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	buffered := bufio.NewWriterSize(f, 1<<20)
	a := &archive{w: buffered}
	for _, d := range []string{"bin", "dev", "etc", "etc/acpi", "etc/acpi/PWRF", "mnt", "modules", "proc", "run", "sys", "tmp"} {
		a.dir(d)
	}
	a.device("dev/console", 5, 1)
	busybox, err := os.ReadFile(filepath.Join(packages, "bin", "busybox"))
	if err != nil {
		return err
	}
	a.file("bin/busybox", 0o755, busybox)
	a.file("init", 0o755, initScript)
	a.file("etc/acpi/PWRF/00000080", 0o755, []byte("#!/bin/sh\necho 'The power button was pressed.' >/dev/console\npoweroff -f\n"))
	order, err := loadOrder(filepath.Join(packages, "lib", "modules", version), modules)
	if err != nil {
		return err
	}
	var list bytes.Buffer
	for _, m := range order {
		a.file("modules/"+m.name+".ko", 0o644, m.content)
		fmt.Fprintln(&list, m.name)
	}
	a.file("modules/order", 0o644, list.Bytes())
	a.end()
	if a.err != nil {
		return a.err
	}
	if err := buffered.Flush(); err != nil {
		return err
	}
	return f.Close()
}

type module struct {
	name    string
	content []byte
}

// loadOrder finds modules below dir, and what they need, each after what it needs. What
// is not there is built into the kernel, or not for this architecture.
func loadOrder(dir string, names []string) ([]module, error) {
	files := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(path, ".ko") {
			files[moduleName(d.Name())] = path
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("looking for modules: %w", err)
	}
	var order []module
	seen := map[string]bool{}
	var add func(name string) error
	add = func(name string) error {
		name = moduleName(name)
		if seen[name] || files[name] == "" {
			return nil
		}
		seen[name] = true
		content, err := os.ReadFile(files[name])
		if err != nil {
			return err
		}
		needs, err := dependsOn(content)
		if err != nil {
			return fmt.Errorf("reading module %s: %w", name, err)
		}
		for _, n := range needs {
			if err := add(n); err != nil {
				return err
			}
		}
		order = append(order, module{name, content})
		return nil
	}
	for _, n := range names {
		if err := add(n); err != nil {
			return nil, err
		}
	}
	return order, nil
}

func moduleName(file string) string {
	return strings.ReplaceAll(strings.TrimSuffix(file, ".ko"), "-", "_")
}

// dependsOn reads the modules that a module needs, also those that it looks for itself.
func dependsOn(content []byte) ([]string, error) {
	f, err := elf.NewFile(bytes.NewReader(content))
	if err != nil {
		return nil, err
	}
	info := f.Section(".modinfo")
	if info == nil {
		return nil, nil
	}
	data, err := info.Data()
	if err != nil {
		return nil, err
	}
	var needs []string
	for entry := range strings.SplitSeq(string(data), "\x00") {
		if list, ok := strings.CutPrefix(entry, "softdep=pre: "); ok {
			needs = append(needs, strings.Fields(list)...)
		}
		if list, ok := strings.CutPrefix(entry, "depends="); ok && list != "" {
			needs = append(needs, strings.Split(list, ",")...)
		}
	}
	// ext4 asks for its checksum by a name that is no module's.
	if bytes.Contains(data, []byte("softdep=pre: crc32c")) {
		needs = append(needs, "crc32c_generic")
	}
	return needs, nil
}
