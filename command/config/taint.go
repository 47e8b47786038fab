package config

import (
	"cmp"
	"strings"

	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// ParseTaint reads a taint, key=value:effect; value and effect may be left out.
func ParseTaint(text string) (*berthv1.Taint, error) {
	rest, effect, _ := strings.Cut(text, ":")
	key, value, _ := strings.Cut(rest, "=")
	n, known := berthv1.Taint_Effect_value[cmp.Or(effect, "keep_off")]
	if !known || key == "" {
		return nil, problem.New(problem.Invalid, text, "this is not a taint").
			WithRemedy("write it like dedicated=web:keep_off or spot:avoid; the effect is keep_off (default) or avoid")
	}
	return &berthv1.Taint{Key: key, Value: value, Effect: berthv1.Taint_Effect(n)}, nil
}
