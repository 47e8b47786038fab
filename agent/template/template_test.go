package template

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

func input() Input {
	instance := func(id string, index, port uint32, ready bool, tags ...string) *berthv1.ServiceInstance {
		return &berthv1.ServiceInstance{AllocId: id, Job: "web", Group: "g", Index: index, Address: "10.0.0.1", Port: port, Ready: ready, Tags: tags, NodeName: "n1"}
	}
	known := map[string]*berthv1.Known{
		"service:default/web":  {Instances: []*berthv1.ServiceInstance{instance("b", 1, 81, true, "blue"), instance("a", 0, 80, true), instance("c", 2, 82, false)}},
		"service:default/down": {Instances: []*berthv1.ServiceInstance{instance("c", 2, 82, false)}},
		"service:default/none": {},
		"variable:default/db":  {Variable: &berthv1.Variable{Items: map[string]string{"user": "u", "password": "p\"w"}}},
		"variable:default/no":  {},
	}
	return Input{
		Namespace: "default", Env: map[string]string{"A": "b"},
		Know:   func(t *berthv1.Topic) *berthv1.Known { return known[t.Key()] },
		Values: map[string]any{"node": map[string]any{"name": "n1", "meta": map[string]string{"zone": "z"}}, "alloc": map[string]any{"index": 3}},
	}
}

func TestRender(t *testing.T) {
	for text, want := range map[string]string{
		`{{ .node.name }} {{ .node.meta.zone }} {{ add .alloc.index 1 }} {{ env "A" }}`: "n1 z 4 b",
		`{{ range service "web" }}{{ .address }}:{{ .port }} {{ end }}`:                 "10.0.0.1:80 10.0.0.1:81 ",
		`{{ range service "web" "blue" }}{{ .port }}{{ end }}`:                          "81",
		`{{ (first (service "web")).port }}{{ (last (service "web")).alloc }}`:          "80b",
		`{{ len (tryService "down") }}{{ len (tryVar "no") }}`:                          "00",
		`{{ with var "db" }}{{ .user }}={{ quote .password }}{{ end }}`:                 `u="p\"w"`,
		`{{ (var "db").user }}`:                                                        "u",
		`{{ join "," (keys (var "db")) }}`:                                             "password,user",
		`{{ split "," "a,b" | join "-" | upper }}`:                                     "A-B",
		`{{ toJSON (split "," "a,b") }}`:                                               `["a","b"]`,
		`{{ (parseJSON "{\"a\":[1,2]}").a }}`:                                          "[1 2]",
		`{{ default "x" "" }}{{ default "x" "y" }}`:                                    "xy",
		`{{ base64Encode "ab" }}{{ base64Decode "YWI=" }}`:                             "YWI=ab",
		`{{ indent 2 "a\nb" }}`:                                                        "  a\n  b",
		`{{ replace "a" "b" " aa " | trim }}`:                                          "bb",
		`{{ if contains "b" "abc" }}1{{ end }}{{ printf "%03d" 7 }}`:                   "1007",
		`{{ define "x" }}[{{ . }}]{{ end }}{{ range 3 }}{{ template "x" . }}{{ end }}`: "[0][1][2]",
	} {
		out, err := Render(&berthv1.Template{}, text, input())
		if err != nil || string(out.Text) != want || len(out.Missing)+len(out.Unknown) > 0 {
			t.Errorf("%s: %q, %v, %v %v, want %q", text, out.Text, err, out.Missing, out.Unknown, want)
		}
	}
}

func TestMissing(t *testing.T) {
	for text, want := range map[string]string{
		`{{ service "down" }}`:                 `missing service "down" (it has no ready instance)`,
		`{{ service "none" }}`:                 `missing service "none" (it has no ready instance)`,
		`{{ service "web" "green" }}`:          `missing service "web" (it has no ready instance)`,
		`{{ (var "no").password }}`:            `missing variable "no"`,
		`{{ (var "db").other }}`:               `missing a variable's item`,
		`{{ service "new" }}`:                  `unknown service "new"`,
		`{{ tryService "new" }}`:               `unknown service "new"`,
		`{{ (first (service "new")).address}}`: `unknown service "new"`,
	} {
		out, err := Render(&berthv1.Template{}, text, input())
		got := ""
		for _, m := range out.Missing {
			got += "missing " + m
		}
		for _, u := range out.Unknown {
			got += "unknown " + u
		}
		if err != nil || !strings.HasPrefix(got, want) || len(out.Topics) != 1 {
			t.Errorf("%s: %q, %v, %v, want %q", text, got, err, out.Topics, want)
		}
	}
}

// TestBounds: whatever a template does, it comes to an end.
func TestBounds(t *testing.T) {
	for text, want := range map[string]string{
		`{{ range 1000000000000 }}{{ end }}`:                                              "rounds",
		`{{ range 1000000000000 }}xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx{{ end }}`:    "KiB",
		`{{ define "x" }}{{ template "x" }}{{ template "x" }}{{ end }}{{ template "x" }}`: "e",
		`{{ $x := "xxxxxxxx" }}{{ range 60 }}{{ $x = print $x $x }}{{ end }}`:             "KiB",
		`{{ $x := "xxxxxxxx" }}{{ range 60 }}{{ $x = printf "%s%s" $x $x }}{{ end }}`:     "KiB",
		`{{ $x := "xxxxxxxx" }}{{ range 60 }}{{ $x = replace "x" $x $x }}{{ end }}`:       "KiB",
		`{{ $x := "xxxxxxxx" }}{{ range 60 }}{{ $x = join $x (split "x" $x) }}{{ end }}`:  "KiB",
		`{{ $x := "\\" }}{{ range 60 }}{{ $x = quote $x }}{{ end }}`:                      "KiB",
		`{{ $x := "&" }}{{ range 60 }}{{ $x = html $x }}{{ end }}{{ $x }}`:                "",
		`{{ printf "%999999d" 1 }}`:                                                       "width",
		`{{ printf "%*d" 99 1 }}`:                                                         "width",
		`{{ .nothing }}`:                                                                  "no entry",
		`{{ nothing }}`:                                                                   `line 1: function "nothing" not defined`,
		"a\n{{ if }}":                                                                     "line 2: missing value for if",
		`{{ index (split "," "") 5 }}`:                                                    "range",
	} {
		start := time.Now()
		out, err := Render(&berthv1.Template{}, text, input())
		if want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%.60s: %v, want %q", text, err, want)
		}
		if d := time.Since(start); d > maxTime+time.Second || len(out.Text) > maxText {
			t.Errorf("%.60s: %s, %d bytes", text, d, len(out.Text))
		}
	}
}

func TestFunctionsAreThoseOfTheSchema(t *testing.T) {
	have := slices.Sorted(maps.Keys((&run{}).functions()))
	for _, hidden := range []string{stepName, "print", "println", "printf", "html", "js", "urlquery"} {
		have = slices.DeleteFunc(have, func(s string) bool { return s == hidden })
	}
	if want := slices.Sorted(slices.Values(berthv1.TemplateFunctions)); !slices.Equal(have, want) {
		t.Errorf("%v, want %v", have, want)
	}
}

func TestDelimiters(t *testing.T) {
	out, err := Render(&berthv1.Template{LeftDelimiter: "<<", RightDelimiter: ">>"}, `{{ << env "A" >> }}`, input())
	if err != nil || string(out.Text) != "{{ b }}" {
		t.Errorf("%q, %v", out.Text, err)
	}
}

func TestParseEnv(t *testing.T) {
	env, err := ParseEnv("f", []byte("# words\n\nA=1\n B = two words \nC=\"x\\ny\"\nD='$x \"'\nE=\nF=a=b\r\n"))
	want := map[string]string{"A": "1", "B": "two words", "C": "x\ny", "D": `$x "`, "E": "", "F": "a=b"}
	if err != nil || !maps.Equal(env, want) {
		t.Errorf("%q, %v", env, err)
	}
	for _, bad := range []string{"A", "=1", "1A=1", "A-B=1", "A=\"x", "A='", "A=\x00"} {
		if env, err := ParseEnv("f", []byte(bad)); err == nil {
			t.Errorf("%q: %q", bad, env)
		}
	}
}

func FuzzRender(f *testing.F) {
	for _, s := range []string{`{{ service "web" }}`, `{{ range 99999999 }}{{ . }}{{ end }}`, `{{ $x := "a" }}{{ range 50 }}{{ $x = print $x $x }}{{ end }}`, `{{ template "x" }}`, `{{ define "a" }}{{ template "a" . }}{{ end }}{{ template "a" }}`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		start := time.Now()
		out, err := Render(&berthv1.Template{}, text, input())
		if len(out.Text) > maxText || time.Since(start) > maxTime+5*time.Second {
			t.Errorf("%d bytes, %s", len(out.Text), time.Since(start))
		}
		if err == nil {
			_, _ = ParseEnv("f", out.Text)
		}
	})
}
