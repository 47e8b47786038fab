// Package runner owns what runs on a node: it turns assignments into tasks of drivers,
// keeps them as they should be, and says how they are.
//
// A task is stepped by one goroutine of its own, one driver operation at a time. What
// to do next is decided by a pure function (next) of the stored record and what is
// wanted; records go forward and are stored before and after each operation, so the
// agent can be killed at any point and goes on where it was. Nothing here kills a
// workload because the agent ends, or because servers are away.
//
// What a task does for its group (before the main tasks, beside them, after them) is
// decided by another pure function (direct) of what is published of the group's tasks.
//
// What services and checks bring (watch) is pure in the same way: what is offered
// (instances) and whether the alloc is healthy (trial) follow from what is published of the
// tasks and from the state of the checks, which package health runs. It needs no goroutine
// of an alloc's own, but one alarm.
//
// The agent calls it: Restore, then Run, and Apply with what the session brings. The
// store is where it remembers; a Reporter takes what servers should know.
package runner
