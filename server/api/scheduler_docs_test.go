package api

import (
	"os"
	"regexp"
	"strings"
	"testing"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// curlLine is a call in docs/external-schedulers.md, with the body that it sends.
var curlLine = regexp.MustCompile(`(?s)\$ curl -sN? "?\$api(/scheduler/[a-z]+)(\?[a-z=0-9]+)?"?(?: -d '([^']*)')?`)

// TestSchedulerDocs holds docs/external-schedulers.md to the API: its paths are served,
// the bodies that it sends are understood, every call of the service is in it, and its
// tables name every reason.
func TestSchedulerDocs(t *testing.T) {
	data, err := os.ReadFile("../../docs/external-schedulers.md")
	if err != nil {
		t.Fatal(err)
	}
	text := string(data)
	byPath := map[string]*method{}
	for _, m := range methods {
		if strings.HasPrefix(m.short, "SchedulerService/") {
			byPath[m.path] = m
		}
	}
	told := map[string]bool{}
	for _, call := range curlLine.FindAllStringSubmatch(text, -1) {
		path, body := "/v1"+call[1], call[3]
		m := byPath[path]
		if m == nil {
			t.Errorf("%s is not served", path)
			continue
		}
		told[path] = true
		if (body != "") != (m.verb == "POST") {
			t.Errorf("%s takes a %s", path, m.verb)
		}
		if body != "" {
			if err := unmarshalJSON([]byte(body), m.in.New().Interface()); err != nil {
				t.Errorf("%s does not understand %s: %v", path, body, err)
			}
		}
	}
	for path := range byPath {
		if !told[path] {
			t.Errorf("%s is not shown", path)
		}
	}
	for _, names := range []map[string]int32{berthv1.PlanConflict_Reason_value, berthv1.WantedInstances_Reason_value} {
		for name := range names {
			if !strings.Contains(text, "| `"+name+"` |") {
				t.Errorf("no table says what %s is", name)
			}
		}
	}
}
