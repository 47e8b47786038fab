package berthv1

import (
	"fmt"
	"strconv"
	"strings"
)

// Statuses are HTTP statuses, as Check.expect_status names them.
type Statuses [][2]int

// ParseStatuses reads a list of statuses and ranges of them: "200,300-399".
func ParseStatuses(list string) (Statuses, error) {
	var all Statuses
	for part := range strings.SplitSeq(list, ",") {
		first, last, isRange := strings.Cut(strings.TrimSpace(part), "-")
		if !isRange {
			last = first
		}
		from, err := strconv.Atoi(first)
		to, err2 := strconv.Atoi(last)
		if err != nil || err2 != nil || from < 100 || to > 599 || from > to {
			return nil, fmt.Errorf("%q is neither a status nor a range of them", part)
		}
		all = append(all, [2]int{from, to})
	}
	return all, nil
}

// Has says whether a status is one of them.
func (s Statuses) Has(status int) bool {
	for _, r := range s {
		if r[0] <= status && status <= r[1] {
			return true
		}
	}
	return false
}
