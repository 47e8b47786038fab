package accel

import (
	"context"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unsafe"
)

func TestJudge(t *testing.T) {
	for _, c := range []struct {
		s    sample
		err  error
		ok   bool
		want string
	}{
		{sample{Emulated: 1, Took: time.Millisecond}, nil, true, ""},
		{sample{Emulated: 99}, nil, true, ""},
		{sample{Emulated: 100}, nil, false, "100 instructions"},
		{sample{Emulated: 200006}, nil, false, "not nested"},
		{sample{Emulated: -1, Took: time.Millisecond}, nil, true, ""},
		{sample{Emulated: -1, Took: time.Second}, nil, false, "too slow"},
		{sample{Error: "making a machine: no"}, nil, false, "making a machine"},
		{sample{}, errors.New("killed"), false, "killed"},
	} {
		if r := judge(c.s, c.err); r.OK != c.ok || !strings.Contains(r.Reason, c.want) {
			t.Errorf("%+v, %v: %+v", c.s, c.err, r)
		}
	}
}

// TestProbe runs the child where there is a /dev/kvm; the second look is at the cache.
func TestProbe(t *testing.T) {
	cache := filepath.Join(t.TempDir(), "sub", "kvm.json")
	began := time.Now()
	r := Probe(t.Context(), cache)
	t.Logf("%+v after %v", r, time.Since(began).Round(time.Millisecond))
	if r.OK == (r.Reason != "") {
		t.Errorf("%+v", r)
	}
	if _, err := os.Stat("/dev/kvm"); err != nil {
		return
	}
	if again, ok := load(cache, bootID()); !ok || again != r {
		t.Errorf("kept is %+v, %v; want %+v", again, ok, r)
	}
	if _, ok := load(cache, "another boot"); ok {
		t.Error("a result of another boot is believed")
	}
}

// TestChildSaysWhatItFinds: the child answers, and in time, whatever KVM is like.
func TestChildSaysWhatItFinds(t *testing.T) {
	s, err := run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%+v", s)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := run(ctx); err == nil {
		t.Error("a child ran after its context had ended")
	}
}

func TestFindStatistic(t *testing.T) {
	const names = 8
	b := make([]byte, 24+2*(16+names)+24)
	put := func(at int, v uint32) { binary.NativeEndian.PutUint32(b[at:], v) }
	put(4, names)
	put(8, 2)
	put(16, 24)
	values := 24 + 2*(16+names)
	put(20, uint32(values))
	copy(b[24+16:], "other")
	put(24+16+names+8, 16)
	copy(b[24+16+names+16:], "mine")
	binary.NativeEndian.PutUint64(b[values+16:], 42)
	if got := findStatistic(b, "mine"); got != 42 {
		t.Errorf("got %d", got)
	}
	if got := findStatistic(b, "none"); got != -1 {
		t.Errorf("got %d for what is not there", got)
	}
	for n := range b {
		findStatistic(b[:n], "mine") // cut off: no panic
	}
}

// The kernel's structures have these sizes; they are in the requests' numbers too.
func TestSizes(t *testing.T) {
	if unsafe.Sizeof(memoryRegion{}) != setUserMemory>>16&0x3fff {
		t.Error("struct kvm_userspace_memory_region")
	}
}
