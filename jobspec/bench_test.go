package jobspec

import "testing"

// What a server does to every job that it is sent.
func BenchmarkValidateAndCanonicalize(b *testing.B) {
	job, err := Parse([]byte(Example("")), Options{})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if p := Validate(job); len(p) > 0 {
			b.Fatal(p)
		}
		Canonicalize(job)
	}
}

func BenchmarkParseHCL(b *testing.B) {
	src := []byte(Example(""))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Parse(src, Options{Format: HCL}); err != nil {
			b.Fatal(err)
		}
	}
}
