package jobspec

import (
	"fmt"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/berthd/berth/jobspec/internal/schema"
	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// maxProblems bounds what Validate tells.
const maxProblems = 100

// Validate says what is wrong with a job, however it came to be: as it was written, or
// canonical. Fields are paths, groups[web].tasks[server].driver, each of kind Invalid.
// It reads nothing but the job and does not change it.
func Validate(job *berthv1.Job) []*problem.Error {
	c := &checker{}
	if job == nil {
		return []*problem.Error{problem.New(problem.Invalid, "job", "there is no job")}
	}
	where := "job"
	if job.GetName() != "" {
		where = fmt.Sprintf("job %q", job.GetName())
	}
	c.message(schema.Of(job.ProtoReflect().Descriptor()), job.ProtoReflect(), "", where)
	c.job(job)
	if size := jobSize(job); size > MaxJob {
		c.add("", "", "the job takes %d KiB; at most %d", size>>10, MaxJob>>10)
	}
	return c.problems
}

func jobSize(job *berthv1.Job) int { return proto.Size(job) - proto.Size(job.GetSource()) }

// checker collects what is wrong with a job: first by the schema (this file), then what
// no schema can say (rules.go).
type checker struct {
	problems []*problem.Error
	groups   []string // names of the job's
}

func (c *checker) add(path, remedy, format string, args ...any) {
	if len(c.problems) < maxProblems {
		p := problem.New(problem.Invalid, path, "%s", short(fmt.Sprintf(format, args...)))
		p.Remedy = short(remedy)
		c.problems = append(c.problems, p)
	}
}

// message checks a message and all in it by the schema. where names it in words.
func (c *checker) message(m *schema.Message, msg protoreflect.Message, path, where string) {
	for _, f := range m.Fields {
		if !msg.Has(f.Desc) {
			if f.Options.GetRequired() {
				c.add(join(path, string(f.Desc.Name())), "", "%s has no %s", where, f.Name)
			}
			continue
		}
		fieldPath := join(path, string(f.Desc.Name()))
		value := msg.Get(f.Desc)
		switch {
		case f.Kind == schema.Scalar && f.List:
			c.scalars(f, value.List(), fieldPath)
		case f.Kind == schema.Scalar:
			c.scalar(f, value, fieldPath)
		case f.Kind == schema.Map:
			c.entries(f, value.Map(), fieldPath)
		case f.Kind == schema.Free:
			c.free(msg, f, fieldPath)
		case f.Kind == schema.Block && f.List:
			c.blocks(f, value.List(), fieldPath)
		case f.Kind == schema.Block:
			c.message(f.Message(), value.Message(), fieldPath, f.Name)
		}
	}
}

func (c *checker) scalar(f *schema.Field, v protoreflect.Value, path string) {
	if s, ok := v.Interface().(string); ok {
		if !c.text(s, f.Name, path) {
			return
		}
		if bad := f.Check(v); bad != "" {
			c.add(path, didYouMean(s, f.Values()), "%s %s", f.Name, bad)
		}
		return
	}
	if bad := f.Check(v); bad != "" {
		c.add(path, "", "%s %s", f.Name, bad)
	}
}

func (c *checker) text(s, name, path string) bool {
	switch {
	case len(s) > MaxText:
		c.add(path, "", "%s is longer than %d KiB", name, MaxText>>10)
	case !utf8.ValidString(s):
		c.add(path, "", "%s is not UTF-8 text", name)
	default:
		return true
	}
	return false
}

// scalars checks a list of values; where only some words are known, each may be there
// once.
func (c *checker) scalars(f *schema.Field, list protoreflect.List, path string) {
	if list.Len() > MaxEntries {
		c.add(path, "", "%s has more than %d values", f.Name, MaxEntries)
		return
	}
	seen := map[any]bool{}
	for i := range list.Len() {
		v := list.Get(i)
		c.scalar(f, v, path)
		if key := v.Interface(); len(f.Values()) > 0 || f.Aliases != nil {
			if seen[key] {
				c.add(path, "", "%s holds %q twice", f.Name, key)
			}
			seen[key] = true
		}
	}
}

func (c *checker) entries(f *schema.Field, entries protoreflect.Map, path string) {
	if entries.Len() > MaxEntries {
		c.add(path, "", "%s has more than %d entries", f.Name, MaxEntries)
		return
	}
	keys := make(map[string]string, entries.Len())
	for k, v := range entries.Range {
		keys[k.String()] = v.String()
	}
	for _, k := range sortedKeys(keys) {
		at := path + "[" + k + "]"
		switch {
		case k == "":
			c.add(at, "", "%s has a key without a name", f.Name)
		case len(k) > 256:
			c.add(path, "", "%s has a key longer than 256 bytes", f.Name)
		case c.text(k, "a key of "+f.Name, at):
			c.text(keys[k], k+" in "+f.Name, at)
		}
	}
}

func (c *checker) blocks(f *schema.Field, list protoreflect.List, path string) {
	if list.Len() > MaxElements {
		c.add(path, "", "more than %d of %s", MaxElements, f.Name)
		return
	}
	m := f.Message()
	seen := map[string]bool{}
	for i, key := range elementKeys(m, list) {
		element, at := list.Get(i).Message(), path+"["+key+"]"
		where, label := f.Name, labelOf(m, element)
		if label != "" {
			where = fmt.Sprintf("%s %q", f.Name, label)
			if seen[label] && !mayRepeat[f.Desc.FullName()] {
				c.add(join(at, string(m.Label.Desc.Name())), "", "a second %s", where)
			}
			seen[label] = true
		}
		c.message(m, element, at, where)
	}
}

// mayRepeat are blocks whose label is no name: two may have the same.
var mayRepeat = map[protoreflect.FullName]bool{"berth.v1.Resources.devices": true}

// free checks a Free field by the driver's schema where that is known, and its bounds
// anyway.
func (c *checker) free(msg protoreflect.Message, f *schema.Field, path string) {
	s, ok := msg.Get(f.Desc).Message().Interface().(*structpb.Struct)
	if !ok {
		return
	}
	before, values := len(c.problems), 0
	c.bounds(structpb.NewStructValue(s), f.Name, path, 0, &values)
	if len(c.problems) > before {
		return
	}
	config := configFor(msg, f)
	if config == nil {
		return
	}
	where := configName(msg)
	d := newDecoder(false)
	d.message(config, objectOf(s), path, where)
	for _, x := range d.found.list {
		c.add(x.path, x.hint, "%s", x.summary)
	}
	inner := &checker{}
	inner.message(schema.Of(config.Descriptor()), config, path, where)
	for _, p := range inner.problems {
		if !d.complained(p.Field) {
			c.add(p.Field, p.Remedy, "%s", p.Reason)
		}
	}
}

// bounds checks a free-form value; values counts.
func (c *checker) bounds(v *structpb.Value, name, path string, depth int, values *int) {
	if *values++; *values > MaxNodes {
		if *values == MaxNodes+1 {
			c.add(path, "", "%s holds more than %d values", name, MaxNodes)
		}
		return
	}
	if depth > MaxDepth {
		c.add(path, "", "%s nests deeper than %d", name, MaxDepth)
		return
	}
	switch k := v.GetKind().(type) {
	case *structpb.Value_StringValue:
		c.text(k.StringValue, name, path)
	case *structpb.Value_NumberValue:
		if x := k.NumberValue; x-x != 0 { // not finite
			c.add(path, "", "a number in %s is not finite", name)
		}
	case *structpb.Value_ListValue:
		for i, item := range k.ListValue.GetValues() {
			c.bounds(item, name, fmt.Sprintf("%s[%d]", path, i), depth+1, values)
		}
	case *structpb.Value_StructValue:
		for _, key := range sortedKeys(k.StructValue.GetFields()) {
			if !c.text(key, "a key of "+name, path) {
				continue
			}
			c.bounds(k.StructValue.GetFields()[key], name, join(path, key), depth+1, values)
		}
	case nil:
		c.add(path, "", "a value in %s has no kind", name)
	}
}
