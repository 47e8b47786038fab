package inventory

import (
	"path"
	"regexp"
	"strings"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// readNICs reads the network interfaces that are hardware. Those that only software
// made, and virtual functions beside their physical one, come and go with workloads and
// are no part of the node.
func readNICs(t tree) []*berthv1.Nic {
	var nics []*berthv1.Nic
	for _, name := range t.names("sys/class/net") {
		class := path.Join("sys/class/net", name)
		d := t.device(class)
		if d.path == "" || t.exists(d.path+"/physfn") {
			continue
		}
		nic := &berthv1.Nic{
			Name: name, Mac: t.text(class + "/address"), Mtu: uint32(t.count(class + "/mtu")),
			Driver: t.base(d.path + "/driver"), PciAddress: d.pci, Cell: d.cell,
			VfTotal: uint32(t.count(d.path + "/sriov_totalvfs")), VfCount: uint32(t.count(d.path + "/sriov_numvfs")),
		}
		nic.Up = t.text(class+"/operstate") == "up"
		if n, ok := t.number(class + "/speed"); ok && n > 0 && n < 1<<31 {
			nic.SpeedMbit = uint32(n)
		}
		nics = append(nics, nic)
	}
	return nics
}

// notDisks are block devices that are no disk of the host.
var notDisks = regexp.MustCompile(`^(loop|ram|zram|dm-|md|sr|fd|nbd|rbd|drbd|zd|mtdblock)\d*|^mmcblk\d+(boot|rpmb)`)

// readDisks reads the block devices that are hardware.
func readDisks(t tree) []*berthv1.Disk {
	var disks []*berthv1.Disk
	for _, name := range t.names("sys/block") {
		class := path.Join("sys/block", name)
		if notDisks.MatchString(name) {
			continue
		}
		d := t.device(class)
		size := t.count(class+"/size") / 2048 // of 512 bytes, whatever the disk's own are
		if d.path == "" || size == 0 || t.count(class+"/removable") == 1 && strings.HasPrefix(name, "sr") {
			continue
		}
		disks = append(disks, &berthv1.Disk{
			Name: name, SizeMib: size, Rotational: t.count(class+"/queue/rotational") == 1,
			Model: t.text(d.path + "/model"), Serial: firstText(t, d.path+"/serial", class+"/serial"),
			Wwn:        firstText(t, class+"/wwid", d.path+"/wwid"),
			PciAddress: d.pci, Cell: d.cell,
		})
	}
	return disks
}

func firstText(t tree, names ...string) string {
	for _, name := range names {
		if text := t.text(name); text != "" {
			return text
		}
	}
	return ""
}
