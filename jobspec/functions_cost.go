package jobspec

import (
	"strings"

	"github.com/zclconf/go-cty/cty"
)

// textSize is about how long a value is when it is printed.
func textSize(v cty.Value) int {
	if v.IsNull() || !v.IsKnown() {
		return 8
	}
	switch t := v.Type(); {
	case t == cty.String:
		return len(v.AsString()) + 2
	case t == cty.Number:
		return 512
	case v.CanIterateElements():
		n := 2
		for it := v.ElementIterator(); it.Next(); {
			k, e := it.Element()
			n += textSize(k) + 6*textSize(e)
		}
		return n
	}
	return 8
}

// formatCost: every verb may print every argument once, padded; lists are gone through.
func formatCost(args []cty.Value) int {
	format := args[0].AsString()
	size, rounds, width, digits := len(format), 1, 0, 0
	for _, c := range format {
		if c >= '0' && c <= '9' {
			digits = min(digits*10+int(c-'0'), MaxWork)
			width = max(width, digits)
		} else {
			digits = 0
		}
	}
	for _, arg := range args[1:] {
		largest := 0
		if !arg.IsNull() && arg.CanIterateElements() {
			rounds = max(rounds, arg.LengthInt())
			for it := arg.ElementIterator(); it.Next(); {
				_, e := it.Element()
				largest = max(largest, textSize(e))
			}
		} else {
			largest = textSize(arg)
			if !arg.IsNull() && arg.Type() == cty.String && largeNumber.MatchString(arg.AsString()) {
				return MaxWork
			}
		}
		size += strings.Count(format, "%") * largest
	}
	return (size + strings.Count(format, "%")*width) * rounds
}

func joinCost(args []cty.Value) int {
	n := 0
	for _, list := range args[1:] {
		if !list.IsNull() && list.CanIterateElements() {
			n += list.LengthInt()
		}
	}
	return n * len(args[0].AsString())
}

func indentCost(args []cty.Value) int {
	spaces, _ := args[0].AsBigFloat().Int64()
	return int(min(max(spaces, 0), MaxWork)) * (1 + strings.Count(args[1].AsString(), "\n"))
}

func replaceCost(args []cty.Value) int {
	return (len(args[0].AsString()) + 1) * (len(args[2].AsString()) + len(args[1].AsString())/64 + 1) / 4
}

func regexCost(args []cty.Value) int {
	return len(args[0].AsString()) * len(args[1].AsString()) / 64
}

func productCost(args []cty.Value) int {
	n := 8 * len(args)
	for _, arg := range args {
		if arg.CanIterateElements() {
			n = min(n*arg.LengthInt(), MaxWork+1)
		}
	}
	return n
}

func squareCost(args []cty.Value) int {
	if !args[0].CanIterateElements() {
		return 0
	}
	n := args[0].LengthInt()
	return n * n / 4
}
