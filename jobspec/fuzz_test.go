package jobspec

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
	"google.golang.org/protobuf/proto"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// seeds gives every spec of the transcripts, and the examples.
func seeds(f *testing.F, ext string) {
	names, _ := filepath.Glob("testdata/[ej]*/*.txtar")
	for _, name := range names {
		archive, err := txtar.ParseFile(name)
		if err != nil {
			f.Fatal(err)
		}
		if filepath.Ext(archive.Files[0].Name) == ext {
			f.Add(archive.Files[0].Data)
		}
		if filepath.Base(filepath.Dir(name)) != "jobs" {
			continue
		}
		job, err := Parse(archive.Files[0].Data, Options{Filename: archive.Files[0].Name})
		if err != nil {
			continue
		}
		if text, err := Marshal(job, Syntax(ext[1:])); err == nil {
			f.Add(text)
		}
	}
}

func fuzzSyntax(f *testing.F, syntax Syntax) {
	seeds(f, "."+string(syntax))
	if syntax == HCL {
		f.Add([]byte(Example("")))
		f.Add([]byte(Example("full")))
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		job, err := Parse(src, Options{Format: syntax})
		var errs *Errors
		if err != nil {
			if !errors.As(err, &errs) || len(errs.Diagnostics) == 0 || len(errs.Diagnostics) > MaxDiagnostics {
				t.Fatalf("no list of errors: %v", err)
			}
			_ = err.Error()
			return
		}
		checkParsed(t, job)
		if formatted, err := Format(src, "x."+string(syntax)); err != nil {
			t.Fatalf("it parses, but cannot be formatted: %v", err)
		} else if again, err := Parse(formatted, Options{Format: syntax}); err != nil || !proto.Equal(job, again) {
			t.Fatalf("formatting changed it: %v", err)
		}
	})
}

// checkParsed holds what is promised of every job that came out of Parse.
func checkParsed(t *testing.T, job *berthv1.Job) {
	if problems := Validate(job); len(problems) > 0 {
		t.Fatalf("it parses, but is not valid: %v", problems[0])
	}
	canonical := Canonicalize(job)
	if problems := Validate(canonical); len(problems) > 0 {
		t.Fatalf("canonical, it is not valid any more: %v", problems[0])
	}
	if !proto.Equal(canonical, Canonicalize(canonical)) {
		t.Fatal("canonical is not canonical")
	}
	_ = Warnings(job)
	_ = Diff(job, canonical)
	for _, syntax := range []Syntax{HCL, JSON, YAML} {
		text, err := Marshal(job, syntax)
		if err != nil {
			t.Fatal(err)
		}
		back, err := Parse(text, Options{Format: syntax})
		if err != nil {
			t.Fatalf("what Marshal wrote does not parse: %v\n%s", err, text)
		}
		if syntax != HCL && !proto.Equal(job, back) { // HCL brings strings into NFC
			t.Fatalf("%s changed it:\n%s", syntax, text)
		}
	}
}

func FuzzHCL(f *testing.F)  { fuzzSyntax(f, HCL) }
func FuzzJSON(f *testing.F) { fuzzSyntax(f, JSON) }
func FuzzYAML(f *testing.F) { fuzzSyntax(f, YAML) }

// FuzzValidate takes jobs as they come over the wire.
func FuzzValidate(f *testing.F) {
	names, _ := filepath.Glob("testdata/jobs/*.txtar")
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		file := txtar.Parse(text).Files[0]
		if job, err := Parse(file.Data, Options{Filename: file.Name}); err == nil {
			wire, _ := proto.Marshal(job)
			f.Add(wire)
			wire, _ = proto.Marshal(Canonicalize(job))
			f.Add(wire)
		}
	}
	f.Fuzz(func(t *testing.T, wire []byte) {
		job := &berthv1.Job{}
		if proto.Unmarshal(wire, job) != nil {
			return
		}
		before := proto.CloneOf(job)
		problems := Validate(job)
		if !proto.Equal(before, job) {
			t.Fatal("Validate changed the job")
		}
		_ = Warnings(job)
		_ = Diff(nil, job)
		_, _ = Marshal(job, HCL)
		canonical := Canonicalize(job)
		if len(problems) > 0 {
			return
		}
		if problems := Validate(canonical); len(problems) > 0 {
			t.Fatalf("canonical, it is not valid any more: %v", problems[0])
		}
	})
}
