package plan

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/server/state"
)

// An allocation with a sticky disk is kept until a task of a successor has started, however
// long that takes and whoever asks for collection; without one it goes when it is old.
func TestADiskThatIsWantedIsKept(t *testing.T) {
	id := func(i int) string { return fmt.Sprintf("00000000-0000-4000-8000-%012d", i) }
	ran := []*berthv1.TaskState{{Task: "t", StartTime: timestamppb.New(now)}}
	for _, tc := range []struct {
		name   string
		sticky bool
		ran    []bool // each allocation of the line, oldest first; the last one is to run
		want   []string
	}{
		{"its successor has not run", true, []bool{true, false}, nil},
		{"its successor runs", true, []bool{true, true}, []string{id(0)}},
		{"one that never ran in between", true, []bool{true, false, false}, nil},
		{"and the next one runs", true, []bool{true, false, true}, []string{id(0), id(1)}},
		{"no sticky disk", false, []bool{true, false}, []string{id(0)}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := state.New()
			s.Update(1, now, func(tx *state.Tx) {
				tx.PutJob(&berthv1.Job{Namespace: "default", Name: "db", Version: 1, Status: berthv1.Job_running,
					Groups: []*berthv1.Group{{Name: "g", Stateful: &berthv1.Stateful{StickyDisk: tc.sticky}}}})
				for i, has := range tc.ran {
					a := &berthv1.Alloc{Id: id(i), Namespace: "default", Job: "db", JobVersion: 1, Group: "g", NodeId: "n1", ModifyTime: timestamppb.New(now)}
					if has {
						a.Tasks = ran
					}
					if i < len(tc.ran)-1 {
						a.Status, a.Desired, a.NextAlloc = berthv1.Alloc_complete, berthv1.Alloc_stop, id(i+1)
					}
					tx.PutAlloc(a)
				}
			})
			for _, keep := range []Keep{nothingKept, Keep{}.withDefaults()} {
				got := FindGarbage(s.View(), now.Add(24*time.Hour), keep).Allocs
				if slices.Sort(got); !slices.Equal(got, tc.want) {
					t.Errorf("collected are %v, want %v", got, tc.want)
				}
			}
		})
	}
}
