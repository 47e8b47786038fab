package command

import (
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

func (a *app) parseSpec(name, dir string, src []byte, f *specFlags) (*berthv1.Job, error) {
	job := &berthv1.Job{}
	if err := protojson.Unmarshal(src, job); err != nil {
		return nil, problem.New(problem.Invalid, name, "%w", err)
	}
	return job, nil
}

func formatSpec(name string, src []byte) ([]byte, error) { return src, nil }

func exampleSpec() string { return "" }
