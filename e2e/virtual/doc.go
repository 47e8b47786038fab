// Package virtual holds the virtual-time cluster: real servers and real agents with the
// mock driver, in one testing/synctest bubble, over a network, disks and hosts that can
// fail. Hours pass in seconds; a checker watches the promises all the while. It has no
// code but tests.
package virtual
