package jobspec

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/berthd/berth/jobspec/internal/schema"
	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

func TestExamples(t *testing.T) {
	for _, kind := range []string{"", "full"} {
		src := []byte(Example(kind))
		job, err := Parse(src, Options{Filename: kind + ".hcl"})
		if err != nil {
			t.Fatal(err)
		}
		if w := Warnings(job); len(w) > 0 {
			t.Errorf("%q has warnings: %q", kind, w)
		}
		if out, err := Format(src, "x.hcl"); err != nil || string(out) != string(src) {
			t.Errorf("%q is not formatted: %v\n%s", kind, err, out)
		}
	}
}

// What stands in examples/ is read, by name and by the text.
func TestRepositoryExamples(t *testing.T) {
	names, _ := filepath.Glob("../examples/*.hcl")
	for _, name := range names {
		src, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, filename := range []string{name, ""} {
			if _, err := Parse(src, Options{Filename: filename, Dir: filepath.Dir(name)}); err != nil {
				t.Errorf("%s:\n%v", name, err)
			}
		}
	}
}

// The full example names everything that the schema has.
func TestFullExampleIsFull(t *testing.T) {
	text := Example("full")
	var walk func(md protoreflect.MessageDescriptor)
	walk = func(md protoreflect.MessageDescriptor) {
		for _, f := range schema.Of(md).Fields {
			if f.Kind == schema.Internal || f == schema.Of(md).Label {
				continue
			}
			if !strings.Contains(text, f.Name+" ") {
				t.Errorf("%s is not in it", f.Desc.FullName())
			}
			if f.Kind == schema.Block {
				walk(f.Desc.Message())
			}
		}
	}
	walk((&berthv1.Job{}).ProtoReflect().Descriptor())
}

func TestErrorIsAProblem(t *testing.T) {
	_, err := Parse([]byte("job \"web\" {\n  grup \"x\" {}\n}\n"), Options{Filename: "web.hcl"})
	var errs *Errors
	if !errors.As(err, &errs) || len(errs.Diagnostics) != 1 {
		t.Fatalf("got %v", err)
	}
	p := problem.From(fmt.Errorf("reading the spec: %w", err))
	if p.Kind != problem.Invalid || p.Field != "web.hcl:2:3" || p.Remedy != `did you mean "group"?` {
		t.Errorf("got %+v", p)
	}
}

func TestGuess(t *testing.T) {
	for _, c := range []struct {
		name, text string
		want       Syntax
	}{
		{"a.json", "job", JSON},
		{"a.yml", "job", YAML},
		{"a.hcl", "{}", HCL},
		{"", " {\"name\": 1}", JSON},
		{"", "# comment\n\nname: web\n", YAML},
		{"", "---\n", YAML},
		{"", "job: {}", YAML},
		{"", "# comment\njob \"x\" {}", HCL},
		{"-", "variable \"x\" {\n  a: 1\n}", HCL},
		{"", "", HCL},
	} {
		if got := guess(c.name, []byte(c.text)); got != c.want {
			t.Errorf("guess(%q, %q) = %q, want %q", c.name, c.text, got, c.want)
		}
	}
}

// No spec may take long, or take the process down.
func TestHostileSpecs(t *testing.T) {
	rep := func(s string, n int) string { return strings.Repeat(s, n) }
	n := 100_000
	if testing.Short() {
		n = 11_000
	}
	hcl := map[string]string{
		"brackets": "a = " + rep("[", n), "parens": "a = " + rep("(", n), "bangs": "a = " + rep("!", n) + "true",
		"minus": "a = " + rep("-", n) + "1", "ternary": "a = " + rep("true ? 1 : ", n) + "1", "plus": "a = 1" + rep("+1", n),
		"blocks": rep("a {\n", n), "templates": "a = " + rep(`"${`, n), "index": "a = x" + rep("[0]", n), "attrs": "a = x" + rep(".a", n),
		"splat": "a = x" + rep("[*]", n), "calls": "a = " + rep("f(", n), "control": `a = "` + rep("%{if true}", n) + `"`,
		"objects": "a = " + rep("{a=", n), "heredocs": rep("a = <<E\n", n), "quotes": rep(`"`, n),
		"product": `a = setproduct(range(1000), range(1000), range(1000), range(1000))`,
		"format":  `a = format("%999999999d", 1)`,
		"formats": `a = format("` + rep("%[1]s", 50_000) + `", "` + rep("x", 50_000) + `")`,
		"list":    `a = formatlist("` + rep("x", 50_000) + `%d", range(1000))`,
		"indent":  `a = indent(999999999, "a\nb")`,
		"replace": `a = replace("` + rep("x", 50_000) + `", "", "` + rep("y", 50_000) + `")`,
		"regex":   `a = regex_replace("` + rep("x", 50_000) + `", "", "` + rep("y", 50_000) + `")`,
		"regexes": `a = regexall("` + rep("(x+x+)+y", 5000) + `", "` + rep("x", 100_000) + `")`,
		"join":    `a = join("` + rep("x", 100_000) + `", [for i in range(1000) : ""])`,
		"number":  `a = "${1e99999999}"`, "number2": `a = floor("1e999999999")`, "number3": `a = "1e999999999" % 3`,
		"number4": `a = format("%d", "1e999999999")`, "number5": `a = join(",", jsondecode("[1e999999999]"))`,
		"number6": `a = tostring(tonumber("1e999999999"))`, "number7": `a = range("1e999999999")`, "number8": `a = -"1e999999999"`,
		"pow":      `a = pow(10, pow(10, 10))`,
		"for":      `a = [for a in range(1024) : [for b in range(1024) : [for c in range(1024) : [for d in range(1024) : 1]]]]`,
		"group":    `a = {for a in range(1024) : "x" => [for b in range(1024) : [for c in range(1024) : b]]...}`,
		"if":       `a = [for a in range(1024) : 1 if length([for b in range(1024) : 1 if length([for c in range(1024) : 1]) > 0]) > 0]`,
		"lines":    "a = <<E\n" + rep("x\n", 100_000) + "E\n",
		"distinct": `a = distinct(split("", "` + rep("xy", 100_000) + `"))`,
		"chain": "a = local.l0\n" + func() (s string) {
			for i := range 5000 {
				s += fmt.Sprintf("l%d = local.l%d\n", i, i+1)
			}
			return s + "l5000 = 1"
		}(),
	}
	job := "\njob \"a\" {\n  group \"g\" {\n    task \"t\" { driver = \"mock\" }\n  }\n}\n"
	yaml := map[string]string{
		"flow": rep("[", n), "flowmap": rep("{a: ", n), "seq": rep("- ", n), "question": rep("? ", n), "anchors": rep("&a ", n),
		"tags": rep("!!a\n", n), "documents": rep("---\na: b\n", n), "colons": rep("a: ", n),
		"indent": func() (s string) {
			for i := range 1000 {
				s += rep(" ", i) + "a:\n"
			}
			return s
		}(),
	}
	long := rep("x", 900_000)
	json := map[string]string{"long": `{"name":"` + long + `","` + long + `":1,"type":"` + long[:90_000] + `"}`,
		"labels": `{"group":{"` + long + `":{"count":"x","` + long[:50_000] + `":{}}}}`, "lists": rep("[", n), "objects": rep(`{"a":`, n), "number": `{"name":1e999999999,"group":{"g":{"count":1e999999999}}}`,
		"many": `{"constraint":[` + rep("{},", n) + `{}]}`}
	run := func(name, src string, syntax Syntax) {
		t.Run(string(syntax)+"/"+name, func(t *testing.T) {
			src = src[:min(len(src), MaxSource)]
			start := time.Now()
			_, err := Parse([]byte(src), Options{Format: syntax})
			var errs *Errors
			if !errors.As(err, &errs) {
				t.Fatalf("got %v", err)
			}
			text := err.Error()
			t.Logf("%v: %s", time.Since(start), text[:min(len(text), 300)])
			if len(text) > 50_000 {
				t.Errorf("the error has %d bytes", len(text))
			}
		})
	}
	for name, src := range hcl {
		run(name, "locals {\n"+src+"\n}"+job, HCL)
	}
	for name, src := range yaml {
		run(name, src, YAML)
	}
	for name, src := range json {
		run(name, src, JSON)
	}
}

func TestValidateTakesAnything(t *testing.T) {
	if p := Validate(nil); len(p) != 1 {
		t.Errorf("got %v", p)
	}
	if p := Validate(&berthv1.Job{}); len(p) != 2 { // name, group
		t.Errorf("got %v", p)
	}
	big := &berthv1.Job{Name: "a"}
	for range 100_000 {
		big.Groups = append(big.Groups, &berthv1.Group{})
	}
	if p := Validate(big); len(p) == 0 || len(p) > maxProblems {
		t.Errorf("got %d problems", len(p))
	}
}

func TestCanonicalize(t *testing.T) {
	job, err := Parse([]byte(`{"name": "a", "arch": ["x86_64"], "type": "batch", "group": {"g": {
		"topology": {"policy": "single-numa-node"},
		"task": {"t": {"driver": "exec", "config": {"command": "x", "mount": [{"host_path": "/a", "path": "/b"}]}, "resources": {"cores": 2}},
		         "u": {"driver": "mock", "restart": {"delay": "5m"}}}}}}`), Options{})
	if err != nil {
		t.Fatal(err)
	}
	before := proto.CloneOf(job)
	got := Canonicalize(job)
	if !proto.Equal(before, job) {
		t.Error("it changed its argument")
	}
	want := `namespace default, pool default, priority 50, arch [amd64], count 1, policy single, attempts 1, cpu 0 100, memory 64, mounts 1, max 300`
	g := got.GetGroups()[0]
	tasks := g.GetTasks()
	text := fmt.Sprintf("namespace %s, pool %s, priority %d, arch %v, count %d, policy %s, attempts %d, cpu %d %d, memory %d, mounts %d, max %d",
		got.GetNamespace(), got.GetNodePool(), got.GetPriority(), got.GetArch(), g.GetCount(), g.GetTopology().GetPolicy(),
		g.GetReschedule().GetAttempts(), tasks[0].GetResources().GetCpuMilli(), tasks[1].GetResources().GetCpuMilli(),
		tasks[0].GetResources().GetMemoryMib(), len(tasks[0].GetConfig().GetFields()["mounts"].GetListValue().GetValues()),
		tasks[1].GetRestart().GetMaxDelay().GetSeconds())
	if text != want {
		t.Errorf("got  %s\nwant %s", text, want)
	}
	if tasks[0].GetRestart() != nil || g.GetNetwork() != nil || g.GetReschedule().GetUnlimited() {
		t.Error("what says something by being absent was filled in")
	}
	system := proto.CloneOf(before)
	system.Type = berthv1.Job_system
	if g := Canonicalize(system).GetGroups()[0]; g.Count != nil || g.Reschedule != nil {
		t.Errorf("a system job got %v %v", g.Count, g.Reschedule)
	}
}
