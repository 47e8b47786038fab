// Package trace reads recorded workloads from CSV text: columns are found by the names
// in the header, in any order, and what is not asked for is not looked at. Errors name
// the line and the column.
//
// It reads from an io.Reader and takes random numbers from its caller: no I/O and no
// randomness of its own.
package trace
