// Package inventory reads what a node is made of.
package inventory

import (
	"context"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// Attributes that the agent sets itself.
const (
	AttrClockSkew    = "clock.skew"
	AttrAgentVersion = "agent.version"
)

// Inventory reads one node.
type Inventory struct{ root, dataDir string }

// New makes an Inventory.
func New(root, dataDir string) *Inventory { return &Inventory{root, dataDir} }

// Reading is one look at a node.
type Reading struct {
	Hostname, Arch, BootID string
	Attributes             map[string]string
	Hardware               *berthv1.Hardware
}

// Read looks.
func (i *Inventory) Read(context.Context) *Reading {
	return &Reading{Attributes: map[string]string{}, Hardware: &berthv1.Hardware{}}
}
