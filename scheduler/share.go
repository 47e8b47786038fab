package scheduler

import (
	"strconv"
	"strings"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// Share reads a number of instances, or a percentage of count, which is rounded down but
// gives at least 1 where it is not 0; at most count. What makes no sense is def.
func Share(text string, count, def int) int {
	text = strings.TrimSpace(text)
	number, percent := strings.CutSuffix(text, "%")
	n, err := strconv.ParseUint(number, 10, 31)
	switch {
	case err != nil || percent && n > 100:
		return def
	case percent && n > 0:
		n = max(1, uint64(count)*n/100)
	}
	return min(int(n), count)
}

// MaxUnavailable is how many of count instances of a group may be missing at a time by
// the servers' doing; count where the group does not say, or says what makes no sense.
func MaxUnavailable(g *berthv1.Group, count int) int {
	return Share(g.GetDisruption().GetMaxUnavailable(), count, count)
}
