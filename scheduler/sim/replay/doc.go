// Package replay offers the pods of a recorded trace to a placement policy, one after
// the other, and tells what became of them. The policies of the FGD paper (USENIX
// ATC'23) are here for comparison, exact to the published curves; Berth's own runs
// through the scheduler's Fleet and Place, the code that servers place with.
//
// It does no I/O. Random numbers come from the caller.
package replay
