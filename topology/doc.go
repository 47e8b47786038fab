// Package topology holds what a node is made of, and what of it is granted: cells (NUMA
// nodes) with their cores, memory and hugepages, devices, ports and disk. All of it is
// plain values; nothing here does I/O, and the package imports only the standard library.
//
// # What counts as what
//
// A thread is one CPU as the kernel numbers it; a core is the set of threads that share
// one physical core. The schedulable threads of a cell are its online threads without
// the reserved ones. A cell's CPU capacity is 1000 milli per schedulable thread: an
// exclusive thread takes 1000 of it, shared CPU takes what it was granted, and both
// together never exceed the capacity. So what is shared always has the threads that are
// not exclusive to run on. Memory is in MiB and does not include hugepages, which are
// counted in pages by size. A device is whole (1000) or divided in thousandths.
//
// # Who calls it
//
// The servers' FSM keeps a Usage per node and refuses what is held already; the
// scheduler keeps the same on its fleet and chooses from what is free; agents describe
// their host with it and turn grants into cpusets.
package topology
