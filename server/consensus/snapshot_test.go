package consensus

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/berthd/berth/problem"
)

func snapshotFile(t testing.TB, state string) []byte {
	var b bytes.Buffer
	info := SnapshotInfo{Format: snapshotFormat, Cluster: "test", Index: 7, Term: 2, Size: int64(len(state))}
	if err := writeSnapshot(&b, info, bytes.NewReader([]byte(state))); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestSnapshotFileRoundTrip(t *testing.T) {
	for _, state := range []string{"", "x", string(make([]byte, 100_000))} {
		var got bytes.Buffer
		info, err := ReadSnapshot(bytes.NewReader(snapshotFile(t, state)), &got)
		if err != nil || got.String() != state || info.Index != 7 || info.Term != 2 || info.Cluster != "test" {
			t.Errorf("%d bytes: %+v, %d bytes, %v", len(state), info, got.Len(), err)
		}
	}
}

// Every single flipped bit, every truncation and anything appended is found.
func TestSnapshotFileDamage(t *testing.T) {
	good := snapshotFile(t, "the state of things")
	check := func(what string, file []byte) {
		t.Helper()
		_, err := ReadSnapshot(bytes.NewReader(file), nil)
		if k := problem.KindOf(err); k != problem.Invalid && k != problem.Unsupported {
			t.Errorf("%s: %v", what, err)
		}
	}
	for i := range good {
		for bit := range 8 {
			bad := bytes.Clone(good)
			bad[i] ^= 1 << bit
			check(fmt.Sprintf("bit %d of byte %d flipped", bit, i), bad)
		}
		check(fmt.Sprintf("cut to %d bytes", i), good[:i])
	}
	check("something appended", append(bytes.Clone(good), 0))
	check("an empty file", nil)
}

func FuzzReadSnapshot(f *testing.F) {
	f.Add(snapshotFile(f, "state"))
	f.Add([]byte(snapshotMagic + "\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, file []byte) {
		var state bytes.Buffer
		info, err := ReadSnapshot(bytes.NewReader(file), &state)
		if err == nil && info.Size != int64(state.Len()) {
			t.Fatalf("%d bytes of state, and %d announced", state.Len(), info.Size)
		}
	})
}
