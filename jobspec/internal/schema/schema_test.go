package schema

import (
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/berthd/berth/jobspec/internal/tree"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// Every message of the spec compiles, and its defaults pass its own checks.
func TestSchemaIsSound(t *testing.T) {
	seen := map[protoreflect.FullName]bool{}
	var walk func(md protoreflect.MessageDescriptor)
	walk = func(md protoreflect.MessageDescriptor) {
		if seen[md.FullName()] {
			return
		}
		seen[md.FullName()] = true
		m, err := compile(md)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range m.Fields {
			if f.Kind == Block {
				walk(f.Desc.Message())
			}
			if f.Kind == Internal && !f.Options.GetServerSet() {
				t.Errorf("no spec can say %s", f.Desc.FullName())
			}
			if !f.Default.IsValid() {
				continue
			}
			values := []protoreflect.Value{f.Default}
			if f.List {
				values = nil
				for i := range f.Default.List().Len() {
					values = append(values, f.Default.List().Get(i))
				}
			}
			for _, v := range values {
				if bad := f.Check(v); bad != "" {
					t.Errorf("the default of %s %s", f.Desc.FullName(), bad)
				}
			}
		}
	}
	for _, msg := range []proto.Message{&berthv1.Job{}, &berthv1.ExecConfig{}, &berthv1.MockConfig{}} {
		walk(msg.ProtoReflect().Descriptor())
	}
	for name := range aliases {
		if !seen[name.Parent()] {
			t.Errorf("aliases of %s, which is not in the schema", name)
		}
	}
}

func TestQuantities(t *testing.T) {
	for _, c := range []struct {
		text string
		unit berthv1.Unit
		want uint64
		err  string
	}{
		{"256MiB", berthv1.Unit_UNIT_MIB, 256, ""},
		{"1.5 GiB", berthv1.Unit_UNIT_MIB, 1536, ""},
		{"64", berthv1.Unit_UNIT_MIB, 64, ""},
		{"400GB", berthv1.Unit_UNIT_MIB, 381470, ""}, // rounded up
		{"1B", berthv1.Unit_UNIT_MIB, 1, ""},
		{"0MiB", berthv1.Unit_UNIT_MIB, 0, ""},
		{"999999999999999999PiB", berthv1.Unit_UNIT_MIB, 0, "is out of range"},
		{"64G", berthv1.Unit_UNIT_MIB, 0, `has the unit "G"; known are B, KiB, MiB, GiB, TiB, PiB, kB, MB, GB, TB, PB`},
		{"-1MiB", berthv1.Unit_UNIT_MIB, 0, "is out of range: it cannot be negative"},
		{"", berthv1.Unit_UNIT_MIB, 0, "wrong type"},
		{"1e3MiB", berthv1.Unit_UNIT_MIB, 0, "wrong type"},
		{"2MiB", berthv1.Unit_UNIT_KIB, 2048, ""},
		{"2048", berthv1.Unit_UNIT_KIB, 0, `needs a unit: write "2048KiB" or "2048MiB"`},
		{"500m", berthv1.Unit_UNIT_MILLI, 500, ""},
		{"1.5", berthv1.Unit_UNIT_MILLI, 1500, ""},
		{"0.0001", berthv1.Unit_UNIT_MILLI, 0, "is finer than a thousandth of a core"},
		{"2 cores", berthv1.Unit_UNIT_MILLI, 0, `has the unit "cores"; write "500m" for half a core`},
	} {
		got, err := ParseQuantity(c.text, c.unit)
		if text := errText(err); text != c.err || got.Abs != c.want {
			t.Errorf("%q: got %d, %q; want %d, %q", c.text, got.Abs, text, c.want, c.err)
		}
	}
}

func TestDurations(t *testing.T) {
	for _, c := range []struct {
		text string
		want time.Duration
		back string
		err  string
	}{
		{"30s", 30 * time.Second, "30s", ""},
		{"90s", 90 * time.Second, "1m30s", ""},
		{"600s", 10 * time.Minute, "10m", ""},
		{"2d", 48 * time.Hour, "48h", ""},
		{"1d12h", 36 * time.Hour, "36h", ""},
		{"0", 0, "", `needs a unit: write "0s" for seconds`},
		{"0s", 0, "0s", ""},
		{"0.500s", 500 * time.Millisecond, "500ms", ""},
		{"5", 0, "", `needs a unit: write "5s" for seconds`},
		{"-5s", 0, "", "is out of range: it cannot be negative"},
		{"1d-5s", 0, "", "wrong type"},
		{"99999d", 0, "", "is out of range: at most ten years"},
		{"999999h", 0, "", "is out of range: at most ten years"},
		{"soon", 0, "", "wrong type"},
	} {
		got, err := ParseDuration(c.text)
		if text := errText(err); text != c.err || got != c.want {
			t.Errorf("%q: got %v, %q; want %v, %q", c.text, got, text, c.want, c.err)
		}
		if back := FormatDuration(durationpb.New(got)); err == nil && back != c.back {
			t.Errorf("%q: written as %q, want %q", c.text, back, c.back)
		}
	}
}

func TestInts(t *testing.T) {
	for _, c := range []struct {
		text string
		want int64
		err  string
	}{
		{"3", 3, ""}, {"-3", -3, ""}, {"3.0", 3, ""}, {"1e3", 1000, ""}, {"-0", 0, ""},
		{"1.5", 0, "wants a whole number, not 1.5"}, {"1e999999999", 0, "is out of range"},
		{"--3", 0, "wrong type"}, {"0x10", 0, "wrong type"}, {"nan", 0, "wrong type"}, {"", 0, "wrong type"}, {"inf", 0, "wrong type"},
	} {
		got, err := ParseInt(c.text)
		if text := errText(err); text != c.err || got.Signed() != c.want {
			t.Errorf("%q: got %d, %q; want %d, %q", c.text, got.Signed(), text, c.want, c.err)
		}
	}
}

// Under the field's own name a plain number is in the field's unit.
func TestOwnName(t *testing.T) {
	cpu := Of((&berthv1.Resources{}).ProtoReflect().Descriptor()).Lookup("cpu")
	for own, want := range map[bool]uint64{false: 2000, true: 2} {
		if v, err := cpu.FromNode(tree.Num("2"), own); err != nil || v.Uint() != want {
			t.Errorf("own %v: got %v, %v; want %d", own, v, err, want)
		}
	}
}

func errText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
