package machine

import (
	"fmt"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

const (
	// disksOfController is how many disks a SATA or SCSI controller takes.
	sataDisks, scsiDisks = 6, 255
	// longestSerial is NVMe's and virtio's bound; a disk's name is its serial number.
	longestSerial = 20
)

// disks writes the disks, and the controllers of those that need one.
func (b *builder) disks() error {
	sata, scsi := 0, 0
	for i := range b.in.Disks {
		d := &b.in.Disks[i]
		b.diskNodes(d)
		p := props{{"id", DiskID(d.Config.GetName())}, {"drive", NodeOf(DiskID(d.Config.GetName()), limited(d.Config))}}
		var err error
		switch bus := d.Config.GetBus(); bus {
		case "nvme":
			err = b.nvme(d, p, i)
		case "sata":
			err = b.sata(d, p, sata)
			sata++
		case "scsi":
			err = b.scsi(d, p, scsi, i)
			scsi++
		default:
			p = append(props{{"driver", b.board.virtio("blk")}}, p...).with("serial", d.Config.GetName())
			err = b.plugged(b.iothread(b.blockProps(d, p), i), -1)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (b *builder) nvme(d *Disk, p props, i int) error {
	if b.board.microvm() || d.Config.GetReadOnly() {
		return b.wrongBus(d, i, "nvme")
	}
	p = append(props{{"driver", "nvme"}}, p...).with("serial", d.Config.GetName())
	return b.plugged(b.boots(p, DiskID(d.Config.GetName())), -1)
}

func (b *builder) sata(d *Disk, p props, n int) error {
	if b.board.microvm() || d.Config.GetReadOnly() {
		return b.wrongBus(d, n, "sata")
	}
	controller := fmt.Sprintf("sata%d", n/sataDisks)
	if n%sataDisks == 0 {
		if err := b.plugged(props{{"driver", "ich9-ahci"}, {"id", controller}}, -1); err != nil {
			return err
		}
	}
	p = append(props{{"driver", "ide-hd"}}, p...).with("serial", d.Config.GetName()).
		with("bus", fmt.Sprintf("%s.%d", controller, n%sataDisks)).with("rotation_rate", 1)
	b.device(b.blockProps(d, p))
	return nil
}

func (b *builder) scsi(d *Disk, p props, n, i int) error {
	if n >= scsiDisks {
		return invalid(fmt.Sprintf("disk[%d].bus", i), "a machine has at most %d disks on the bus scsi", scsiDisks)
	}
	if n == 0 {
		if err := b.plugged(b.iothread(props{{"driver", b.board.virtio("scsi")}, {"id", "scsi0"}}, 0), -1); err != nil {
			return err
		}
	}
	p = append(props{{"driver", "scsi-hd"}}, p...).with("serial", d.Config.GetName()).with("device_id", d.Config.GetName()).
		with("bus", "scsi0.0").with("scsi-id", n).with("rotation_rate", 1)
	b.device(b.blockProps(d, p))
	return nil
}

func (b *builder) wrongBus(d *Disk, i int, bus string) error {
	at := fmt.Sprintf("disk[%d].bus", i)
	if d.Config.GetReadOnly() {
		return invalid(at, "disk %q is read-only: not on the bus %s", d.Config.GetName(), bus).WithRemedy("use virtio or scsi")
	}
	return invalid(at, "a machine %s has no bus %s", b.board.kind, bus).WithRemedy("use virtio or scsi")
}

// blockProps adds what all disks but NVMe have.
func (b *builder) blockProps(d *Disk, p props) props {
	p = p.when(d.Config.GetCache() == "writethrough", "write-cache", "off")
	return b.boots(p, DiskID(d.Config.GetName()))
}

func (b *builder) boots(p props, id string) props {
	at, ok := b.boot[id]
	return p.when(ok, "bootindex", at)
}

// iothread has one of the I/O threads do the device's work, in turns.
func (b *builder) iothread(p props, i int) props {
	n := len(b.out.IOThreads)
	if n == 0 {
		return p
	}
	return p.with("iothread", b.out.IOThreads[i%n])
}

func (b *builder) iothreads() {
	for i := range int(b.in.Config.GetIoThreads()) {
		id := fmt.Sprintf("io%d", i)
		b.out.IOThreads = append(b.out.IOThreads, id)
		b.object(props{{"qom-type", "iothread"}, {"id", id}})
	}
}

func limited(d *berthv1.QemuDisk) bool { return d.GetIops() != 0 || d.GetBandwidthMib() != 0 }

// diskNodes writes the disk's block nodes, from the file up: file, format, limit.
func (b *builder) diskNodes(d *Disk) {
	id := DiskID(d.Config.GetName())
	discard := "unmap"
	if d.Config.Discard != nil && !d.Config.GetDiscard() {
		discard = "ignore"
	}
	image := props{{"node-name", id}, {"driver", d.Format}, {"read-only", d.Config.GetReadOnly()}, {"discard", discard}}.
		with("cache", cacheOf(d)).
		with("file", props{
			{"node-name", "file-" + id},
			{"driver", "file"},
			{"filename", d.Path},
			{"read-only", d.Config.GetReadOnly()},
			{"discard", discard},
			{"cache", cacheOf(d)},
		})
	if d.Format == "qcow2" {
		image = image.with("backing", layers(d.Base))
	}
	b.blockdev(image)
	if !limited(d.Config) {
		return
	}
	var limits props
	limits = limits.when(d.Config.GetIops() != 0, "iops-total", d.Config.GetIops())
	limits = limits.when(d.Config.GetBandwidthMib() != 0, "bps-total", d.Config.GetBandwidthMib()<<20)
	b.object(props{{"qom-type", "throttle-group"}, {"id", NodeOf(id, true)}, {"limits", limits}})
	b.blockdev(props{
		{"node-name", NodeOf(id, true)}, {"driver", "throttle"}, {"throttle-group", NodeOf(id, true)}, {"file", id},
	})
}

// layers is the chain of backing images, down to nil: then there is none, whatever an
// image's header says.
func layers(base []Layer) any {
	if len(base) == 0 {
		return nil
	}
	p := readOnly(base[0])
	if base[0].Format == "qcow2" {
		p = p.with("backing", layers(base[1:]))
	}
	return p
}

func readOnly(l Layer) props {
	return props{{"driver", l.Format}, {"read-only", true}, {"file", props{
		{"driver", "file"}, {"filename", l.Path}, {"read-only", true},
	}}}
}

// cacheOf is how the host caches the disk; that a guest's writes pass through is its
// device's affair ("writethrough").
func cacheOf(d *Disk) props {
	mode := d.Config.GetCache()
	return props{
		{"direct", (mode == "none" || mode == "") && !d.Buffered},
		{"no-flush", mode == "unsafe"},
	}
}

// cdroms writes the drives: the seed's last.
func (b *builder) cdroms() error {
	drives := b.in.Cdroms
	n := len(drives)
	if b.in.SeedISO != "" {
		n++
	}
	if n > b.board.cdroms {
		return invalid("cdrom", "a machine %s has at most %d CD-ROM drives; cloud-init takes one", b.board.kind, b.board.cdroms)
	}
	for i, d := range drives {
		if err := b.cdrom(CdromID(d.Config.GetName()), d.Path, i); err != nil {
			return err
		}
	}
	if b.in.SeedISO == "" {
		return nil
	}
	return b.cdrom(seedID, b.in.SeedISO, len(drives))
}

// seedID is the id of the drive that cloud-init reads.
const seedID = "seed"

func (b *builder) cdrom(id, path string, n int) error {
	if path != "" {
		b.blockdev(append(props{{"node-name", id}}, readOnly(Layer{Path: path, Format: "raw"})...))
	}
	p := props{{"driver", "ide-cd"}, {"id", id}}
	switch b.board.kind {
	case "q35":
		p = p.with("bus", fmt.Sprintf("ide.%d", n))
	case "pc":
		p = p.with("bus", fmt.Sprintf("ide.%d", n/2)).with("unit", n%2)
	default:
		p[0].value = "scsi-cd"
		p = p.with("bus", "scsicd.0").with("scsi-id", n)
		if n == 0 {
			if err := b.plugged(props{{"driver", b.board.virtio("scsi")}, {"id", "scsicd"}}, -1); err != nil {
				return err
			}
		}
	}
	b.device(b.boots(p.when(path != "", "drive", id), id))
	return nil
}
