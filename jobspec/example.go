package jobspec

import _ "embed"

//go:embed examples/short.hcl
var shortExample string

//go:embed examples/full.hcl
var fullExample string

// Example is a spec to begin with, in HCL: "full" for one that shows everything, with
// comments; any other kind for a short one.
func Example(kind string) string {
	if kind == "full" {
		return fullExample
	}
	return shortExample
}
