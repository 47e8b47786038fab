package inventory

import (
	"context"
	"io/fs"
	"path/filepath"
	"runtime"
	"slices"

	"github.com/shirou/gopsutil/v3/disk"
	"github.com/shirou/gopsutil/v3/host"
	"github.com/shirou/gopsutil/v3/mem"
	"github.com/vishvananda/netlink"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// ask fills in what sysfs and procfs did not tell, from the running system.
func (i *Inventory) ask(ctx context.Context, r *Reading) {
	r.Arch = runtime.GOARCH
	r.Attributes[AttrCPUArch] = runtime.GOARCH
	if i.platform == nil {
		i.platform = askPlatform(ctx)
	}
	for name, value := range i.platform {
		if v := r.Attributes[name]; v == "" || name == AttrVirtualization && v == "unknown" {
			attributes(r.Attributes).text(name, value)
		}
	}
	if cells := r.Hardware.GetCells(); len(cells) == 1 && cells[0].GetMemoryMib() == 0 {
		if vm, err := mem.VirtualMemoryWithContext(ctx); err == nil {
			cells[0].MemoryMib = vm.Total >> 20
			attributes(r.Attributes).hardware(r.Hardware)
		}
	}
	addAddresses(r.Hardware.GetNics())
}

// askPlatform asks for what does not change while the system runs.
func askPlatform(ctx context.Context) map[string]string {
	p := map[string]string{}
	if id, _, version, err := host.PlatformInformationWithContext(ctx); err == nil {
		p[AttrOSID], p[AttrOSVersion] = id, version
	}
	if version, err := host.KernelVersionWithContext(ctx); err == nil {
		p[AttrKernelVersion] = version
	}
	if system, role, err := host.VirtualizationWithContext(ctx); err == nil && role == "guest" {
		p[AttrVirtualization] = system
	}
	return p
}

// addAddresses gives NICs their addresses, with prefix lengths. A NIC that is part of a
// bridge or bond has those of its master.
func addAddresses(nics []*berthv1.Nic) {
	for _, nic := range nics {
		link, err := netlink.LinkByName(nic.GetName())
		if err != nil {
			continue
		}
		links := []netlink.Link{link}
		if master, err := netlink.LinkByIndex(link.Attrs().MasterIndex); link.Attrs().MasterIndex > 0 && err == nil {
			links = append(links, master)
		}
		for _, l := range links {
			addrs, err := netlink.AddrList(l, netlink.FAMILY_ALL)
			if err != nil {
				continue
			}
			for _, a := range addrs {
				if a.IPNet != nil && !a.IP.IsLinkLocalUnicast() {
					nic.Addresses = append(nic.Addresses, a.IPNet.String())
				}
			}
		}
		slices.Sort(nic.Addresses)
	}
}

// diskSpace is the disk that allocations may take: what was free when the agent first
// looked, and what allocations had of it then. Looking again would count what they
// write as the node's loss.
type diskSpace struct{ total, mib uint64 }

func (d *diskSpace) readMiB(dataDir string) uint64 {
	use, err := disk.Usage(dataDir)
	if err != nil {
		return d.mib
	}
	if use.Total != d.total {
		d.total = use.Total
		d.mib = (use.Free + usedBy(filepath.Join(dataDir, "allocs"))) >> 20
	}
	return d.mib
}

// usedBy adds up the sizes of the files in a directory, in bytes.
func usedBy(dir string) uint64 {
	var sum uint64
	_ = filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return nil
		}
		if info, err := e.Info(); err == nil {
			sum += uint64(max(0, info.Size()))
		}
		return nil
	})
	return sum
}
