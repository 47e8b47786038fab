// Package inventory reads what a node is made of: its cells with cores, caches, memory
// and hugepages, NICs, disks, firmware, kernel and operating system.
//
// It reads sysfs and procfs below a root, which tests point at a captured machine; what
// those do not tell (disk space, addresses, the platform) it takes from the system's
// libraries, on the real root only. It never fails: what cannot be read is left out,
// and the rest is still true. What it returns is valid in itself: no CPU is in two
// cells, every list has the kernel's order.
//
// The agent looks every now and then and tells the servers when something has changed.
package inventory

import (
	"context"
	"os"
	"runtime"

	"google.golang.org/protobuf/proto"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// Inventory reads one node. Read is not safe for concurrent use.
type Inventory struct {
	path    string
	dataDir string
	disk    diskSpace
	// platform is what the system's libraries say of it, once.
	platform map[string]string

	// What the last look found of CPUs and cells, and the signs by which a change of
	// them would be noticed: reading them whole is a hundred files a CPU.
	signs string
	cpus  *cpus
	cells []*berthv1.Cell
}

// New makes an Inventory of the machine below root ("/": this one). dataDir is where
// allocations lie, for the disk that they may take.
func New(root, dataDir string) *Inventory { return &Inventory{path: root, dataDir: dataDir} }

// Reading is one look at a node.
type Reading struct {
	Hostname, Arch, BootID string
	// Attributes are named as in the table Attributes.
	Attributes map[string]string
	Hardware   *berthv1.Hardware
}

// Read looks at the node.
func (i *Inventory) Read(ctx context.Context) *Reading {
	r := &Reading{Attributes: map[string]string{}, Hardware: &berthv1.Hardware{}}
	dir, err := os.OpenRoot(i.path)
	if err != nil {
		return r
	}
	defer dir.Close()
	i.read(tree{dir.FS()}, r)
	if i.path == "/" {
		i.ask(ctx, r)
	}
	r.Hardware.DiskMib = i.disk.readMiB(i.dataDir)
	attributes(r.Attributes).number(AttrDiskTotal, r.Hardware.GetDiskMib())
	if r.Arch == "" {
		r.Arch = runtime.GOARCH
	}
	return r
}

// read fills in what the files tell.
func (i *Inventory) read(t tree, r *Reading) {
	if signs := cellSigns(t); signs != i.signs || i.cells == nil {
		i.cpus = readCPUs(t)
		i.cells = readCells(t, i.cpus)
		i.signs = signs
	}
	cpus := i.cpus
	for _, c := range i.cells {
		r.Hardware.Cells = append(r.Hardware.Cells, proto.CloneOf(c)) // the caller may change it
	}
	r.Hardware.Sockets = uint32(len(cpus.sockets()))
	r.Hardware.Nics = readNICs(t)
	r.Hardware.Disks = readDisks(t)
	if len(i.cells) == 1 { // then everything is there
		for _, n := range r.Hardware.GetNics() {
			n.Cell = int32(i.cells[0].GetId())
		}
		for _, d := range r.Hardware.GetDisks() {
			d.Cell = int32(i.cells[0].GetId())
		}
	}
	r.Hostname = t.text("proc/sys/kernel/hostname")
	r.BootID = t.text("proc/sys/kernel/random/boot_id")
	a := attributes(r.Attributes)
	a.system(t)
	a.cpu(t, cpus)
	a.firmware(t)
	a.cgroups(t)
	a.hardware(r.Hardware)
	if r.Hostname == "" {
		r.Hostname = t.text("etc/hostname")
	}
}
