package berthv1

import (
	"maps"
	"slices"
)

// controls are the actions of ControlAlloc, with the capabilities of a driver (DriverInfo)
// of which one is enough for them.
var controls = map[string][]string{
	"pause":     {"pause"},
	"resume":    {"pause", "suspend"},
	"reset":     {"reset"},
	"powerdown": {"powerdown"},
	"nmi":       {"nmi"},
	"suspend":   {"suspend"},
	"freeze":    {"freeze"},
	"thaw":      {"freeze"},
}

// ControlActions lists the actions of ControlAlloc, sorted.
func ControlActions() []string { return slices.Sorted(maps.Keys(controls)) }

// CapabilitiesFor gives the capabilities of a driver of which one is enough to do what the
// order asks of a machine; none: any driver can do it.
func CapabilitiesFor(o *StreamOrder) []string {
	switch o := o.GetOrder().(type) {
	case *StreamOrder_Attach:
		return []string{o.Attach.GetChannel()}
	case *StreamOrder_Control:
		return controls[o.Control.GetAction()]
	case *StreamOrder_Screenshot:
		return []string{"screenshot"}
	case *StreamOrder_Snapshot, *StreamOrder_ListSnapshots, *StreamOrder_Revert, *StreamOrder_DeleteSnapshot:
		return []string{"snapshot"}
	}
	return nil
}
