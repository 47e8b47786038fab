// Package near guesses what a mistyped word was meant to be. It owns nothing and knows
// nothing of what the words mean; the commands and the configuration's decoder call it.
package near

// Word is the candidate that was most probably meant, or "" if none is near: at most a
// third of its letters, and never more than 3, were typed wrong.
func Word(typed string, candidates []string) string {
	best, bestAt := "", 4
	for _, c := range candidates {
		d := distance(typed, c)
		if d < bestAt && d <= max(1, len(c)/3) {
			best, bestAt = c, d
		}
	}
	return best
}

// distance counts the letters to insert, delete, change or swap with their neighbour.
func distance(a, b string) int {
	if len(a) > 64 || len(b) > 64 {
		return 64
	}
	before, prev, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range prev {
		prev[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(prev[j]+1, row[j-1]+1, prev[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, prev, row = prev, row, before
	}
	return prev[len(b)]
}
