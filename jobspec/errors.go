package jobspec

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/berthd/berth/jobspec/internal/tree"
	"github.com/berthd/berth/problem"
)

// MaxDiagnostics is how many errors of one spec are told.
const MaxDiagnostics = 20

// Diagnostic is one thing that is wrong with a spec, and where.
type Diagnostic struct {
	File string
	// Line and Col count from 1; 0: it is about the whole file.
	Line, Col int
	// Path is the field it is about, as in a problem: groups[web].count. It may be empty.
	Path    string
	Summary string
	// Hint says what to do about it; may be empty.
	Hint string
	// Snippet is the line of the source; empty where there is none.
	Snippet string
}

// Place is "file:line:col", or as much of it as is known.
func (d *Diagnostic) Place() string {
	if d.Line == 0 {
		return d.File
	}
	return fmt.Sprintf("%s:%d:%d", d.File, d.Line, d.Col)
}

// String is the diagnostic with its snippet, as a terminal shows it:
//
//	web.hcl:14:7: unknown attribute "memry" in resources
//	  14 |       memry = "256MiB"
//	             ^ did you mean "memory"?
func (d *Diagnostic) String() string {
	s := d.Place() + ": " + d.Summary
	if d.Snippet == "" {
		if d.Hint != "" {
			s += "\n  " + d.Hint
		}
		return s
	}
	line, before := window(d.Snippet, d.Col)
	gutter := fmt.Sprintf("  %d | ", d.Line)
	caret := strings.Repeat(" ", len(gutter)) + strings.Map(func(r rune) rune {
		if r == '\t' {
			return r
		}
		return ' '
	}, before) + "^"
	if d.Hint != "" {
		caret += " " + d.Hint
	}
	return s + "\n" + gutter + line + "\n" + caret
}

// window cuts a long line to what stands around a column, and gives what of it is
// before that column.
func window(line string, col int) (cut, before string) {
	runes := []rune(strings.Map(func(r rune) rune {
		if r != '\t' && r < ' ' || r == utf8.RuneError {
			return '·'
		}
		return r
	}, line))
	at := min(max(col-1, 0), len(runes))
	from, to := max(0, at-80), min(len(runes), at+60)
	if from < 20 {
		from = 0
	}
	return string(runes[from:to]), string(runes[from:at])
}

// Errors is everything that is wrong with a spec, in the order of the source.
type Errors struct {
	Diagnostics []Diagnostic
	// More were found than are told.
	More int
}

// Error gives every diagnostic with its snippet.
func (e *Errors) Error() string {
	var b strings.Builder
	for i := range e.Diagnostics {
		b.WriteString(e.Diagnostics[i].String() + "\n")
	}
	if e.More > 0 {
		fmt.Fprintf(&b, "and %d more\n", e.More)
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// Unwrap gives the same as a problem, so that problem.From finds it.
func (e *Errors) Unwrap() error {
	var causes []*problem.Error
	for _, d := range e.Diagnostics {
		causes = append(causes, &problem.Error{
			Kind: problem.Invalid, Field: d.Place(), Reason: d.Summary, Remedy: d.Hint,
		})
	}
	return problem.Join(problem.Invalid, fmt.Sprintf("the spec has %d errors", len(causes)+e.More), causes)
}

// finding is a diagnostic in the making.
type finding struct {
	pos     tree.Pos
	path    string
	summary string
	hint    string
	// file and line are those of another file than the spec's.
	file, line string
}

// findings collects what is wrong.
type findings struct {
	list []finding
	more int
}

// maxFindings bounds what is kept before it is sorted and cut to MaxDiagnostics.
const maxFindings = 5 * MaxDiagnostics

func (f *findings) add(pos tree.Pos, path, hint, format string, args ...any) {
	if len(f.list) >= maxFindings {
		f.more++
		return
	}
	f.list = append(f.list, finding{pos: pos, path: path, summary: short(fmt.Sprintf(format, args...)), hint: short(hint)})
}

// short bounds a sentence, which may hold what a spec has in it.
func short(s string) string {
	if len(s) > 500 {
		return strings.ToValidUTF8(s[:500], "") + "..."
	}
	return s
}

// adopt takes over what was found in another file.
func (f *findings) adopt(other *findings, file string, src []byte) {
	for _, x := range other.list {
		x.file, x.line = file, lineAt(src, x.pos.Line)
		f.list = append(f.list, x)
	}
	f.more += other.more
}

// lineAt is a line of a source, without its end; "" where there is none.
func lineAt(src []byte, number int) string {
	for line := range strings.Lines(string(src)) {
		if number--; number == 0 {
			return strings.TrimRight(line, "\r\n")
		}
	}
	return ""
}

// err makes the error of what was found; nil: nothing was.
func (f *findings) err(file string, src []byte) error {
	if len(f.list) == 0 {
		return nil
	}
	slices.SortStableFunc(f.list, func(a, b finding) int {
		return cmp.Or(-cmp.Compare(a.file, b.file), cmp.Compare(a.pos.Line, b.pos.Line), cmp.Compare(a.pos.Col, b.pos.Col))
	})
	f.list = slices.CompactFunc(f.list, func(a, b finding) bool {
		return a.file == b.file && a.pos == b.pos && a.summary == b.summary
	})
	e := &Errors{More: f.more}
	for i, x := range f.list {
		if i == MaxDiagnostics {
			e.More += len(f.list) - i
			break
		}
		d := Diagnostic{File: file, Line: x.pos.Line, Col: x.pos.Col, Path: x.path, Summary: x.summary, Hint: x.hint}
		if x.file != "" {
			d.File, d.Snippet = x.file, x.line
		} else {
			d.Snippet = lineAt(src, d.Line)
		}
		e.Diagnostics = append(e.Diagnostics, d)
	}
	return e
}

// suggest finds the known word that was most likely meant; "" when none is near.
func suggest(word string, known []string) string {
	best, bestDistance := "", max(len(word)/3, 1)+1
	for _, k := range known {
		if d := distance(strings.ToLower(word), strings.ToLower(k)); d < bestDistance {
			best, bestDistance = k, d
		}
	}
	return best
}

// didYouMean is the hint for a misspelt word; "" when none is near.
func didYouMean(word string, known []string) string {
	if s := suggest(word, known); s != "" {
		return fmt.Sprintf("did you mean %q?", s)
	}
	return ""
}

// distance counts the edits between two words: insert, delete, replace, swap neighbours.
func distance(a, b string) int {
	if len(a) > 64 || len(b) > 64 {
		return len(a) + len(b)
	}
	rows := make([][]int, len(a)+1)
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		rows[i][0] = i
	}
	for j := range rows[0] {
		rows[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			d := min(rows[i-1][j]+1, rows[i][j-1]+1, rows[i-1][j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				d = min(d, rows[i-2][j-2]+1)
			}
			rows[i][j] = d
		}
	}
	return rows[len(a)][len(b)]
}
