package topology

import (
	"fmt"
	"math/bits"
	"strconv"
	"strings"
)

// ParseCPUSet reads a set in the kernel's list format: "0-3,8". White space around the
// list is ignored and the empty list is the empty set. Ranges may overlap; strides
// ("0-7:2/4"), which the kernel never prints, are not understood.
func ParseCPUSet(list string) (CPUSet, error) {
	var s CPUSet
	if err := s.Parse(list); err != nil {
		return CPUSet{}, err
	}
	return s, nil
}

// Parse makes the set what the list says, in place: the set's memory is used again.
// After an error the set is empty.
func (s *CPUSet) Parse(list string) error {
	s.Clear()
	rest := strings.TrimSpace(list)
	for rest != "" {
		part, tail, more := strings.Cut(rest, ",")
		if more && tail == "" {
			s.Clear()
			return fmt.Errorf("CPU list %q ends in a comma", clip(list))
		}
		if err := s.addRange(part); err != nil {
			s.Clear()
			return fmt.Errorf("CPU list %q: %w", clip(list), err)
		}
		rest = tail
	}
	return nil
}

func (s *CPUSet) addRange(part string) error {
	first, last, ranged := strings.Cut(part, "-")
	lo, err := parseCPU(first)
	if err != nil {
		return err
	}
	hi := lo
	if ranged {
		if hi, err = parseCPU(last); err != nil {
			return err
		}
	}
	if hi < lo {
		return fmt.Errorf("range %q runs backwards", clip(part))
	}
	s.grow(hi>>6 + 1)
	for c := lo; c <= hi; c++ {
		s.words[c>>6] |= 1 << (c & 63)
	}
	return nil
}

// parseCPU takes digits only: no sign, no space.
func parseCPU(text string) (int, error) {
	n := 0
	for _, c := range []byte(text) {
		if c < '0' || c > '9' {
			return 0, fmt.Errorf("%q is not a CPU number", clip(text))
		}
		if n = n*10 + int(c-'0'); n > MaxCPU {
			return 0, fmt.Errorf("CPU %q is above %d", clip(text), MaxCPU)
		}
	}
	if text == "" {
		return 0, fmt.Errorf("a CPU number is missing")
	}
	return n, nil
}

// clip keeps what is quoted in an error short.
func clip(text string) string {
	if len(text) > 64 {
		return text[:64] + "..."
	}
	return text
}

// String is the set in the kernel's list format.
func (s CPUSet) String() string {
	if len(s.words) == 0 {
		return ""
	}
	return string(s.AppendTo(make([]byte, 0, 32)))
}

// AppendTo appends the set in the kernel's list format.
func (s CPUSet) AppendTo(b []byte) []byte {
	start := len(b)
	for c := s.next(0); c >= 0; {
		last := c
		for s.Contains(last + 1) {
			last++
		}
		if len(b) > start {
			b = append(b, ',')
		}
		b = strconv.AppendInt(b, int64(c), 10)
		if last > c {
			b = append(b, '-')
			b = strconv.AppendInt(b, int64(last), 10)
		}
		c = s.next(last + 1)
	}
	return b
}

// next is the lowest CPU of the set from cpu on; -1: none.
func (s CPUSet) next(cpu int) int {
	for i := cpu >> 6; i < len(s.words); i++ {
		w := s.words[i]
		if i == cpu>>6 {
			w = w >> (cpu & 63) << (cpu & 63)
		}
		if w != 0 {
			return i<<6 + bits.TrailingZeros64(w)
		}
	}
	return -1
}
