package scheduler

import (
	"fmt"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// Nodes share a machine exactly when they report the same of what machines are made of:
// each field of a cell and of a device is either told apart or named here.
func TestMachinesAreShared(t *testing.T) {
	node := &berthv1.Node{Id: "a", MinPort: 1, MaxPort: 9, ReservedPorts: []uint32{5}, Hardware: &berthv1.Hardware{DiskMib: 1,
		Cells:   []*berthv1.Cell{{Id: 0, Cores: []string{"0", "1"}, Distances: []uint32{10, 20}}, {Id: 1, Cores: []string{"2"}, Distances: []uint32{20, 10}}},
		Devices: []*berthv1.Device{{Id: "g0", Kind: "gpu", Attributes: map[string]string{"a": "b"}}, {Id: "g1", Kind: "gpu"}}}}
	unread := map[string]bool{"caches": true, "pci_address": true, "iommu_group": true, "health_reason": true}
	var machines Machines
	of := func(n *berthv1.Node) string {
		m, err := machines.Of(n)
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprintf("%p", m)
	}
	base, other := of(node), proto.Clone(node).(*berthv1.Node)
	if other.Id = "b"; of(other) != base {
		t.Error("the same hardware twice is two machines")
	}
	check := func(what string, change func(n *berthv1.Node), same bool) {
		n := proto.Clone(node).(*berthv1.Node)
		change(n)
		if got := string(appendMachine(nil, n)) == string(appendMachine(nil, node)); got != same {
			t.Errorf("%s changed: the machine is the same: %v, want %v", what, got, same)
		}
	}
	check("disk", func(n *berthv1.Node) { n.Hardware.DiskMib++ }, false)
	check("ports", func(n *berthv1.Node) { n.MaxPort++ }, false)
	check("reserved ports", func(n *berthv1.Node) { n.ReservedPorts[0]++ }, false)
	for _, kind := range []protoreflect.MessageDescriptor{(&berthv1.Cell{}).ProtoReflect().Descriptor(), (&berthv1.Device{}).ProtoReflect().Descriptor()} {
		for i := range kind.Fields().Len() {
			fd := kind.Fields().Get(i)
			check(string(fd.FullName()), func(n *berthv1.Node) {
				part := n.Hardware.Cells[1].ProtoReflect()
				if kind.Name() == "Device" {
					part = n.Hardware.Devices[1].ProtoReflect()
				}
				alter(part, fd)
			}, unread[string(fd.Name())])
		}
	}
}

// alter gives a field another value.
func alter(m protoreflect.Message, fd protoreflect.FieldDescriptor) {
	value := func(was protoreflect.Value) protoreflect.Value {
		switch fd.Kind() {
		case protoreflect.StringKind:
			return protoreflect.ValueOfString(was.String() + "7")
		case protoreflect.Uint32Kind:
			return protoreflect.ValueOfUint32(uint32(was.Uint()) + 7)
		case protoreflect.Uint64Kind:
			return protoreflect.ValueOfUint64(was.Uint() + 7)
		case protoreflect.Int32Kind:
			return protoreflect.ValueOfInt32(int32(was.Int()) - 1)
		case protoreflect.BoolKind:
			return protoreflect.ValueOfBool(!was.Bool())
		}
		panic(fd.Kind().String())
	}
	switch {
	case fd.IsMap():
		m.Mutable(fd).Map().Set(protoreflect.ValueOfString("new").MapKey(), protoreflect.ValueOfString("x"))
	case fd.IsList() && fd.Kind() == protoreflect.MessageKind:
		m.Mutable(fd).List().Append(m.Mutable(fd).List().NewElement())
	case fd.IsList():
		m.Mutable(fd).List().Append(value(m.Mutable(fd).List().NewElement()))
	default:
		m.Set(fd, value(m.Get(fd)))
	}
}

// Each op takes in one node whose hardware is known.
func BenchmarkMachinesOf(b *testing.B) {
	f := benchFleet(b, 1)
	n := f.nodes[0].node
	b.ReportAllocs()
	for b.Loop() {
		if _, err := f.machines.Of(n); err != nil {
			b.Fatal(err)
		}
	}
}
