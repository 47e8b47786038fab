package command

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"text/template"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/berthd/berth/problem"
)

// output is how a command's answer is printed: for people, as JSON, or by a template.
// JSON and template see the same thing: the API's messages with their own field names,
// everything that has a default spelled out; a list is an array.
type output struct {
	json     bool
	template string
}

func (o *output) register(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&o.json, "json", false, "print the answer as JSON")
	cmd.Flags().StringVarP(&o.template, "template", "t", "", "print the answer by a Go `template` over the JSON, such as '{{.name}}'")
}

// forPrograms says that no word but the answer belongs on stdout.
func (o *output) forPrograms() bool { return o.json || o.template != "" }

// encode is a message as -json prints it, without line breaks.
func encode(m proto.Message) (json.RawMessage, error) {
	loose, err := protojson.MarshalOptions{UseProtoNames: true, EmitDefaultValues: true}.Marshal(m)
	if err != nil {
		return nil, err
	}
	// protojson varies its spaces on purpose; programs may compare ours.
	var b bytes.Buffer
	err = json.Compact(&b, loose)
	return b.Bytes(), err
}

func encodeList[M proto.Message](items []M) (json.RawMessage, error) {
	list := make([]json.RawMessage, 0, len(items))
	for _, item := range items {
		raw, err := encode(item)
		if err != nil {
			return nil, err
		}
		list = append(list, raw)
	}
	return json.Marshal(list)
}

// show prints one message: as asked for by o, or by people.
func (a *app) show(o *output, m proto.Message, people func() error) error {
	if !o.forPrograms() {
		return people()
	}
	raw, err := encode(m)
	if err != nil {
		return err
	}
	return o.print(a.Out, raw)
}

// showList prints a list of messages: as asked for by o, or by people.
func showList[M proto.Message](a *app, o *output, items []M, people func() error) error {
	if !o.forPrograms() {
		return people()
	}
	raw, err := encodeList(items)
	if err != nil {
		return err
	}
	return o.print(a.Out, raw)
}

func (o *output) print(w io.Writer, raw json.RawMessage) error {
	if o.template == "" {
		var b bytes.Buffer
		if err := json.Indent(&b, raw, "", "  "); err != nil {
			return err
		}
		b.WriteByte('\n')
		_, err := w.Write(b.Bytes())
		return err
	}
	t, err := template.New("-t").Option("missingkey=error").Parse(o.template)
	if err != nil {
		return problem.New(problem.Invalid, "-t", "the template is wrong: %w", err).
			WithRemedy("-json shows the fields that there are")
	}
	var value any
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.UseNumber()
	if err := decoder.Decode(&value); err != nil {
		return err
	}
	var b bytes.Buffer
	if err := t.Execute(&b, value); err != nil {
		return problem.New(problem.Invalid, "-t", "the template does not fit the answer: %w", err).
			WithRemedy("-json shows the fields that there are")
	}
	if b.Len() > 0 && b.Bytes()[b.Len()-1] != '\n' {
		b.WriteByte('\n')
	}
	_, err = w.Write(b.Bytes())
	return err
}

// table prints a table as wide as the terminal.
func (a *app) table(t *table) error { return t.render(a.Out, a.term.width, a.paint) }

// printf prints for people.
func (a *app) printf(format string, args ...any) { fmt.Fprintf(a.Out, format, args...) }

// note prints what is not the answer itself, on stderr.
func (a *app) note(format string, args ...any) { fmt.Fprintf(a.Err, format+"\n", args...) }
