// Package e2e tests the real binary: daemons on loopback, tasks in the exec driver, and
// what people and programs see of them. It has tests only; e2e/virtual is the cluster in
// virtual time, e2e/demo the one to look at.
//
// Each file in testdata/script is a cluster of its own and the story of it, in the language
// of testscript (https://pkg.go.dev/github.com/rogpeppe/go-internal/testscript) and the
// commands of commands_test.go. At its end its jobs are stopped, its daemons ended, and
// the test fails when a process, a control group or a mount of it is left.
//
// The binary is the one that BERTH_BINARY names, else one that is built here. Linux and
// root are needed, because the agent makes namespaces and control groups.
package e2e
