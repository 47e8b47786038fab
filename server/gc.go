package server

import (
	"os"
	"runtime/debug"
)

// gcPercent is how far a server's heap grows between collections. The state is many
// small, long-lived messages that every collection walks whole: at Go's own 100 that
// took a third of the CPU of placing at full speed.
const gcPercent = 200

// TuneGC sets up the garbage collector of a process that runs servers; GOGC in the
// environment goes before it.
func TuneGC() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
}
