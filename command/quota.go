package command

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/berthd/berth/jobspec"
	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

const quotaHelp = "A quota is what all allocations of the namespace may hold together: cpu (in threads, or as \"500m\"), memory (with hugepages), disk, allocs, " +
	"and devices by their kind, such as gpu=16. What a quota does not name has no limit; an amount that is left out (\"gpu=\") takes one away, and -no-quota all of them."

// setQuota changes a quota by a word such as "gpu=16".
func setQuota(q *berthv1.Quota, word string) error {
	key, text, ok := strings.Cut(word, "=")
	if !ok || key == "" {
		return problem.New(problem.Invalid, "-quota", "%q is not what=amount", word).WithRemedy("write it like cpu=64, memory=256GiB or gpu=16")
	}
	amount := func(unit berthv1.Unit) (n uint64, err error) {
		if text == "" {
			return 0, nil
		}
		if n, err = jobspec.Quantity(text, unit); err != nil {
			err = problem.New(problem.Invalid, "-quota", "%s: %w", key, err)
		}
		return n, err
	}
	var err error
	switch key {
	case "cpu":
		q.CpuMilli, err = amount(berthv1.Unit_UNIT_MILLI)
	case "memory":
		q.MemoryMib, err = amount(berthv1.Unit_UNIT_MIB)
	case "disk":
		q.DiskMib, err = amount(berthv1.Unit_UNIT_MIB)
	case "allocs":
		q.Allocs, err = 0, nil
		if text != "" {
			if q.Allocs, err = strconv.ParseUint(text, 10, 64); err != nil {
				err = problem.New(problem.Invalid, "-quota", "%q is not a number of allocations", text)
			}
		}
	default:
		var n uint64
		n, err = amount(berthv1.Unit_UNIT_MILLI)
		if q.DevicesMilli == nil {
			q.DevicesMilli = map[string]uint64{}
		}
		if q.DevicesMilli[key] = n; text == "" {
			delete(q.DevicesMilli, key)
		}
	}
	return err
}

// printQuota shows what is held of a quota.
func (a *app) printQuota(u *berthv1.NamespaceUsage) error {
	t := newTable(column{title: "HELD"}, column{title: "USED", right: true}, column{title: "QUOTA", right: true}, column{title: "LEFT", right: true})
	row := func(what string, used, quota uint64, words func(uint64) string) {
		limit, left := "-", "-"
		if quota > 0 {
			limit, left = words(quota), words(quota-min(used, quota))
		}
		t.add(what, words(used), limit, left)
	}
	q, used := u.GetQuota(), u.GetUsed()
	threads := func(n uint64) string { return strconv.FormatFloat(float64(n)/1000, 'f', -1, 64) }
	row("cpu", used.GetCpuMilli(), q.GetCpuMilli(), threads)
	row("memory", used.GetMemoryMib(), q.GetMemoryMib(), mebibytes)
	row("disk", used.GetDiskMib(), q.GetDiskMib(), mebibytes)
	row("allocs", used.GetAllocs(), q.GetAllocs(), func(n uint64) string { return fmt.Sprint(n) })
	kinds := map[string]bool{}
	for kind := range q.GetDevicesMilli() {
		kinds[kind] = true
	}
	for kind := range used.GetDevicesMilli() {
		kinds[kind] = true
	}
	for _, kind := range sortedKeys(kinds) {
		row(kind, used.GetDevicesMilli()[kind], q.GetDevicesMilli()[kind], threads)
	}
	return a.table(t)
}
