//go:build !amd64 && !arm64

package accel

import "errors"

const (
	loopEnds  = 0
	guestBase = 0
)

func (v *vcpu) prepare() error { return errors.New("it is not known on this architecture") }
