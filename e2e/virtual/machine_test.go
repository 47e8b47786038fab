package virtual

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// machine writes the sysfs and procfs of a host with one cell.
func machine(t *testing.T, root string, cpus, memMiB int) {
	t.Helper()
	write := func(path, text string) {
		full := filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(full, []byte(text+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	all := fmt.Sprintf("0-%d", cpus-1)
	meminfo := fmt.Sprintf("MemTotal: %d kB\nMemFree: %d kB", memMiB*1024, memMiB*1024)
	for _, name := range []string{"online", "present", "possible"} {
		write("sys/devices/system/cpu/"+name, all)
	}
	for i := range cpus {
		topology := fmt.Sprintf("sys/devices/system/cpu/cpu%d/topology/", i)
		write(topology+"physical_package_id", "0")
		write(topology+"core_id", fmt.Sprint(i))
		write(topology+"thread_siblings_list", fmt.Sprint(i))
		write(topology+"core_cpus_list", fmt.Sprint(i))
	}
	write("sys/devices/system/node/online", "0")
	write("sys/devices/system/node/node0/cpulist", all)
	write("sys/devices/system/node/node0/distance", "10")
	write("sys/devices/system/node/node0/meminfo", fmt.Sprintf("Node 0 MemTotal: %d kB\nNode 0 MemFree: %d kB", memMiB*1024, memMiB*1024))
	write("proc/meminfo", meminfo)
	write("proc/sys/kernel/random/boot_id", "11111111-2222-4333-8444-555555555555")
	write("proc/version", "Linux version 6.1.0")
	write("proc/uptime", "1000.00 1000.00")
}
