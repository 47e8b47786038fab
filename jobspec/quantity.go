package jobspec

import (
	"github.com/berthd/berth/jobspec/internal/schema"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// Quantity reads an amount as people write it in job specs: "256MiB" or "64GiB" as MiB,
// "500m", "1.5" or "2" as thousandths. An error says what is wrong with it.
func Quantity(text string, unit berthv1.Unit) (uint64, error) {
	n, err := schema.ParseQuantity(text, unit)
	if err != nil {
		return 0, err
	}
	return n.Abs, nil
}
