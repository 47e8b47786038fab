package command

import "testing"

// What a plan tells people to type gives the same variables to a shell.
func TestSpecFlagsInWords(t *testing.T) {
	f := specFlags{vars: []string{"count=3", "greeting=it's two words", "empty="}, varFiles: []string{"/etc/my vars.hcl", ""}}
	const want = ` -var count=3 -var 'greeting=it'\''s two words' -var empty= -var-file '/etc/my vars.hcl' -var-file ''`
	if got := f.words(); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}
