package external

// maxGone bounds how many lost claims are remembered.
const maxGone = 4096

type claimKey struct{ lease, evalID string }

// gone remembers why claims were lost, the newest of them.
type gone struct {
	why   map[claimKey]string
	order []claimKey
}

func newGone() gone { return gone{why: map[claimKey]string{}} }

func (g *gone) add(lease, evalID, reason string) {
	key := claimKey{lease, evalID}
	if _, known := g.why[key]; !known {
		if len(g.order) == maxGone {
			delete(g.why, g.order[0])
			g.order = g.order[1:]
		}
		g.order = append(g.order, key)
	}
	g.why[key] = reason
}
