package command

import (
	"os"
	"path/filepath"
	"strings"

	"github.com/berthd/berth/jobspec"
	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// variablePrefix begins the names of environment variables that fill in a spec's.
const variablePrefix = "BERTH_VAR_"

// parseSpec makes a job of a spec's text.
func (a *app) parseSpec(name, dir string, src []byte, f *specFlags) (*berthv1.Job, error) {
	opts := jobspec.Options{Filename: name, Dir: dir, Variables: map[string]string{}, EnvVariables: map[string]string{}}
	if name == "-" {
		opts.Filename = "stdin"
	}
	for _, pair := range f.vars {
		key, value, ok := strings.Cut(pair, "=")
		if !ok || key == "" {
			return nil, problem.New(problem.Invalid, "-var", "%q is not name=value", pair)
		}
		opts.Variables[key] = value
	}
	for _, file := range f.varFiles {
		data, err := os.ReadFile(file)
		if err != nil {
			return nil, problem.New(problem.Invalid, "-var-file "+file, "the file cannot be read: %w", unpath(err))
		}
		opts.VarFiles = append(opts.VarFiles, jobspec.File{Name: file, Data: data})
	}
	for _, pair := range a.Environ() {
		if key, value, _ := strings.Cut(pair, "="); strings.HasPrefix(key, variablePrefix) {
			opts.EnvVariables[strings.TrimPrefix(key, variablePrefix)] = value
		}
	}
	job, err := jobspec.Parse(src, opts)
	if err != nil {
		return nil, err
	}
	job.Source = &berthv1.JobSource{Format: formatOf(name), Text: string(src), File: filepath.Base(opts.Filename), Variables: opts.Variables}
	return job, nil
}

// formatOf is the format that a spec's name tells; "": its text has to.
func formatOf(name string) string {
	switch ext := strings.TrimPrefix(filepath.Ext(name), "."); ext {
	case "hcl", "json", "yaml":
		return ext
	case "yml":
		return "yaml"
	}
	return ""
}

// formatSpec is a spec in the canonical layout.
func formatSpec(name string, src []byte) ([]byte, error) {
	if name == "-" {
		name = "stdin.hcl"
	}
	return jobspec.Format(src, name)
}
