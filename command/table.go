package command

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// column is a column of a table.
type column struct {
	title string
	// drop says which column goes first when a table is too wide: the highest; 0 never.
	drop int
	// shrink lets the column's text be cut, down to so many characters; 0: whole or not
	// at all.
	shrink int
	// right puts numbers under each other.
	right bool
}

// cell is one entry of a table.
type cell struct {
	text  string
	style style
}

// table is rows under titles.
type table struct {
	columns []column
	rows    [][]cell
}

func newTable(columns ...column) *table { return &table{columns: columns} }

// add adds a row: a string, a number or a cell per column.
func (t *table) add(values ...any) {
	row := make([]cell, len(t.columns))
	for i := range row {
		switch v := values[i].(type) {
		case cell:
			row[i] = v
		default:
			row[i] = cell{text: fmt.Sprint(v)}
		}
		row[i].text = oneLine(row[i].text)
	}
	t.rows = append(t.rows, row)
}

// word is a status, in its colour.
func word(status string) cell { return cell{text: status, style: styleOf(status)} }

const gap = 2 // characters between columns

// render writes the table so that no line is longer than width characters, as far as
// its columns can be dropped and cut; width 0: no limit.
func (t *table) render(w io.Writer, width int, paint func(style, string) string) error {
	widths := t.fit(width)
	var b strings.Builder
	line := func(text func(i int) cell) {
		var l strings.Builder
		for i, width := range widths {
			if width < 0 {
				continue
			}
			c := text(i)
			shown := cut(c.text, width)
			pad := strings.Repeat(" ", width-utf8.RuneCountInString(shown))
			if shown != "" {
				shown = paint(c.style, shown)
			}
			if t.columns[i].right {
				l.WriteString(pad + shown)
			} else {
				l.WriteString(shown + pad)
			}
			l.WriteString(strings.Repeat(" ", gap))
		}
		b.WriteString(strings.TrimRight(l.String(), " ") + "\n")
	}
	line(func(i int) cell { return cell{text: t.columns[i].title, style: faint} })
	for _, row := range t.rows {
		line(func(i int) cell { return row[i] })
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// fit gives each column its width; -1: dropped. Columns without content that may be
// dropped are; others only when the line is too long, after cutting did not help.
func (t *table) fit(width int) []int {
	widths := make([]int, len(t.columns))
	for i, c := range t.columns {
		widths[i] = utf8.RuneCountInString(c.title)
		for _, row := range t.rows {
			widths[i] = max(widths[i], utf8.RuneCountInString(row[i].text))
		}
	}
	for i, c := range t.columns {
		if c.drop > 0 && t.empty(i) {
			widths[i] = -1
		}
	}
	if width <= 0 {
		return widths
	}
	natural := append([]int(nil), widths...)
	for {
		copyKept(widths, natural)
		if t.shrinkTo(widths, width) {
			return widths
		}
		drop := -1
		for i, c := range t.columns {
			if widths[i] >= 0 && c.drop > 0 && (drop < 0 || c.drop > t.columns[drop].drop) {
				drop = i
			}
		}
		if drop < 0 {
			return widths
		}
		widths[drop] = -1
	}
}

// empty says that no row has anything to say in a column.
func (t *table) empty(i int) bool {
	for _, row := range t.rows {
		if row[i].text != "" {
			return false
		}
	}
	return true
}

// copyKept gives the columns that are still there their natural widths.
func copyKept(widths, natural []int) {
	for i := range widths {
		if widths[i] >= 0 {
			widths[i] = natural[i]
		}
	}
}

// shrinkTo cuts the widest column that may be cut, by one, until the line fits.
func (t *table) shrinkTo(widths []int, width int) bool {
	for {
		total := -gap
		widest := -1
		for i, w := range widths {
			if w < 0 {
				continue
			}
			total += w + gap
			least := max(t.columns[i].shrink, utf8.RuneCountInString(t.columns[i].title))
			if t.columns[i].shrink > 0 && w > least && (widest < 0 || w > widths[widest]) {
				widest = i
			}
		}
		if total <= width {
			return true
		}
		if widest < 0 {
			return false
		}
		widths[widest] -= min(total-width, 1)
	}
}

// cut shortens text to width characters, and shows that it did.
func cut(text string, width int) string {
	if utf8.RuneCountInString(text) <= width {
		return text
	}
	runes := []rune(text)
	if width <= 1 {
		return string(runes[:max(width, 0)])
	}
	return string(runes[:width-1]) + "…"
}
