package qemu

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/berthd/berth/drivers"
	"github.com/berthd/berth/drivers/qemu/machine"
	"github.com/berthd/berth/problem"
)

// sysPCI is where the kernel shows PCI functions.
const sysPCI = "/sys/bus/pci"

// devicesOf are the granted devices that have a PCI address, with their IOMMU groups.
func devicesOf(t *drivers.Task) ([]machine.Device, error) {
	var all []machine.Device
	for i, grant := range t.Grant.GetDevices() {
		if i >= len(t.Devices) || t.Devices[i].GetId() != grant.GetId() {
			return nil, problem.New(problem.Unavailable, "resources.devices", "the node has no device %s any more", grant.GetId())
		}
		d := t.Devices[i]
		dev := machine.Device{ID: d.GetId(), Kind: d.GetKind(), Address: d.GetPciAddress(), Cell: int(d.GetCell())}
		if dev.Address != "" {
			dev.Group = groupOf(sysPCI, dev.Address)
		}
		all = append(all, dev)
	}
	return all, nil
}

// groupOf lists the functions of a function's IOMMU group; none where there is no IOMMU.
func groupOf(sys, address string) []machine.Function {
	members, _ := os.ReadDir(filepath.Join(sys, "devices", address, "iommu_group", "devices"))
	var group []machine.Function
	for _, m := range members {
		of := filepath.Join(sys, "devices", m.Name())
		group = append(group, machine.Function{
			Address: m.Name(), Class: word(of, "class"), Words: word(of, "vendor") + ":" + word(of, "device"),
		})
	}
	return group
}

func word(dir, file string) string {
	b, _ := os.ReadFile(filepath.Join(dir, file))
	return strings.TrimSpace(string(b))
}

// bound is a function that a machine has, and the driver that had it before; "": none.
type bound struct {
	Address string `json:"address"`
	Driver  string `json:"driver,omitempty"`
}

const vfio = "vfio-pci"

func driverOf(address string) string {
	link, err := os.Readlink(filepath.Join(sysPCI, "devices", address, "driver"))
	if err != nil {
		return ""
	}
	return filepath.Base(link)
}

// planBinding looks at what vfio-pci is to have; nothing is changed. A group that somebody
// else has open is refused.
func planBinding(addresses []string) ([]bound, error) {
	var plan []bound
	for _, a := range addresses {
		if !exists(filepath.Join(sysPCI, "devices", a)) {
			return nil, problem.New(problem.Unavailable, "resources.devices", "the node has no PCI function %s any more", a)
		}
		group, err := os.Readlink(filepath.Join(sysPCI, "devices", a, "iommu_group"))
		if err != nil {
			return nil, problem.New(problem.Unavailable, "resources.devices", "%s is in no IOMMU group", a).
				WithRemedy("switch the IOMMU on: in the firmware, and by intel_iommu=on or amd_iommu=on")
		}
		if err := groupFree(filepath.Base(group)); err != nil {
			return nil, problem.New(problem.Unavailable, "resources.devices", "%s: %w", a, err)
		}
		plan = append(plan, bound{Address: a, Driver: driverOf(a)})
	}
	return plan, nil
}

// groupFree says that nobody has a group open; vfio lets one process have it.
func groupFree(group string) error {
	f, err := os.OpenFile("/dev/vfio/"+group, os.O_RDWR, 0)
	if errors.Is(err, syscall.EBUSY) {
		return fmt.Errorf("its IOMMU group %s is in use by another process", group)
	}
	if err == nil {
		f.Close()
	}
	return nil // it appears when vfio-pci has the functions
}

// bind gives the functions to vfio-pci.
func bind(plan []bound) error {
	for _, b := range plan {
		if b.Driver == vfio {
			continue
		}
		if err := rebind(b.Address, b.Driver, vfio); err != nil {
			return problem.New(problem.Unavailable, "resources.devices", "giving %s to vfio-pci: %w", b.Address, err).
				WithRemedy("load the module vfio-pci on the node")
		}
	}
	return nil
}

// unbind gives the functions back to the drivers that had them.
func unbind(plan []bound) error {
	var errs []error
	for _, b := range plan {
		now := driverOf(b.Address)
		if now == b.Driver || !exists(filepath.Join(sysPCI, "devices", b.Address)) {
			continue
		}
		errs = append(errs, rebind(b.Address, now, b.Driver))
	}
	return errors.Join(errs...)
}

// rebind takes a function from a driver and gives it to another; either may be "".
func rebind(address, from, to string) error {
	write := func(file, words string) error { return os.WriteFile(file, []byte(words), 0) }
	override := to
	if to != vfio {
		override = "" // what the kernel would choose
	}
	if err := write(filepath.Join(sysPCI, "devices", address, "driver_override"), override+"\n"); err != nil {
		return err
	}
	if from != "" {
		if err := write(filepath.Join(sysPCI, "drivers", from, "unbind"), address); err != nil {
			return err
		}
	}
	if to == "" {
		return nil
	}
	return write(filepath.Join(sysPCI, "drivers_probe"), address)
}
