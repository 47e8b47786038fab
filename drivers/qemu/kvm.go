package qemu

import "context"

// kvm says whether KVM works for guests, or why not.
func kvm(context.Context) (bool, string) { return false, "it was not probed" }
