// Command berth-driver-script is a driver plugin: it gives agents a driver "script" that
// runs shell scripts on the host, without any isolation. It is an example of how little a
// driver needs; drivertest holds it to the same contract as those that come with Berth.
package main

import "github.com/berthd/berth/plugins"

func main() { plugins.Serve(newDriver()) }
