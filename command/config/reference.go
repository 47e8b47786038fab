package config

import (
	"fmt"
	"reflect"
	"strings"
)

// Reference is the configuration's description in Markdown, made of the tags. A test
// holds docs/config.md against it.
func Reference() string {
	var b strings.Builder
	b.WriteString(referenceHead)
	writeReference(&b, reflect.ValueOf(Default()).Elem(), "", "")
	return b.String()
}

const referenceHead = `# Configuration of servers and agents

<!-- Made from the tags in command/config by go test ./command/config -update; do not edit. -->

` + "`berth server` and `berth agent`" + ` read HCL files: those that ` + "`-config FILE|DIR`" + ` names, else
` + "`/etc/berth.d/*.hcl`" + ` in the order of their names. A later file goes over an earlier one,
setting by setting; over the files go the environment variables below, and over those the
flags ([cli.md](cli.md)). Lists in variables are separated by commas, maps are key=value pairs.

Everything is checked before anything starts: an unknown name, a wrong type or an
impossible value is an error with file, line and column. ` + "`berth config validate`" + ` checks
without starting anything. SIGHUP reads everything again, applies the settings marked
*reload* and logs which others need a restart.

Without being told, everything listens on loopback only. To be reached from other hosts,
set ` + "`bind`" + `; until certificates secure the connections, do so only in a network that you trust.

A process runs both a server and an agent when the block of the other one says
` + "`enabled = true`" + `; both may share a data directory.
`

func writeReference(b *strings.Builder, block reflect.Value, path, doc string) {
	if path == "" {
		b.WriteString("\n## At the top\n\n")
	} else {
		fmt.Fprintf(b, "\n## %s\n\n%s\n\n", strings.ReplaceAll(path, ".", " { ")+" { ... }"+strings.Repeat(" }", strings.Count(path, ".")), doc)
	}
	b.WriteString("| setting | type | variable | what it is |\n| --- | --- | --- | --- |\n")
	var blocks []field
	for _, f := range fieldsOf(block, path) {
		if f.block {
			blocks = append(blocks, f)
			continue
		}
		text := f.doc
		if f.reload {
			text += " *Reload.*"
		}
		fmt.Fprintf(b, "| `%s` | %s | `%s` | %s |\n", f.name, typeName(f.value), variable(f.path), text)
	}
	for _, f := range blocks {
		writeReference(b, f.value, f.path, f.doc)
	}
}

func typeName(v reflect.Value) string {
	switch {
	case v.Type() == durationType:
		return "duration"
	case v.Type() == sizeType:
		return "size"
	case v.Kind() == reflect.Slice && v.Type().Elem().Kind() == reflect.Int:
		return "list of numbers"
	case v.Kind() == reflect.Slice:
		return "list"
	case v.Kind() == reflect.Int:
		return "number"
	}
	return v.Kind().String()
}
