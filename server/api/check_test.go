package api

import (
	"math"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// TestCheckMessage: what gRPC can carry and JSON cannot, with the place.
func TestCheckMessage(t *testing.T) {
	inTask := func(t *berthv1.Task) proto.Message {
		return &berthv1.RegisterJobRequest{Job: &berthv1.Job{Groups: []*berthv1.Group{{}, {Tasks: []*berthv1.Task{t}}}}}
	}
	config := func(v *structpb.Value) proto.Message {
		return inTask(&berthv1.Task{Config: &structpb.Struct{Fields: map[string]*structpb.Value{"a b": v}}})
	}
	deep := structpb.NewNumberValue(1)
	for range maxNesting {
		deep = structpb.NewListValue(&structpb.ListValue{Values: []*structpb.Value{deep}})
	}
	const place = "job.groups[1].tasks[0]."
	tests := []struct {
		name        string
		m           proto.Message
		field, says string
	}{
		{"good", config(structpb.NewStringValue("x")), "", ""},
		{"NaN", config(structpb.NewNumberValue(math.NaN())), place + `config.fields["a b"]`, "NaN"},
		{"Inf", config(structpb.NewNumberValue(math.Inf(-1))), place + `config.fields["a b"]`, "Inf"},
		{"no kind", config(&structpb.Value{}), place + `config.fields["a b"]`, "kind"},
		{"deep", config(deep), "", "deep"},
		{"text", inTask(&berthv1.Task{Env: map[string]string{"K": "\xff"}}), place + `env["K"]`, "UTF-8"},
		{"key", inTask(&berthv1.Task{Env: map[string]string{"\xff": ""}}), place + `env["\xff"]`, "UTF-8"},
		{"enum", &berthv1.RegisterJobRequest{Job: &berthv1.Job{Type: 9}}, "job.type", "9"},
		{"negative", inTask(&berthv1.Task{KillTimeout: durationpb.New(-1)}), place + "kill_timeout", "negative"},
		{"range", inTask(&berthv1.Task{KillTimeout: &durationpb.Duration{Seconds: math.MaxInt64}}), place + "kill_timeout", "range"},
		{"signs", inTask(&berthv1.Task{KillTimeout: &durationpb.Duration{Seconds: 1, Nanos: -1}}), place + "kill_timeout", "range"},
		{"time", &berthv1.RegisterJobRequest{Job: &berthv1.Job{SubmitTime: &timestamppb.Timestamp{Seconds: math.MaxInt64}}}, "job.submit_time", "years"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			err := checkMessage(test.m)
			if test.says == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), test.says) || !strings.HasPrefix(err.Error(), test.field) {
				t.Fatalf("%v", err)
			}
		})
	}
}

// TestPathAt finds the path of places in a body.
func TestPathAt(t *testing.T) {
	const text = `{"job": {"name": "x", "groups": [{"count": 1}, {"tasks": [{"driver": [true]}]}], "meta": {}}, "last": null}`
	for at, want := range map[string]string{
		`"x"`: "job.name", `1`: "job.groups[0].count", `true`: "job.groups[1].tasks[0].driver[0]",
		`"tasks"`: "job.groups[1].tasks", `null`: "last", `{}`: "job.meta", `"job"`: "job",
	} {
		if got := pathAt([]byte(text), strings.Index(text, at)); got != want {
			t.Errorf("%s: %s, want %s", at, got, want)
		}
	}
}
