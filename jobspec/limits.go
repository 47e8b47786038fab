package jobspec

import (
	"maps"
	"slices"
)

// Limits on a spec, so that none can hurt the server that reads it. They are far above
// what a person writes.
const (
	// MaxSource is the size of a spec's text, and of a file that it reads.
	MaxSource = 1 << 20
	// MaxDepth is how deep braces, brackets and templates nest.
	MaxDepth = 64
	// MaxOperators is how many operators, templates and brackets an HCL spec may hold.
	MaxOperators = 10_000
	// MaxWork is how many bytes of values evaluating a spec may make; each value counts
	// for 32 at least.
	MaxWork = 4 << 20
	// MaxNodes is how many values a spec may have, after YAML aliases were followed.
	MaxNodes = 100_000
	// MaxElements is how many there may be of one kind of block in another.
	MaxElements = 256
	// MaxEntries is how many entries a map (env, meta) may have.
	MaxEntries = 1024
	// MaxTasks is how many tasks a job may have over all its groups.
	MaxTasks = 1024
	// MaxText is the size of one string.
	MaxText = 256 << 10
	// MaxJob is the size of a job as a message, without its source.
	MaxJob = 1 << 20
)

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
