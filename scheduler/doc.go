// Package scheduler decides where allocations go, down to the exact cores, memory,
// devices and ports. It is pure: no I/O, no clock, no log, no randomness. The servers'
// plan loop is its caller; their FSM uses its converters, so that both account for the
// same grants.
package scheduler
