package command

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/berthd/berth/jobspec"
	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// specFlags are what fills in a spec's variables.
type specFlags struct {
	vars, varFiles []string
}

func (f *specFlags) register(cmd *cobra.Command) {
	cmd.Flags().StringArrayVar(&f.vars, "var", nil, "value of a variable, `name=value`; may be repeated; over -var-file, which is over BERTH_VAR_<name>")
	cmd.Flags().StringArrayVar(&f.varFiles, "var-file", nil, "`file` with values of variables; may be repeated")
	cmd.ValidArgsFunction = completeFiles
}

// words are the flags as a shell takes them, each with a space before it.
func (f *specFlags) words() string {
	var b strings.Builder
	for _, v := range f.vars {
		b.WriteString(" -var " + shellWord(v))
	}
	for _, v := range f.varFiles {
		b.WriteString(" -var-file " + shellWord(v))
	}
	return b.String()
}

// shellWord writes text as one word of a shell's command line.
func shellWord(text string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_=.,:/@%+", r)
	}
	if text != "" && strings.IndexFunc(text, func(r rune) bool { return !plain(r) }) < 0 {
		return text
	}
	return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'"
}

func completeFiles(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return []string{"hcl", "json", "yaml", "yml"}, cobra.ShellCompDirectiveFilterFileExt
}

// maxSpecBytes bounds a spec; the longest that make sense are a thousandth of it.
const maxSpecBytes = 16 << 20

// readSpec reads a spec's text; "-" is stdin. dir is where its relative paths begin.
func (a *app) readSpec(name string) (src []byte, dir string, err error) {
	in := a.In
	dir = filepath.Dir(name)
	if name == "-" {
		dir = "."
	} else {
		f, err := os.Open(name)
		if err != nil {
			return nil, "", problem.New(problem.Invalid, name, "the job spec cannot be read: %w", unpath(err))
		}
		defer f.Close()
		in = f
	}
	src, err = io.ReadAll(io.LimitReader(in, maxSpecBytes+1))
	if err != nil {
		return nil, "", problem.New(problem.Invalid, name, "the job spec cannot be read: %w", unpath(err))
	}
	if len(src) > maxSpecBytes {
		return nil, "", problem.New(problem.Invalid, name, "the job spec is longer than %s", bytesIn(maxSpecBytes))
	}
	return src, dir, nil
}

// unpath takes the path out of an error that is told beside it.
func unpath(err error) error {
	var p *os.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}

// loadJob turns the named spec into a job in the namespace that is meant.
func (a *app) loadJob(name string, f *specFlags) (*berthv1.Job, error) {
	src, dir, err := a.readSpec(name)
	if err != nil {
		return nil, err
	}
	job, err := a.parseSpec(name, dir, src, f)
	if err != nil {
		return nil, err
	}
	if job.GetNamespace() == "" {
		job.Namespace = or(a.flags.namespaceMeant(a.Getenv), "default")
	}
	return job, nil
}

func (a *app) jobInit() *cobra.Command {
	var force, full bool
	cmd := a.leaf("init [FILE]", "Write an example job spec",
		"Writes an example that runs to FILE (example.hcl unless named; - is stdout). With -full: one that shows everything there is, explained.",
		func(_ context.Context, args []string) error {
			name := "example.hcl"
			if len(args) > 0 {
				name = args[0]
			}
			text := jobspec.Example(map[bool]string{true: "full", false: "short"}[full])
			if name == "-" {
				a.printf("%s", text)
				return nil
			}
			flags := os.O_WRONLY | os.O_CREATE | os.O_EXCL
			if force {
				flags = os.O_WRONLY | os.O_CREATE | os.O_TRUNC
			}
			f, err := os.OpenFile(name, flags, 0o644)
			if os.IsExist(err) {
				return problem.New(problem.Exists, name, "the file is there already").WithRemedy("name another one, or add -force")
			}
			if err != nil {
				return problem.New(problem.Invalid, name, "the example cannot be written: %w", unpath(err))
			}
			if _, err := f.WriteString(text); err != nil {
				_ = f.Close()
				return problem.New(problem.Invalid, name, "the example cannot be written: %w", unpath(err))
			}
			if err := f.Close(); err != nil {
				return problem.New(problem.Invalid, name, "the example cannot be written: %w", unpath(err))
			}
			a.printf("Wrote %s. `berth job run %s` runs it.\n", name, name)
			return nil
		})
	cmd.Flags().BoolVar(&full, "full", false, "show everything that a spec can say")
	cmd.Flags().BoolVar(&force, "force", false, "overwrite the file if it is there")
	return cmd
}

func (a *app) jobValidate() *cobra.Command {
	var f specFlags
	var o output
	var local bool
	cmd := a.leaf("validate FILE", "Check a job spec",
		"FILE is a job spec in HCL, JSON or YAML; - is stdin. What can only be known by the servers is asked of them, unless -local is given.",
		func(ctx context.Context, args []string) error {
			job, err := a.loadJob(args[0], &f)
			if err != nil {
				return nothingSubmitted(err)
			}
			r := &berthv1.ValidateJobResponse{}
			if !local {
				c, err := a.api()
				if err != nil {
					return err
				}
				r, err = c.Jobs.ValidateJob(ctx, &berthv1.ValidateJobRequest{Job: job})
				if problem.Is(err, problem.Unavailable) {
					a.note("No server was asked (%s); the spec itself is what was checked.", problem.From(err).Field)
					r, err = &berthv1.ValidateJobResponse{}, nil
				}
				if err != nil {
					return err
				}
			}
			if o.forPrograms() {
				if err := a.show(&o, r, nil); err != nil {
					return err
				}
				if len(r.GetProblems()) > 0 {
					return &exitStatus{code: exitError}
				}
				return nil
			}
			a.warn(r.GetWarnings())
			if len(r.GetProblems()) > 0 {
				return joined(r.GetProblems())
			}
			a.printf("%s is a valid job spec.\n", args[0])
			return nil
		})
	f.register(cmd)
	cmd.Flags().BoolVar(&local, "local", false, "do not ask the servers")
	o.register(cmd)
	return cmd
}

// joined makes one problem of those that the API listed.
func joined(problems []*berthv1.Problem) error {
	causes := make([]*problem.Error, 0, len(problems))
	for _, p := range problems {
		causes = append(causes, problem.FromProto(p))
	}
	return nothingSubmitted(problem.Join(problem.Invalid, count(len(causes), "error"), causes))
}

// specError is an error about a spec: what was wrong is followed by what that meant.
type specError struct{ error }

func (e specError) Unwrap() error { return e.error }

// nothingSubmitted says that because of err nothing was submitted.
func nothingSubmitted(err error) error { return specError{err} }

func (a *app) warn(warnings []string) {
	for _, w := range warnings {
		a.note("%s", a.paragraph("Warning: ", &problem.Error{Reason: w}))
	}
}

func (a *app) jobFmt() *cobra.Command {
	var check bool
	cmd := a.leaf("fmt FILE...", "Format job specs",
		"Rewrites HCL files in the canonical layout; - formats stdin to stdout. With -check nothing is written, and the exit code is 1 if something would be.",
		func(_ context.Context, args []string) error {
			changed := 0
			for _, name := range args {
				differs, err := a.formatFile(name, check)
				if err != nil {
					return err
				}
				if differs {
					changed++
				}
			}
			if check && changed > 0 {
				return &exitStatus{code: exitError}
			}
			return nil
		})
	cmd.Flags().BoolVar(&check, "check", false, "only say which files are not formatted")
	cmd.ValidArgsFunction = nil
	return cmd
}

func (a *app) formatFile(name string, check bool) (changed bool, err error) {
	src, _, err := a.readSpec(name)
	if err != nil {
		return false, err
	}
	out, err := formatSpec(name, src)
	if err != nil {
		return false, err
	}
	changed = string(out) != string(src)
	switch {
	case name == "-" && !check:
		_, err = a.Out.Write(out)
		return changed, err
	case !changed:
		return false, nil
	case check:
		a.printf("%s\n", name)
		return true, nil
	}
	a.printf("%s\n", name)
	return true, writeFile(name, out)
}

// writeFile replaces a file's content and never leaves half of it.
func writeFile(name string, data []byte) error {
	mode := os.FileMode(0o644)
	if info, err := os.Stat(name); err == nil {
		mode = info.Mode().Perm()
	}
	wrong := func(err error) error {
		return problem.New(problem.Invalid, name, "the file cannot be written: %w", unpath(err))
	}
	tmp, err := os.CreateTemp(filepath.Dir(name), ".berth-*")
	if err != nil {
		return wrong(err)
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(data)
	if err == nil {
		err = tmp.Chmod(mode)
	}
	if err == nil {
		err = tmp.Sync()
	}
	if closed := tmp.Close(); err == nil {
		err = closed
	}
	if err == nil {
		err = os.Rename(tmp.Name(), name)
	}
	if err != nil {
		return wrong(err)
	}
	return nil
}
