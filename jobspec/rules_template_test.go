package jobspec

import (
	"strings"
	"testing"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

func TestTemplateText(t *testing.T) {
	spec := func(data string) string {
		return "job \"j\" {\n  group \"g\" {\n    task \"t\" {\n      driver = \"exec\"\n      config { command = \"/bin/true\" }\n      template {\n        destination = \"local/x\"\n        data = <<E\n" + data + "\nE\n      }\n    }\n  }\n}\n"
	}
	for data, want := range map[string]string{
		"ok {{ range service \"web\" }}{{ if eq .port 1 }}{{ break }}{{ end }}{{ end }}": "",
		"a\n{{ nothing }}":    `j.hcl:8:9: the template cannot be read: its line 2: function "nothing" not defined`,
		"{{ if }}{{ end }}":   "its line 1: missing value for if",
		"{{ range service }}": "unexpected EOF",
		"{{ exec \"sh\" }}":   `function "exec" not defined`,
		"{{ $x }}":            "undefined variable",
	} {
		_, err := Parse([]byte(spec(data)), Options{Filename: "j.hcl"})
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %q", data, err, want)
		}
	}
}

func TestPinned(t *testing.T) {
	commit := map[string]string{"ref": strings.Repeat("a1", 20)}
	for _, tc := range []struct {
		a    *berthv1.Artifact
		want bool
	}{
		{&berthv1.Artifact{Source: "https://a/b"}, false},
		{&berthv1.Artifact{Source: "https://a/b", Checksum: "sha256:x"}, true},
		{&berthv1.Artifact{Source: "git::https://a/b", Options: commit}, true},
		{&berthv1.Artifact{Source: "git::https://a/b", Options: map[string]string{"ref": "main"}}, false},
	} {
		if got := pinned(tc.a); got != tc.want {
			t.Errorf("%v: %v", tc.a, got)
		}
	}
}
