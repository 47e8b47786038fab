package berthv1

// TemplateFunctions are the functions that templates have beyond those of Go's
// text/template. Servers check templates by these names, agents define them.
var TemplateFunctions = []string{
	"service", "tryService", "var", "tryVar", "env",
	"join", "split", "trim", "lower", "upper", "replace", "contains", "hasPrefix", "hasSuffix",
	"default", "add", "sub", "mul", "quote", "indent", "base64Encode", "base64Decode",
	"toJSON", "parseJSON", "keys", "sorted", "first", "last",
}
