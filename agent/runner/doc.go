// Package runner owns what runs on a node: it turns assignments into tasks of drivers,
// keeps them as they should be, and says how they are.
//
// A task is stepped by one goroutine of its own, one driver operation at a time. What
// to do next is decided by a pure function (next) of the stored record and what is
// wanted; records go forward and are stored before and after each operation, so the
// agent can be killed at any point and goes on where it was. Nothing here kills a
// workload because the agent ends, or because servers are away.
//
// The agent calls it: Restore, then Run, and Apply with what the session brings. The
// store is where it remembers; a Reporter takes what servers should know.
package runner
