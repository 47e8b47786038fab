package jobspec

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

var update = flag.Bool("update", false, "write what the transcripts should say")

// TestTranscripts runs testdata/jobs and testdata/errors: the first file is a spec, and the last says
// what comes of it: the job as the API would give it, or the errors as a terminal would
// show them. Lines "var x=y" before the files give variables, "env x=y" those of the
// environment; files called vars.* are files of variables; the others are there for
// file() to read.
func TestTranscripts(t *testing.T) {
	names, err := filepath.Glob("testdata/[ej]*/*.txtar")
	if err != nil || len(names) == 0 {
		t.Fatal("no transcripts", err)
	}
	for _, name := range names {
		t.Run(strings.TrimSuffix(filepath.ToSlash(name), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(name)
			if err != nil {
				t.Fatal(err)
			}
			job, parseErr := parseArchive(t, archive)
			want := txtar.File{Name: "job.json"}
			if parseErr != nil {
				want = txtar.File{Name: "error", Data: []byte(parseErr.Error() + "\n")}
			} else {
				want.Data = apiJSON(t, job)
				if w := Warnings(job); len(w) > 0 {
					want.Name, want.Data = "job.json and warnings", append(want.Data, []byte(strings.Join(w, "\n")+"\n")...)
				}
			}
			if strings.Contains(name, "errors/") != (parseErr != nil) {
				t.Errorf("in this folder %v is a surprise", parseErr)
			}
			files := archive.Files
			last := files[len(files)-1]
			if bytes.Equal(last.Data, want.Data) && last.Name == want.Name {
				return
			}
			if !*update {
				t.Fatalf("got -- %s --\n%s\nwant -- %s --\n%s", want.Name, want.Data, last.Name, last.Data)
			}
			if last.Name == "error" || strings.HasPrefix(last.Name, "job.json") && len(files) > 1 {
				files = files[:len(files)-1]
			}
			archive.Files = append(files, want)
			if err := os.WriteFile(name, txtar.Format(archive), 0o644); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func parseArchive(t *testing.T, archive *txtar.Archive) (*berthv1.Job, error) {
	t.Helper()
	opts := Options{Filename: archive.Files[0].Name, Variables: map[string]string{}, EnvVariables: map[string]string{}}
	for line := range strings.Lines(string(archive.Comment)) {
		word, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		key, value, _ := strings.Cut(rest, "=")
		switch word {
		case "var":
			opts.Variables[key] = value
		case "env":
			opts.EnvVariables[key] = value
		case "server":
			opts.Dir = "server"
		}
	}
	if opts.Dir = map[string]string{"": t.TempDir()}[opts.Dir]; opts.Dir != "" {
		for _, f := range archive.Files[1:] {
			if strings.HasPrefix(f.Name, "vars.") {
				opts.VarFiles = append(opts.VarFiles, File{f.Name, f.Data})
			} else if err := os.WriteFile(filepath.Join(opts.Dir, filepath.Base(f.Name)), f.Data, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	parsed, err := Parse(archive.Files[0].Data, opts)
	if err != nil {
		if opts.Dir == "" {
			return nil, err
		}
		return nil, errorText(strings.ReplaceAll(err.Error(), opts.Dir+"/", ""))
	}
	return parsed, nil
}

type errorText string

func (e errorText) Error() string { return string(e) }

// apiJSON is a job as the API gives it, indented the same way every time.
func apiJSON(t interface {
	Helper()
	Fatal(...any)
}, job proto.Message) []byte {
	t.Helper()
	text, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(job)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := json.Indent(&b, text, "", "  "); err != nil {
		t.Fatal(err)
	}
	return append(b.Bytes(), '\n')
}
