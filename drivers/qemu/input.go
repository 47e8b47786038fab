package qemu

import (
	"cmp"
	"context"
	"fmt"

	"github.com/berthd/berth/drivers"
	"github.com/berthd/berth/drivers/config"
	"github.com/berthd/berth/drivers/qemu/machine"
	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// input is everything that is known of a task, for machine.Build.
func (d *Driver) input(ctx context.Context, t *drivers.Task, c *berthv1.QemuConfig, p *prepared) (*machine.Input, error) {
	in := &machine.Input{
		Name: cmp.Or(t.Env["BERTH_ALLOC_NAME"], t.ID), UUID: machine.UUID(t.ID), Config: c,
		Resources: t.Resources, Grant: t.Grant, SharedCPUs: t.SharedCPUs, Cells: t.Cells, Host: *d.host.get(ctx),
		SeedISO: p.Seed, Kernel: p.Kernel, Initrd: p.Initrd, Firmware: p.Firmware, Ports: t.Ports, RunAs: d.cfg.User,
	}
	disks, err := disksOf(c)
	if err != nil {
		return nil, err
	}
	if len(disks) != len(p.Disks) || len(c.GetCdroms()) != len(p.Cdroms) {
		return nil, problem.New(problem.Internal, "", "the machine was prepared from another config")
	}
	for i, disk := range disks {
		made := p.Disks[i]
		in.Disks = append(in.Disks, machine.Disk{Config: disk, Path: made.Path, Format: made.Format, Base: made.Base, Buffered: made.Buffered})
	}
	for i, cdrom := range c.GetCdroms() {
		in.Cdroms = append(in.Cdroms, machine.Cdrom{Config: cdrom, Path: p.Cdroms[i]})
	}
	if in.Devices, err = devicesOf(t); err != nil {
		return nil, err
	}
	in.Nics, err = nicsOf(t, c, in.Devices)
	return in, err
}

// nicsOf are the machine's interfaces: one in mode "user" where the config has none.
func nicsOf(t *drivers.Task, c *berthv1.QemuConfig, devices []machine.Device) ([]machine.Nic, error) {
	nics := c.GetNics()
	if len(nics) == 0 {
		standard := &berthv1.QemuNic{Name: "default", Mode: "user", Model: "virtio"}
		if err := config.Decode(nil, standard); err != nil && !problem.Is(err, problem.Invalid) {
			return nil, err
		}
		nics = []*berthv1.QemuNic{standard}
	}
	var functions []string
	for _, dev := range devices {
		if dev.Kind == "vf" {
			functions = append(functions, dev.ID)
		}
	}
	all := make([]machine.Nic, 0, len(nics))
	for i, n := range nics {
		nic := machine.Nic{Config: n, MAC: cmp.Or(n.GetMac(), machine.MAC(machine.UUID(t.ID), n.GetName()))}
		switch n.GetMode() {
		case "bridge":
			nic.Tap, nic.Vhost = tapName(t.ID, i), exists("/dev/vhost-net")
		case "vf":
			if len(functions) == 0 {
				return nil, problem.New(problem.Invalid, fmt.Sprintf("config.nic[%d].mode", i), "the task was granted no virtual function for interface %q", n.GetName()).
					WithRemedy(`ask for one in resources: device "nic" or "vf"`)
			}
			nic.VF, functions = functions[0], functions[1:]
		}
		all = append(all, nic)
	}
	return all, nil
}
