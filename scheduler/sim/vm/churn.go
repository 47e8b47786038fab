package vm

import (
	"container/heap"

	"github.com/berthd/berth/problem"
)

// Churned is what became of machines that come and go.
type Churned struct {
	Policy   string `json:"policy"`
	Hosts    int    `json:"hosts"`
	Machines int    `json:"machines"`
	Placed   int    `json:"placed"`
	// Unplaced found no room when they came, and went away.
	Unplaced   int `json:"unplaced"`
	Violations int `json:"violations"`
	// The means over time, after the first tenth of it, in which the fleet fills up.
	MeanEmptyHosts     float64 `json:"mean_empty_hosts"`
	MeanCPUPercent     float64 `json:"mean_cpu_percent"`
	MeanPackingPercent float64 `json:"mean_packing_percent"`
	// Samples are one an hour.
	Samples []Sample `json:"samples"`
}

// Sample is the fleet at a time.
type Sample struct {
	Seconds    int64 `json:"seconds"` // since the first arrival
	Machines   int   `json:"machines"`
	EmptyHosts int   `json:"empty_hosts"`
	// CPUPercent is of all hosts, PackingPercent of those that are not empty.
	CPUPercent     float64 `json:"cpu_percent"`
	MemoryPercent  float64 `json:"memory_percent"`
	PackingPercent float64 `json:"packing_percent"`
}

// sampleEvery is how many seconds lie between two samples.
const sampleEvery = 3600

// Churn offers machines as they come, and takes them away as they go.
func Churn(hosts []Host, machines []Machine, name string) (*Churned, error) {
	p, err := newPolicy(name, hosts, machines, Rules{})
	if err != nil {
		return nil, err
	}
	if len(machines) == 0 {
		return nil, problem.New(problem.Invalid, "machines", "there are none")
	}
	c := &churn{out: &Churned{Policy: name, Hosts: len(hosts), Machines: len(machines)}, books: newBooks(hosts), machines: machines, policy: p}
	c.start = machines[0].From
	c.next = c.start
	for i := range machines {
		c.until(machines[i].From)
		at, ok := p.offer(i)
		if !ok {
			c.out.Unplaced++
			continue
		}
		c.out.Placed++
		c.books.enter(i, &machines[i], at)
		if machines[i].Until > 0 {
			heap.Push(&c.ends, end{machines[i].Until, i})
		}
	}
	c.until(machines[len(machines)-1].From + sampleEvery)
	c.out.Violations = c.books.wrong
	c.means()
	return c.out, nil
}

type churn struct {
	out         *Churned
	books       *books
	machines    []Machine
	policy      policy
	ends        ends
	start, next int64 // of the samples
}

// until lets time pass: machines go, samples are taken.
func (c *churn) until(now int64) {
	for {
		if len(c.ends) > 0 && c.ends[0].at <= min(now, c.next) {
			e := heap.Pop(&c.ends).(end)
			c.policy.leave(e.machine, c.books.leave(e.machine, &c.machines[e.machine]))
			continue
		}
		if c.next >= now {
			return
		}
		c.out.Samples = append(c.out.Samples, c.sample())
		c.next += sampleEvery
	}
}

func (c *churn) sample() Sample {
	s := Sample{Seconds: c.next - c.start, Machines: len(c.books.at)}
	s.CPUPercent, s.MemoryPercent = c.books.used()
	var used, all int64
	for h, n := range c.books.machines {
		if n == 0 {
			s.EmptyHosts++
			continue
		}
		for cell, room := range c.books.hosts[h].Cells {
			all += room.CPU
			used += room.CPU - c.books.free[h][cell].CPU
		}
	}
	s.PackingPercent = percent(used, all)
	return s
}

func (c *churn) means() {
	samples := c.out.Samples[len(c.out.Samples)/10:]
	for _, s := range samples {
		n := float64(len(samples))
		c.out.MeanEmptyHosts += float64(s.EmptyHosts) / n
		c.out.MeanCPUPercent += s.CPUPercent / n
		c.out.MeanPackingPercent += s.PackingPercent / n
	}
}

// end is when a machine goes.
type end struct {
	at      int64
	machine int
}

// ends is a heap of those to come.
type ends []end

func (e ends) Len() int { return len(e) }
func (e ends) Less(i, j int) bool {
	return e[i].at < e[j].at || e[i].at == e[j].at && e[i].machine < e[j].machine
}
func (e ends) Swap(i, j int) { e[i], e[j] = e[j], e[i] }

// Push is for container/heap.
func (e *ends) Push(x any) { *e = append(*e, x.(end)) }

// Pop is for container/heap.
func (e *ends) Pop() any {
	old := *e
	last := old[len(old)-1]
	*e = old[:len(old)-1]
	return last
}
