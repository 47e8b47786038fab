// Package layering holds the house to its plan: which package may import which, what a
// package may be called, and that each says what it is for. It has tests only; nobody
// imports it. The rules are in rules_test.go, each with its reason; the linter's depguard
// shows the most common of them while one types.
package layering
