package jobspec

import (
	"flag"
	"fmt"
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/text/unicode/norm"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"
	"pgregory.net/rapid"

	"github.com/berthd/berth/jobspec/internal/schema"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

func init() {
	_ = flag.Set("rapid.nofailfile", "true")
	_ = flag.Set("rapid.shrinktime", "5s")
}

// generator makes random jobs by the schema, so that a new field is covered as soon as
// it is there; what no schema can say is set right afterwards.
type generator struct{ t *rapid.T }

// text is any text that HCL keeps as it is: it brings strings into NFC.
var text = rapid.Custom(func(t *rapid.T) string {
	s := rapid.OneOf(
		rapid.StringMatching(`[a-z]{1,8}`),
		rapid.SampledFrom([]string{
			"${node.rack}", "${BERTH_PORT_http}/x", "$${node.x}", "$$", "${", "%{if}", "a\nb\n", "a\n", "line\n  two\n\nthree\n",
			"true", "null", "~", "0x10", "010", "1e5", "yes", "- a", "a: b", "#c", " lead", "trail ", "\t", "\"q\"", "\\", "é", "漢", "\u0001",
			"@x", "*x", "&x", "!x", "|", ">", "[", "{", "'", "\u2028", "\u0085", "\ufeff", "😀", "${meta[\"a\"]}", "//", "/* */", "<<EOT",
		}),
		rapid.String(),
	).Draw(t, "text")
	return norm.NFC.String(s)
})

func (g generator) message(msg protoreflect.Message, names int) {
	for _, f := range schema.Of(msg.Descriptor()).Fields {
		if f.Kind == schema.Internal || f == schema.Of(msg.Descriptor()).Label {
			continue
		}
		if !f.Options.GetRequired() && !rapid.Bool().Draw(g.t, string(f.Desc.Name())) {
			continue
		}
		switch {
		case f.Kind == schema.Scalar && f.List:
			g.words(msg.Mutable(f.Desc).List(), f)
		case f.Kind == schema.Scalar:
			msg.Set(f.Desc, g.scalar(f))
		case f.Kind == schema.Map:
			for range rapid.IntRange(0, 3).Draw(g.t, "entries") {
				key := protoreflect.ValueOfString(rapid.StringMatching(`[A-Za-z_][A-Za-z0-9_ .-]{0,9}`).Draw(g.t, "key"))
				msg.Mutable(f.Desc).Map().Set(key.MapKey(), protoreflect.ValueOfString(text.Filter(noNUL).Draw(g.t, "value")))
			}
		case f.Kind == schema.Free:
			msg.Set(f.Desc, protoreflect.ValueOfMessage(g.object(0).ProtoReflect()))
		case f.List:
			g.list(msg.Mutable(f.Desc).List(), f)
		default:
			g.message(msg.Mutable(f.Desc).Message(), names)
		}
	}
}

func noNUL(s string) bool {
	for _, r := range s {
		if r == 0 {
			return false
		}
	}
	return true
}

func (g generator) list(list protoreflect.List, f *schema.Field) {
	low := 0
	if f.Options.GetRequired() {
		low = 1
	}
	m := f.Message()
	for i := range rapid.IntRange(low, 2).Draw(g.t, f.Name) {
		element := list.AppendMutable().Message()
		if m.Label != nil {
			switch m.Label.Desc.Kind() {
			case protoreflect.StringKind:
				element.Set(m.Label.Desc, protoreflect.ValueOfString(fmt.Sprintf("%s-%d", f.Name, i)))
			default:
				element.Set(m.Label.Desc, protoreflect.ValueOfUint64(2048<<(9*i)))
			}
		}
		g.message(element, i)
	}
}

func (g generator) words(list protoreflect.List, f *schema.Field) {
	words := rapid.SliceOfNDistinct(text, 0, 3, rapid.ID).Draw(g.t, f.Name)
	if values := f.Values(); len(values) > 0 {
		words = rapid.Permutation(values).Draw(g.t, f.Name)[:1]
	}
	for _, w := range words {
		list.Append(protoreflect.ValueOfString(w))
	}
}

func (g generator) scalar(f *schema.Field) protoreflect.Value {
	low, high := f.Options.GetMin(), f.Options.GetMax()
	if high == 0 {
		high = 1 << 31
	}
	low = max(low, -1<<30)
	if !f.Desc.HasPresence() && low == 0 {
		low = 1
	}
	number := rapid.Int64Range(low, high).Filter(func(i int64) bool { return i != 0 || f.Desc.HasPresence() })
	switch f.Desc.Kind() {
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(rapid.Bool().Draw(g.t, f.Name))
	case protoreflect.StringKind:
		if values := f.Values(); len(values) > 0 {
			return protoreflect.ValueOfString(rapid.SampledFrom(values).Draw(g.t, f.Name))
		}
		some := text.Filter(func(s string) bool { return s != "" && noNUL(s) })
		return protoreflect.ValueOfString(some.Draw(g.t, f.Name))
	case protoreflect.EnumKind:
		return protoreflect.ValueOfEnum(protoreflect.EnumNumber(rapid.IntRange(0, f.Desc.Enum().Values().Len()-1).Draw(g.t, f.Name)))
	case protoreflect.MessageKind:
		d := &durationpb.Duration{Seconds: rapid.Int64Range(0, 1e8).Draw(g.t, f.Name)}
		if rapid.Bool().Draw(g.t, "nanos") {
			d.Nanos = rapid.Int32Range(0, 999999999).Draw(g.t, f.Name)
		}
		return protoreflect.ValueOfMessage(d.ProtoReflect())
	case protoreflect.Uint32Kind:
		return protoreflect.ValueOfUint32(uint32(number.Draw(g.t, f.Name)))
	case protoreflect.Uint64Kind:
		return protoreflect.ValueOfUint64(uint64(number.Draw(g.t, f.Name)))
	case protoreflect.Int32Kind:
		return protoreflect.ValueOfInt32(int32(number.Draw(g.t, f.Name)))
	}
	return protoreflect.ValueOfInt64(number.Draw(g.t, f.Name))
}

func (g generator) object(depth int) *structpb.Struct {
	s := &structpb.Struct{Fields: map[string]*structpb.Value{}}
	for range rapid.IntRange(0, 3).Draw(g.t, "keys") {
		s.Fields[text.Draw(g.t, "key")] = g.value(depth)
	}
	return s
}

func (g generator) value(depth int) *structpb.Value {
	kinds := 5
	if depth > 2 {
		kinds = 3
	}
	switch rapid.IntRange(0, kinds).Draw(g.t, "kind") {
	case 0:
		return structpb.NewBoolValue(rapid.Bool().Draw(g.t, "bool"))
	case 1:
		return structpb.NewNumberValue(rapid.OneOf(rapid.Float64Range(-1e300, 1e300), rapid.SampledFrom([]float64{0, 1, -1, 1e21, 1e-7, 1.5})).Draw(g.t, "number"))
	case 2:
		return structpb.NewStringValue(text.Draw(g.t, "string"))
	case 3:
		return structpb.NewNullValue()
	case 4:
		list := &structpb.ListValue{}
		for range rapid.IntRange(0, 3).Draw(g.t, "items") {
			list.Values = append(list.Values, g.value(depth+1))
		}
		return structpb.NewListValue(list)
	}
	return structpb.NewStructValue(g.object(depth + 1))
}

// job makes a valid job.
func (g generator) job() *berthv1.Job {
	job := &berthv1.Job{Name: "job"}
	g.message(job.ProtoReflect(), 0)
	job.Namespace, job.NodePool = "ns", ""
	job.Arch = rapid.SampledFrom([][]string{nil, {"amd64"}, {"x86_64", "arm64"}}).Draw(g.t, "arch")
	g.constraints(job.Constraints)
	g.affinities(job.Affinities)
	spreads(job.Spreads)
	g.placement(job)
	for _, group := range job.Groups {
		if everyNode(job.Type) {
			group.Count, group.Gang, group.Reschedule = nil, false, nil
		}
		g.tolerations(group.Tolerations)
		if group.Disruption.GetMaxUnavailable() != "" {
			group.Disruption.MaxUnavailable = rapid.SampledFrom([]string{"0", "1", "25%", "100%"}).Draw(g.t, "max_unavailable")
		}
		g.life(job, group)
		if group.Topology != nil {
			group.Topology.Cells = rapid.Uint32Range(0, 1).Draw(g.t, "cells")
		}
		g.constraints(group.Constraints)
		g.affinities(group.Affinities)
		spreads(group.Spreads)
		policies(group.Restart)
		if p := group.Reschedule; p != nil {
			p.Attempts, p.Interval, p.MaxDelay = nil, nil, nil
		}
		for i, p := range group.GetNetwork().GetPorts() {
			p.Static = uint32(8000 + i)
		}
		g.services(group)
		for _, task := range group.Tasks {
			g.task(task)
			g.files(task)
		}
	}
	return job
}

// life makes valid what the schema alone would let pass.
func (g generator) life(job *berthv1.Job, group *berthv1.Group) {
	if job.Type != berthv1.Job_service {
		job.Update, group.Update, group.Stateful = nil, nil, nil
	}
	if toEnd := job.Type == berthv1.Job_batch || job.Type == berthv1.Job_sysbatch; !toEnd || job.Schedule != nil {
		job.Parameters = nil
		if !toEnd {
			job.Schedule = nil
		}
	}
	if s := job.Schedule; s != nil {
		s.Crons, s.TimeZone = []string{"@daily"}, rapid.SampledFrom([]string{"", "Europe/Berlin"}).Draw(g.t, "zone")
	}
	if p := job.Parameters; p != nil {
		p.Required, p.Optional = nil, []string{"a"}
	}
	if group.Stateful != nil {
		job.Gang, group.Gang = false, false
	}
	for _, u := range []*berthv1.UpdateStrategy{job.Update, group.Update} {
		if u != nil {
			u.MaxParallel = rapid.SampledFrom([]string{"", "1", "25%"}).Draw(g.t, "max_parallel")
			u.Canary, u.MinHealthyTime, u.HealthyDeadline, u.ProgressDeadline = "", nil, nil, nil
		}
	}
	if s := group.Scaling; s != nil {
		s.Min, s.Max = 0, 1000000
		if everyNode(job.Type) {
			group.Scaling = nil
		}
	}
}

func (g generator) services(group *berthv1.Group) {
	for i, s := range group.Services {
		s.Name, s.Port = fmt.Sprintf("s-%d", i), ""
		s.Tags, s.CanaryTags = []string{"t"}, nil
		for k, c := range s.Checks {
			c.Type, c.Name, c.Command, c.Task = "script", fmt.Sprint("c", k), []string{"true"}, group.Tasks[0].Name
			c.Port, c.Interval, c.Timeout, c.Path, c.Method, c.ExpectStatus = "", nil, nil, "", "", ""
		}
	}
}

func (g generator) files(task *berthv1.Task) {
	task.Lifecycle, task.Leader, task.PayloadFile = nil, false, ""
	for i, a := range task.Artifacts {
		a.Destination, a.Checksum = fmt.Sprint("local/", i), ""
	}
	for i, t := range task.Templates {
		t.Data, t.Source, t.Destination = "x", "", fmt.Sprint("local/t", i)
		t.ChangeMode, t.ChangeSignal, t.Perms, t.LeftDelimiter, t.RightDelimiter = "", "", "", "", ""
	}
}

func (g generator) placement(job *berthv1.Job) {
	job.Reservation, job.Scheduler = "", ""
	job.Gang = job.Gang && !everyNode(job.Type)
	g.tolerations(job.Tolerations)
	if everyNode(job.Type) {
		job.ArchWeights = nil
	}
	for i, w := range job.ArchWeights {
		w.Arch = []string{"x86_64", "arm64"}[i]
		if len(job.Arch) == 1 {
			job.Arch = nil
		}
	}
}

func (g generator) tolerations(list []*berthv1.Toleration) {
	for _, x := range list {
		x.Key = rapid.StringMatching(`[a-z]{1,8}`).Draw(g.t, "taint")
		if x.Operator == "exists" {
			x.Value = ""
		}
	}
}

// machine makes a machine one that can be.
func (g generator) machine(x *berthv1.QemuConfig) {
	x.Image, x.Checksum, x.Initrd, x.Cmdline, x.Ready = "debian", "", "", "", ""
	if x.Kernel == "" && x.Firmware == "none" {
		x.Firmware = ""
	}
	if x.Machine == "microvm" || x.Firmware == "secure-boot" || x.Firmware == "bios" {
		x.Machine = "q35"
	}
	x.Arch = ""
	if x.CloudInit != nil {
		x.CloudInit.UserDataFile = ""
	}
	if x.Cpu != nil {
		x.Cpu = &berthv1.QemuCpu{Model: x.Cpu.Model}
	}
	if x.Memory != nil {
		x.Memory.MaxMib = 0
	}
	for _, d := range x.Disks {
		d.Image, d.SizeMib, d.Checksum, d.Format, d.ReadOnly = "", 1024, "", "", false
		d.Clone, d.ClusterKib, d.Preallocation = "", 0, ""
	}
	for _, d := range x.Cdroms {
		d.Checksum = ""
	}
	for _, n := range x.Nics {
		n.Mode, n.Bridge, n.Mac, n.RateMbit = "bridge", "br0", "", min(n.RateMbit, 1000)
	}
}

func (g generator) task(task *berthv1.Task) {
	task.Driver = rapid.SampledFrom([]string{"exec", "mock", "container", "qemu"}).Draw(g.t, "driver")
	task.User, task.KillSignal = "nobody", ""
	if task.Driver == "qemu" && task.Config == nil {
		task.Config = &structpb.Struct{}
	}
	if config := newConfig(task.Driver); config != nil && task.Config != nil {
		g.message(config, 0)
		if x, ok := config.Interface().(*berthv1.QemuConfig); ok {
			g.machine(x)
		}
		task.Config = structOf(config)
		back := config.New().Interface()
		text, err := protojson.Marshal(task.Config)
		if err == nil {
			err = protojson.Unmarshal(text, back)
		}
		if err != nil || !proto.Equal(back, config.Interface()) {
			g.t.Fatalf("protojson does not read the Struct of a config: %v\n%s", err, text)
		}
	}
	g.constraints(task.Constraints)
	policies(task.Restart)
	if r := task.Resources; r != nil {
		if task.Driver == "qemu" {
			r.Hugepages = r.Hugepages[:min(1, len(r.Hugepages))]
		}
		r.MemoryMaxMib = 0
		if r.Cores > 0 {
			r.CpuMilli = 0
		}
		for _, d := range r.Devices {
			d.Profile, d.ShareMilli = "", 0
			d.Near, d.Within = "", ""
			g.constraints(d.Constraints)
		}
	}
}

func policies(p *berthv1.RestartPolicy) {
	if p != nil {
		p.Attempts, p.Interval, p.MaxDelay = proto.Uint32(2), durationpb.New(5), nil
	}
}

func (g generator) constraints(list []*berthv1.Constraint) {
	for _, c := range list {
		c.Attribute, c.Operator = "node.x", "="
		if c.Value == "" {
			c.Value = "y"
		}
	}
}

func (g generator) affinities(list []*berthv1.Affinity) {
	for _, a := range list {
		a.Attribute, a.Operator, a.Value = "node.x", "version", ">= 1"
	}
}

func spreads(list []*berthv1.Spread) {
	for i, s := range list {
		s.Attribute = fmt.Sprint("a", i)
		for _, target := range s.Targets {
			target.Percent = target.Percent % 51
		}
	}
}

// Parse(Marshal(job)) is the job, in every syntax, as it is and canonical; so is what
// the API writes.
func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		job := generator{t}.job()
		if problems := Validate(job); len(problems) > 0 {
			t.Fatalf("the generator made a job that is not valid: %v", problems[0])
		}
		canonical := Canonicalize(job)
		if problems := Validate(canonical); len(problems) > 0 {
			t.Fatalf("canonical, it is not valid any more: %v", problems[0])
		}
		if again := Canonicalize(canonical); !proto.Equal(again, canonical) {
			t.Fatalf("not idempotent: %s", cmp.Diff(canonical, again, protocmp.Transform()))
		}
		if d := Diff(job, proto.CloneOf(job)); len(d) > 0 {
			t.Fatalf("a job differs from itself: %v", d)
		}
		for _, job := range []*berthv1.Job{job, canonical} {
			for _, syntax := range []Syntax{HCL, JSON, YAML} {
				src, err := Marshal(job, syntax)
				if err != nil {
					t.Fatal(err)
				}
				back, err := Parse(src, Options{Format: syntax})
				if err != nil {
					t.Fatalf("%s\n%s", err, src)
				}
				if !proto.Equal(job, back) {
					t.Fatalf("%s\n%s", cmp.Diff(job, back, protocmp.Transform()), src)
				}
				if formatted, err := Format(src, "x."+string(syntax)); err != nil || string(formatted) != string(src) {
					t.Fatalf("Format changes what Marshal wrote: %v\n%s\n%s", err, src, formatted)
				}
			}
			back, err := Parse(apiJSON(t, job), Options{Format: JSON})
			if err != nil {
				t.Fatal(err)
			}
			if !proto.Equal(job, back) {
				t.Fatalf("from the API: %s", cmp.Diff(job, back, protocmp.Transform()))
			}
		}
	})
}

// Numbers of a driver's own configuration may be anything that JSON has.
func TestRoundTripOddNumbers(t *testing.T) {
	for _, x := range []float64{math.MaxFloat64, -math.MaxFloat64, math.SmallestNonzeroFloat64, -1.5e-305, 1e21, 1 << 53, 0.1} {
		config, err := structpb.NewStruct(map[string]any{"x": x})
		if err != nil {
			t.Fatal(err)
		}
		job := &berthv1.Job{Name: "j", Groups: []*berthv1.Group{{Name: "g", Tasks: []*berthv1.Task{{Name: "t", Driver: "container", Config: config}}}}}
		src, err := Marshal(job, HCL)
		if err != nil {
			t.Fatal(err)
		}
		if back, err := Parse(src, Options{Format: HCL}); err != nil || !proto.Equal(job, back) {
			t.Errorf("%g: %v\n%s", x, err, src)
		}
	}
}

// Keys of a driver's own configuration may be anything.
func TestRoundTripOddKeys(t *testing.T) {
	for _, key := range []string{"\ufeffA", "\ufeff", "a b", "", "for", "${x}", "ü"} {
		config, err := structpb.NewStruct(map[string]any{key: false})
		if err != nil {
			t.Fatal(err)
		}
		job := &berthv1.Job{Name: "j", Groups: []*berthv1.Group{{Name: "g", Tasks: []*berthv1.Task{{Name: "t", Driver: "container", Config: config}}}}}
		src, err := Marshal(job, HCL)
		if err != nil {
			t.Fatal(err)
		}
		if back, err := Parse(src, Options{Format: HCL}); err != nil || !proto.Equal(job, back) {
			t.Errorf("%q: %v\n%s", key, err, src)
		}
	}
}
