// Package plan is the leader's loop: it looks at jobs that something has happened to,
// works out what should be different, has it placed and proposes the result as facts.
//
// Reconcile is the pure half: from a job, its allocations and the nodes' status to
// stops, updates and asks. Loop is the other: it is made when a server wins leadership,
// builds its fleet from the state, follows the state's changes, and is thrown away when
// leadership is lost. It promises that
//
//   - what it proposes fits: its fleet holds what the state holds and what is on the way;
//   - a job has at most one plan on the way, made from a state that has all before it;
//   - large jobs are worked on in slices, so that a small one never waits for long;
//   - a job that could not be placed is looked at again only when something has changed.
//
// package server makes a Loop for each term; package api asks DryRun and CollectGarbage.
package plan
