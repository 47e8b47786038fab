package topology

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func TestParseCPUSet(t *testing.T) {
	tests := []struct{ in, want, err string }{
		{in: "", want: ""},
		{in: " 0-3,8\n", want: "0-3,8"},
		{in: "8,0-3,2-4", want: "0-4,8"},
		{in: "63-64", want: "63-64"},
		{in: "8191", want: "8191"},
		{in: "8192", err: `CPU list "8192": CPU "8192" is above 8191`},
		{in: "99999999999999999999", err: `CPU list "99999999999999999999": CPU "99999999999999999999" is above 8191`},
		{in: "3-1", err: `CPU list "3-1": range "3-1" runs backwards`},
		{in: "1,", err: `CPU list "1," ends in a comma`},
		{in: ",1", err: `CPU list ",1": a CPU number is missing`},
		{in: "-1", err: `CPU list "-1": a CPU number is missing`},
		{in: "1-", err: `CPU list "1-": a CPU number is missing`},
		{in: "0-7:2/4", err: `CPU list "0-7:2/4": "7:2/4" is not a CPU number`},
		{in: "a", err: `CPU list "a": "a" is not a CPU number`},
	}
	for _, tt := range tests {
		s, err := ParseCPUSet(tt.in)
		if got := s.String(); got != tt.want {
			t.Errorf("ParseCPUSet(%q) = %q, want %q", tt.in, got, tt.want)
		}
		if (err == nil) != (tt.err == "") || err != nil && err.Error() != tt.err {
			t.Errorf("ParseCPUSet(%q): error %v, want %q", tt.in, err, tt.err)
		}
	}
}

// A CPUSet behaves as a set of numbers does.
func TestCPUSetIsASet(t *testing.T) {
	cpus := rapid.SliceOfN(rapid.IntRange(0, 200), 0, 60)
	rapid.Check(t, func(t *rapid.T) {
		as, bs := cpus.Draw(t, "a"), cpus.Draw(t, "b")
		a, b := NewCPUSet(as...), NewCPUSet(bs...)
		want := func(keep func(inA, inB bool) bool) (w []int) {
			for c := range 201 {
				if keep(slices.Contains(as, c), slices.Contains(bs, c)) {
					w = append(w, c)
				}
			}
			return w
		}
		check := func(name string, got CPUSet, want []int) {
			if !slices.Equal(slices.Collect(got.All()), want) || got.Count() != len(want) || got.Empty() != (len(want) == 0) {
				t.Fatalf("%s of %v and %v is %v, want %v", name, as, bs, got, want)
			}
			if again, err := ParseCPUSet(got.String()); err != nil || !again.Equal(got) {
				t.Fatalf("%q reads back as %v, %v", got, again, err)
			}
		}
		check("union", a.Union(b), want(func(x, y bool) bool { return x || y }))
		check("minus", a.Minus(b), want(func(x, y bool) bool { return x && !y }))
		common := want(func(x, y bool) bool { return x && y })
		check("intersection", a.Intersect(b), common)
		if a.Overlaps(b) != (len(common) > 0) || a.CountCommon(b) != len(common) || a.ContainsAll(b) != (b.Minus(a).Empty()) {
			t.Fatalf("comparing %v and %v", a, b)
		}
		check("a itself", a, want(func(x, _ bool) bool { return x }))
	})
}

func FuzzParseCPUSet(f *testing.F) {
	for _, s := range []string{"", "0-3,8", "0-8191", "3-1", "1,,2", "0-7:2/4"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, list string) {
		s, err := ParseCPUSet(list)
		if err != nil {
			if !s.Empty() {
				t.Fatalf("%q: an error and %v", list, s)
			}
			return
		}
		again, err := ParseCPUSet(s.String())
		if err != nil || !again.Equal(s) {
			t.Fatalf("%q became %q and then %q, %v", list, s, again, err)
		}
	})
}

func TestPortSet(t *testing.T) {
	reserved := portSet(20001, 20063)
	used := portSet(20000, 20002, 65535)
	for _, tt := range []struct{ first, last, want uint16 }{
		{20000, 32000, 20003}, {20000, 20002, 0}, {20063, 20063, 0}, {65535, 65535, 0}, {65500, 65535, 65500}, {1, 1, 1},
	} {
		if got := used.NextFree(&reserved, tt.first, tt.last); got != tt.want {
			t.Errorf("NextFree(%d, %d) = %d, want %d", tt.first, tt.last, got, tt.want)
		}
	}
	used.Remove(20002)
	if used.Contains(20002) || !used.Contains(20000) {
		t.Error("Remove(20002) took the wrong port")
	}
}

func portSet(ports ...uint16) (s PortSet) {
	for _, p := range ports {
		s.Add(p)
	}
	return s
}
