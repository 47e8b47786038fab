package bench

// draws is a stream of numbers from a seed (splitmix64, Steele and others 2014): the
// same on every machine and in every version of Go.
type draws struct{ state uint64 }

func (d *draws) next() uint64 {
	d.state += 0x9e3779b97f4a7c15
	z := d.state
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// below gives a number from 0 to n-1; n is small against 2^64, so that the modulus'
// bias cannot be seen.
func (d *draws) below(n int) int { return int(d.next() % uint64(n)) }

// between gives a number from least to most.
func (d *draws) between(least, most int) int { return least + d.below(most-least+1) }
