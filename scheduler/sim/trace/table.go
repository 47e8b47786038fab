package trace

import (
	"encoding/csv"
	"errors"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/berthd/berth/problem"
)

// Table reads the records of a CSV text by the names of its columns. The first thing
// that is wrong stays in Err; the records after it are not given.
type Table struct {
	in     *csv.Reader
	names  []string
	record []string
	err    error
}

// NewTable reads the header, which must have the columns.
func NewTable(r io.Reader, columns ...string) (*Table, error) {
	t := &Table{in: csv.NewReader(r)}
	t.in.ReuseRecord = true
	header, err := t.in.Read()
	if errors.Is(err, io.EOF) {
		return nil, problem.New(problem.Invalid, "line 1", "the file is empty").
			WithRemedy("its first line names the columns: %s", strings.Join(columns, ","))
	} else if err != nil {
		return nil, malformed(err)
	}
	for _, name := range header {
		t.names = append(t.names, strings.TrimSpace(strings.TrimPrefix(name, "\ufeff")))
	}
	for i, name := range t.names {
		if name != "" && slices.Index(t.names, name) != i {
			return nil, problem.New(problem.Invalid, "line 1", "column %q is there twice", name)
		}
	}
	for _, name := range columns {
		if !t.Has(name) {
			return nil, problem.New(problem.Invalid, "line 1", "there is no column %q among %s", name, clip(strings.Join(t.names, ","))).
				WithRemedy("the first line names the columns; needed are %s", strings.Join(columns, ","))
		}
	}
	return t, nil
}

// malformed is what the CSV reader found, with its line.
func malformed(err error) error {
	var parse *csv.ParseError
	if !errors.As(err, &parse) {
		return err // of the reader below
	}
	return problem.New(problem.Invalid, "line "+strconv.Itoa(parse.Line), "not CSV: %w", parse.Err)
}

// Has says whether there is such a column.
func (t *Table) Has(column string) bool { return slices.Contains(t.names, column) }

// Next goes to the next record; false at the end and at an error.
func (t *Table) Next() bool {
	if t.err != nil {
		return false
	}
	record, err := t.in.Read()
	if errors.Is(err, io.EOF) {
		return false
	} else if err != nil {
		t.err = malformed(err)
		return false
	}
	t.record = record
	return true
}

// Err is the first thing that was wrong.
func (t *Table) Err() error { return t.err }

// Text is a value of the record; empty where there is no such column.
func (t *Table) Text(column string) string {
	if i := slices.Index(t.names, column); i >= 0 {
		return t.record[i]
	}
	return ""
}

// Number is a whole number from 0 to most.
func (t *Table) Number(column string, most int64) int64 {
	text := t.Text(column)
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		t.Fail(column, "%q is not a whole number", clip(text))
		return 0
	}
	if n < 0 || n > most {
		t.Fail(column, "%d is not from 0 to %d", n, most)
		return 0
	}
	return n
}

// Fail notes that a value of the record is wrong.
func (t *Table) Fail(column, format string, args ...any) {
	if t.err != nil {
		return
	}
	line := 0
	if i := slices.Index(t.names, column); i >= 0 {
		line, _ = t.in.FieldPos(i)
	}
	t.err = problem.New(problem.Invalid, "line "+strconv.Itoa(line)+": "+column, format, args...)
}

// clip keeps a message readable when a file is something else altogether.
func clip(s string) string {
	if len(s) > 80 {
		return s[:80] + "..."
	}
	return s
}
