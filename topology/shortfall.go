package topology

import "fmt"

// What a Shortfall can be about; a device's is its kind.
const (
	CPU       = "cpu"       // milli
	Cores     = "cores"     // exclusive threads or cores
	Memory    = "memory"    // MiB
	HugePages = "hugepages" // pages
	Port      = "port"
	Disk      = "disk" // MiB
	CellGone  = "cell"
	DeviceID  = "device"
	Node      = "node" // the node as a whole
)

// NodeWide is the Cell of a Shortfall that is about the node as a whole.
const NodeWide = -1

// Shortfall is why a grant cannot be: the first thing that is missing. It is what
// Usage.Add returns.
type Shortfall struct {
	Resource string
	// Cell is the kernel's number; NodeWide: the node as a whole.
	Cell int
	// What is the thing itself: a CPU, a port, a device's id, a page size.
	What string
	// Wanted and Free are in the resource's unit.
	Wanted, Free uint64
}

// Error says it in words: "cell 1: memory: 4096 wanted, 512 free".
func (s *Shortfall) Error() string {
	where := "node"
	if s.Cell != NodeWide {
		where = fmt.Sprintf("cell %d", s.Cell)
	}
	what := s.Resource
	if s.What != "" {
		what += " " + s.What
	}
	if s.Wanted == 0 && s.Free == 0 {
		return fmt.Sprintf("%s: %s is not there to be granted", where, what)
	}
	return fmt.Sprintf("%s: %s: %d wanted, %d free", where, what, s.Wanted, s.Free)
}
