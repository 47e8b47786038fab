// Package external keeps the leases of schedulers outside of Berth: who is registered,
// what waits for whom, and who has claimed what until when.
//
// A Desk lives for one term of leadership. The plan loop fills it (plan.External): it
// offers what jobs that name a scheduler lack. Schedulers register, claim what is offered
// for their name, and submit plans, which the Desk hands to the loop when the claim holds.
// Nothing of it is replicated: whoever leads next has the same offers from the state, and
// schedulers register and claim anew. What a scheduler has placed is in the state like
// everything else. So a claim promises that nobody else is working on the same thing; that
// nothing is granted twice is the loop's and the FSM's promise, whoever claims what.
package external
