package command

import (
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/berthd/berth/client"
	"github.com/berthd/berth/jobspec"
	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// maxRows bounds what one call submits; each row is a job.
const maxRows = 100_000

// rowJob is the job that one row of a table makes of the spec, and what came of it.
type rowJob struct {
	// Row is its line in the file.
	Row       int    `json:"row"`
	Namespace string `json:"namespace"`
	Job       string `json:"job"`
	Version   uint64 `json:"version"`
	EvalID    string `json:"evaluation_id"`
	// Result is "placed", "not placed", "accepted", "unchanged" or "failed".
	Result string `json:"result"`
	Placed uint32 `json:"placed"`
	Wanted uint32 `json:"wanted"`
	// Problem is why it failed, or why it is not placed.
	Problem string `json:"problem"`

	job *berthv1.Job
}

// runRows submits the spec once for each row of a CSV file, whose columns are the spec's
// variables. Nothing is submitted unless every row makes a valid spec.
func (a *app) runRows(ctx context.Context, spec, file string, f *specFlags, o *output, detach bool) error {
	rows, err := a.loadRows(spec, file, f)
	if err != nil {
		return nothingSubmitted(err)
	}
	c, err := a.api()
	if err != nil {
		return err
	}
	for _, r := range rows {
		r.submit(ctx, c)
	}
	for _, r := range rows {
		if !detach {
			r.await(ctx, c)
		}
	}
	if err := a.showRows(o, rows); err != nil {
		return err
	}
	return rowsExit(ctx, rows)
}

// loadRows makes the jobs. What is wrong with any row is told of all of them at once.
func (a *app) loadRows(spec, file string, f *specFlags) ([]*rowJob, error) {
	table, err := readRows(file)
	if err != nil {
		return nil, err
	}
	src, dir, err := a.readSpec(spec)
	if err != nil {
		return nil, err
	}
	var rows []*rowJob
	var wrong []*problem.Error
	seen := map[string]int{}
	for _, values := range table {
		flags := &specFlags{vars: append(append([]string(nil), f.vars...), values.vars...), varFiles: f.varFiles}
		job, err := a.parseSpec(spec, dir, src, flags)
		if err == nil {
			job.Namespace = or(job.GetNamespace(), or(a.flags.namespaceMeant(a.Getenv), "default"))
		}
		where := fmt.Sprintf("%s:%d", file, values.line)
		if err != nil {
			wrong = append(wrong, problem.New(problem.Invalid, where, "%s", inShort(err)))
			continue
		}
		key := job.GetNamespace() + "/" + job.GetName()
		if before := seen[key]; before > 0 {
			wrong = append(wrong, problem.New(problem.Invalid, where, "it makes the job %q, as line %d does", job.GetName(), before).
				WithRemedy("let the job's name in the spec depend on a variable that differs from row to row: job \"vm-${var.name}\""))
			continue
		}
		seen[key] = values.line
		rows = append(rows, &rowJob{Row: values.line, Namespace: job.GetNamespace(), Job: job.GetName(), job: job})
	}
	if len(wrong) > 0 {
		return nil, problem.Join(problem.Invalid, count(len(wrong), "row"), wrong)
	}
	return rows, nil
}

// inShort is what is wrong with a spec, without the lines of it: they are the same for
// every row.
func inShort(err error) string {
	var found *jobspec.Errors
	if !errors.As(err, &found) {
		return err.Error()
	}
	var parts []string
	for _, d := range found.Diagnostics {
		parts = append(parts, d.Place()+": "+d.Summary)
	}
	return strings.Join(parts, "; ")
}

// rowVars is one row as -var takes it.
type rowVars struct {
	line int
	vars []string
}

// readRows reads a CSV file (RFC 4180) whose first line names variables. An empty field
// leaves its variable to the default.
func readRows(file string) ([]rowVars, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, problem.New(problem.Invalid, "-rows "+file, "the file cannot be read: %w", unpath(err))
	}
	defer f.Close()
	r := csv.NewReader(f)
	r.TrimLeadingSpace, r.Comment = true, '#'
	names, err := r.Read()
	if errors.Is(err, io.EOF) {
		return nil, problem.New(problem.Invalid, "-rows "+file, "the file is empty").WithRemedy("its first line names variables of the spec, and each other line is a job")
	}
	if err != nil {
		return nil, problem.New(problem.Invalid, "-rows "+file, "%w", err)
	}
	var rows []rowVars
	for {
		fields, err := r.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, problem.New(problem.Invalid, "-rows "+file, "%w", err)
		}
		if len(rows) == maxRows {
			return nil, problem.New(problem.Invalid, "-rows "+file, "it has more than %d rows", maxRows).WithRemedy("split the file")
		}
		line, _ := r.FieldPos(0)
		row := rowVars{line: line}
		for i, value := range fields {
			if value != "" {
				row.vars = append(row.vars, names[i]+"="+value)
			}
		}
		rows = append(rows, row)
	}
	if len(rows) == 0 {
		return nil, problem.New(problem.Invalid, "-rows "+file, "it names variables and has no row")
	}
	return rows, nil
}

// submit registers the row's job.
func (r *rowJob) submit(ctx context.Context, c *client.Client) {
	answer, err := c.Jobs.RegisterJob(ctx, &berthv1.RegisterJobRequest{Job: r.job})
	if err != nil {
		r.fail(err)
		return
	}
	r.Version, r.EvalID, r.Result = answer.GetVersion(), answer.GetEvaluationId(), "accepted"
	if answer.GetUnchanged() {
		r.Result = "unchanged"
	}
}

func (r *rowJob) fail(err error) { r.Result, r.Problem = "failed", problem.From(err).Error() }

// await waits until the servers have looked at the row's job.
func (r *rowJob) await(ctx context.Context, c *client.Client) {
	if r.Result != "accepted" || r.EvalID == "" {
		return
	}
	eval, err := c.WaitEvaluation(ctx, r.EvalID)
	if err != nil {
		r.fail(err)
		return
	}
	for _, g := range eval.GetGroups() {
		r.Placed, r.Wanted = r.Placed+g.GetPlaced(), r.Wanted+g.GetWanted()
		if r.Problem == "" && g.GetExplanation() != nil {
			r.Problem = notPlaced(g) + " berth explain " + r.Job
		}
	}
	r.Result = "placed"
	if eval.GetStatus() == berthv1.Evaluation_blocked {
		r.Result = "not placed"
	}
}

func (a *app) showRows(o *output, rows []*rowJob) error {
	if o.forPrograms() {
		raw, err := json.Marshal(rows)
		if err != nil {
			return err
		}
		return o.print(a.Out, raw)
	}
	t := newTable(column{title: "ROW", right: true}, column{title: "JOB"}, column{title: "VERSION", right: true, drop: 1},
		column{title: "RESULT"}, column{title: "PLACED", right: true, drop: 2}, column{title: "PROBLEM", drop: 3, shrink: 20})
	tally := map[string]int{}
	for _, r := range rows {
		version := ""
		if r.Version > 0 {
			version = fmt.Sprintf("v%d", r.Version)
		}
		placed := ""
		if r.Wanted > 0 {
			placed = fmt.Sprintf("%d/%d", r.Placed, r.Wanted)
		}
		t.add(r.Row, r.Job, version, word(r.Result), placed, r.Problem)
		tally[r.Result]++
	}
	if err := a.table(t); err != nil {
		return err
	}
	a.printf("\n%s:", count(len(rows), "row"))
	separator := " "
	for _, result := range []string{"placed", "accepted", "unchanged", "not placed", "failed"} {
		if n := tally[result]; n > 0 {
			a.printf("%s%d %s", separator, n, result)
			separator = ", "
		}
	}
	a.printf("\n")
	return nil
}

// rowsExit is the exit code of the worst row.
func rowsExit(ctx context.Context, rows []*rowJob) error {
	code := 0
	for _, r := range rows {
		switch {
		case r.Result == "failed" && ctx.Err() != nil:
			return &exitStatus{code: exitInterrupted}
		case r.Result == "failed":
			return &exitStatus{code: exitError}
		case r.Result == "not placed":
			code = exitNotPlaced
		}
	}
	if code != 0 {
		return &exitStatus{code: code}
	}
	return nil
}
