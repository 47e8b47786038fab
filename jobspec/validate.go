package jobspec

import (
	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

func Validate(job *berthv1.Job) []*problem.Error { return nil }

// Warnings is TODO.
func Warnings(job *berthv1.Job) []string { return nil }
