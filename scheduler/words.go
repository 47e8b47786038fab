package scheduler

import (
	"fmt"
	"strconv"
	"strings"
)

func plural(n uint64, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return strconv.FormatUint(n, 10) + " " + what + "s"
}

// milliWords says thousandths of a core: "500m", "2 cores", "1.5 cores".
func milliWords(milli uint64) string {
	switch {
	case milli < 1000:
		return fmt.Sprintf("%dm", milli)
	case milli == 1000:
		return "1 core"
	case milli%1000 == 0:
		return fmt.Sprintf("%d cores", milli/1000)
	}
	return strconv.FormatFloat(float64(milli)/1000, 'f', -1, 64) + " cores"
}

// memoryWords says MiB: "300 MiB", "64 GiB".
func memoryWords(mib uint64) string {
	if mib >= 1024 && mib%1024 == 0 {
		return fmt.Sprintf("%d GiB", mib/1024)
	}
	return fmt.Sprintf("%d MiB", mib)
}

// pageWords says the size of a page: "2 MiB", "1 GiB".
func pageWords(kib uint64) string {
	if kib%1024 == 0 && kib > 0 {
		return memoryWords(kib / 1024)
	}
	return fmt.Sprintf("%d KiB", kib)
}

// hashString is FNV-1a with a finishing mix: stable over versions and machines.
func hashString(s string) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * 1099511628211
	}
	return mix(h)
}

// mix spreads the bits of x over the whole word.
func mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// needs is what one instance needs, in words.
func (g *Group) needs() string {
	var words []string
	if g.total.milli > 0 {
		words = append(words, milliWords(g.total.milli)+" of CPU")
	}
	if g.total.cores > 0 {
		words = append(words, plural(uint64(g.total.cores), "exclusive core"))
	}
	if g.total.threads > 0 {
		words = append(words, plural(uint64(g.total.threads), "exclusive thread"))
	}
	words = append(words, memoryWords(g.total.memory))
	for _, h := range g.total.hugepages {
		words = append(words, fmt.Sprintf("%d hugepages of %s", h.Count, pageWords(h.SizeKiB)))
	}
	for _, d := range g.total.devices {
		words = append(words, d.words())
	}
	for _, p := range g.ports {
		if p.static != 0 {
			words = append(words, fmt.Sprintf("port %d", p.static))
		}
	}
	if g.diskMiB > 0 {
		words = append(words, memoryWords(g.diskMiB)+" of disk")
	}
	text := strings.Join(words, " + ")
	switch g.policy {
	case single:
		text += ", in one cell"
	case restricted:
		text += ", in as few cells as possible"
	}
	return text
}
