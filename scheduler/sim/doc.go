// Package sim holds what is simulated on the scheduler: sim/trace reads recorded
// workloads, sim/replay offers them to a policy. Like the scheduler itself it does no
// I/O: the command opens the files and brings the random numbers.
package sim
