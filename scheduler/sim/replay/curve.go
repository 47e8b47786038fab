package replay

import "math"

// Percent is how far the curves go: to so many percent of all GPUs asked for.
const Percent = 130

// curve averages values over the pods that came when so many percent were asked for.
type curve struct {
	sum   [Percent + 1]float64
	count [Percent + 1]int
}

// add takes in a value after a pod came.
func (c *curve) add(arrived, capacity int64, y float64) {
	if x := int(math.RoundToEven(100 * float64(arrived) / float64(capacity))); x <= Percent {
		c.sum[x] += y
		c.count[x]++
	}
}

// points are the averages; where there is none, the nearest below is taken, else the
// nearest above.
func (c *curve) points() []float64 {
	out := make([]float64, Percent+1)
	for x := range out {
		at := x
		for at >= 0 && c.count[at] == 0 {
			at--
		}
		if at < 0 {
			for at = x; at <= Percent && c.count[at] == 0; {
				at++
			}
		}
		if at <= Percent {
			out[x] = hundredths(c.sum[at] / float64(c.count[at]))
		}
	}
	return out
}

func hundredths(x float64) float64 { return math.Round(100*x) / 100 }
