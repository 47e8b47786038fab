package plugins

import (
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/berthd/berth/drivers"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

func snapshotToWire(s *drivers.Snapshot) *berthv1.DriverSnapshot {
	return &berthv1.DriverSnapshot{
		Name: s.Name, Description: s.Description, At: timestamppb.New(s.At),
		Memory: s.Memory, Consistent: s.Consistent, Bytes: s.Bytes,
	}
}

func snapshotFromWire(s *berthv1.DriverSnapshot) *drivers.Snapshot {
	return &drivers.Snapshot{
		Name: s.GetName(), Description: s.GetDescription(), At: instant(s.GetAt()),
		Memory: s.GetMemory(), Consistent: s.GetConsistent(), Bytes: s.GetBytes(),
	}
}

func conditionToWire(c drivers.Condition) *berthv1.DriverCondition {
	return &berthv1.DriverCondition{
		State: c.State, Ready: c.Ready, Event: c.Event, Hostname: c.Hostname, Os: c.OS, Addresses: c.Addresses,
	}
}

func conditionFromWire(c *berthv1.DriverCondition) drivers.Condition {
	return drivers.Condition{
		State: c.GetState(), Ready: c.GetReady(), Event: c.GetEvent(),
		Hostname: c.GetHostname(), OS: c.GetOs(), Addresses: c.GetAddresses(),
	}
}
