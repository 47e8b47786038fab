package scheduler

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

var update = flag.Bool("update", false, "rewrite what the transcripts want")

// Each file in testdata has a script and what came of it. The script draws a fleet and
// asks; the commands are in world.
func TestTranscripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no transcripts: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			w := &world{t: t, f: NewFleet(), nodes: map[string]*berthv1.Node{}}
			for line := range strings.Lines(string(archive.Files[0].Data)) {
				w.run(strings.TrimRight(line, "\n"))
			}
			if *update {
				archive.Files = append(archive.Files[:1], txtar.File{Name: "want", Data: []byte(w.out.String())})
				if err := os.WriteFile(file, txtar.Format(archive), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if want := string(archive.Files[1].Data); w.out.String() != want {
				t.Errorf("got:\n%s\nwant:\n%s", w.out.String(), want)
			}
		})
	}
}

// world runs a script:
//
//	node NAME [pool= arch= status= ineligible taint=K disk= ports=MIN-MAX ATTRIBUTE=VALUE ...]
//	  cell CORESxTHREADS MIB [reserved=LIST pages=N distances=A,B,...]   of the last node; pages of 2 MiB
//	  device ID KIND [cell=N root= model= mem= nvlink= profile= link=PEER,LANES shareable broken]
//	ask JOB [count= type= prio= cpu= cores= threads= mem= pages= disk= policy= align= spread=ATTR
//	         distinct distinct=ATTR[,N] constraint=A,OP,V affinity=A,OP,V,W port=STATIC|0 device=KIND,N[,NEAR,WITHIN]
//	         model= share= link= profile= cells= whole gang pool= arch= nodes=A,B penalise= exclude= kind=LIST]
//	demand JOB [as ask]    so many of it are wanted, besides what was said before
//	release JOB NODE       one instance of it
//	stop JOB NODE          tells one instance of it to stop
//	preempt JOB [as ask; below=PRIORITY bounded=JOB:LEFT]
//	                       who would have to give way to it, and undoes it
//	why JOB [as ask]       why it does not fit, who holds what it lacks, and undoes it
//	fleet                  draws what is left
type world struct {
	t      *testing.T
	f      *Fleet
	nodes  map[string]*berthv1.Node
	last   *berthv1.Node
	placed []*berthv1.Alloc
	jobs   map[string]*berthv1.Job
	wanted []Wanted
	cpu    int
	out    strings.Builder
}

type options map[string][]string

func parseOptions(fields []string) options {
	o := options{}
	for _, f := range fields {
		k, v, _ := strings.Cut(f, "=")
		o[k] = append(o[k], v)
	}
	return o
}

func (o options) text(key, def string) string {
	if v := o[key]; len(v) > 0 {
		return v[0]
	}
	return def
}

func (o options) has(key string) bool { return len(o[key]) > 0 }

func (o options) number(t testing.TB, key string, def int) uint64 {
	n, err := strconv.Atoi(o.text(key, strconv.Itoa(def)))
	if err != nil {
		t.Fatalf("%s: %v", key, err)
	}
	return uint64(n)
}

func (w *world) run(line string) {
	fields := strings.Fields(line)
	if len(fields) == 0 || strings.HasPrefix(line, "#") {
		return
	}
	switch fields[0] {
	case "node":
		w.node(fields[1], parseOptions(fields[2:]))
	case "cell":
		w.cell(fields[1], fields[2], parseOptions(fields[3:]))
	case "device":
		w.device(fields[1], fields[2], parseOptions(fields[3:]))
	case "ask":
		fmt.Fprintf(&w.out, "> %s\n", line)
		w.ask(fields[1], parseOptions(fields[2:]))
	case "demand":
		w.demandWords(fields[1], parseOptions(fields[2:]))
	case "release":
		fmt.Fprintf(&w.out, "> %s\n", line)
		w.release(fields[1], fields[2])
	case "stop":
		fmt.Fprintf(&w.out, "> %s\n", line)
		w.stop(fields[1], fields[2])
	case "preempt":
		fmt.Fprintf(&w.out, "> %s\n", line)
		w.preempt(fields[1], parseOptions(fields[2:]))
	case "why":
		fmt.Fprintf(&w.out, "> %s\n", line)
		w.why(fields[1], parseOptions(fields[2:]))
	case "fleet":
		w.draw()
	default:
		w.t.Fatalf("unknown command %q", line)
	}
}

func (w *world) node(name string, o options) {
	w.flush()
	w.cpu = 0
	w.last = &berthv1.Node{
		Id: "id-" + name, Name: name, Address: "10.0.0.1", Pool: o.text("pool", ""), Arch: o.text("arch", "amd64"),
		Attributes: map[string]string{}, Drivers: []*berthv1.DriverInfo{{Name: "exec", Healthy: true}},
		Hardware: &berthv1.Hardware{DiskMib: o.number(w.t, "disk", 100_000)},
	}
	w.last.Status = berthv1.Node_Status(berthv1.Node_Status_value[o.text("status", "ready")])
	if o.has("ineligible") {
		w.last.Eligibility = berthv1.Node_ineligible
	}
	for _, taint := range o["taint"] {
		w.last.Taints = append(w.last.Taints, &berthv1.Taint{Key: taint})
	}
	low, high, _ := strings.Cut(o.text("ports", "20000-20100"), "-")
	minPort, _ := strconv.Atoi(low)
	maxPort, _ := strconv.Atoi(high)
	w.last.MinPort, w.last.MaxPort = uint32(minPort), uint32(maxPort)
	for k, v := range o {
		if strings.Contains(k, ".") {
			w.last.Attributes[k] = v[0]
		}
	}
	w.nodes[name] = w.last
}

// cell numbers its threads as most machines do: one thread of every core of the cell,
// then the others.
func (w *world) cell(shape, mib string, o options) {
	a, b, _ := strings.Cut(shape, "x")
	cores, _ := strconv.Atoi(a)
	threads, _ := strconv.Atoi(b)
	memory, _ := strconv.Atoi(mib)
	c := &berthv1.Cell{Id: uint32(len(w.last.Hardware.Cells)), MemoryMib: uint64(memory), ReservedCpus: o.text("reserved", "")}
	for i := range cores {
		var list []string
		for k := range threads {
			list = append(list, strconv.Itoa(w.cpu+i+k*cores))
		}
		c.Cores = append(c.Cores, strings.Join(list, ","))
	}
	if n := o.number(w.t, "pages", 0); n > 0 {
		c.Hugepages = []*berthv1.Hugepages{{SizeKib: 2048, Count: n}}
	}
	for _, d := range strings.FieldsFunc(o.text("distances", ""), func(r rune) bool { return r == ',' }) {
		distance, _ := strconv.Atoi(d)
		c.Distances = append(c.Distances, uint32(distance))
	}
	w.cpu += cores * threads
	w.last.Hardware.Cells = append(w.last.Hardware.Cells, c)
}

func (w *world) device(id, kind string, o options) {
	d := &berthv1.Device{Id: id, Kind: kind, Model: o.text("model", ""), Healthy: !o.has("broken"), Cell: int32(o.number(w.t, "cell", 0)),
		MemoryMib: o.number(w.t, "mem", 0), PciRoot: o.text("root", ""), Attributes: map[string]string{}}
	for _, name := range []string{"nvlink", "profile"} {
		if o.has(name) {
			d.Attributes[name] = o.text(name, "")
		}
	}
	for _, link := range o["link"] {
		peer, lanes, _ := strings.Cut(link, ",")
		n, _ := strconv.Atoi(lanes)
		d.Links = append(d.Links, &berthv1.DeviceLink{Peer: peer, Type: "nvlink", Lanes: uint32(n)})
	}
	if o.has("shareable") {
		d.ShareableMilli = 1
	}
	w.last.Hardware.Devices = append(w.last.Hardware.Devices, d)
}

// flush hands the node that is complete to the fleet.
func (w *world) flush() {
	if w.last != nil {
		if _, err := w.f.UpsertNode(w.last); err != nil {
			w.t.Fatal(err)
		}
		w.last = nil
	}
}

// jobOf makes a job of an ask's options.
func jobOf(t testing.TB, name string, o options) *berthv1.Job {
	count := uint32(o.number(t, "count", 1))
	r := &berthv1.Resources{CpuMilli: uint32(o.number(t, "cpu", 0)), MemoryMib: o.number(t, "mem", 100)}
	if o.has("cores") {
		r.Cores, r.CoreUnit = uint32(o.number(t, "cores", 0)), "core"
	}
	if o.has("threads") {
		r.Cores, r.CoreUnit = uint32(o.number(t, "threads", 0)), "thread"
	}
	if n := o.number(t, "pages", 0); n > 0 {
		r.Hugepages = []*berthv1.Hugepages{{SizeKib: 2048, Count: n}}
	}
	for _, d := range o["device"] {
		p := strings.Split(d+",,,", ",")
		count, _ := strconv.Atoi(p[1])
		ask := &berthv1.DeviceAsk{Kind: p[0], Count: uint32(count), Model: o.text("model", ""), Near: p[2], Within: p[3]}
		if p[2] == "" { // the first asks for what the options say, what is near it follows
			ask.ShareMilli, ask.Link, ask.Profile = uint32(o.number(t, "share", 0)), o.text("link", ""), o.text("profile", "")
		}
		r.Devices = append(r.Devices, ask)
	}
	g := &berthv1.Group{Name: name, Count: &count, Gang: o.has("gang"), DiskMib: o.number(t, "disk", 0), WholeNode: o.has("whole"),
		Tasks: []*berthv1.Task{{Name: "main", Driver: o.text("driver", "exec"), Resources: r}}}
	if o.has("policy") || o.has("cells") {
		g.Topology = &berthv1.TopologyPolicy{Policy: o.text("policy", ""), Cells: uint32(o.number(t, "cells", 0))}
		if o.has("align") {
			g.Topology.Align = strings.Split(o.text("align", ""), ",")
		}
	}
	for _, s := range o["spread"] {
		attribute, rest, _ := strings.Cut(s, ",")
		sp := &berthv1.Spread{Attribute: attribute, Weight: 50}
		for _, target := range strings.Split(rest, ",") {
			if value, percent, ok := strings.Cut(target, ":"); ok {
				n, _ := strconv.Atoi(percent)
				sp.Targets = append(sp.Targets, &berthv1.SpreadTarget{Value: value, Percent: uint32(n)})
			}
		}
		g.Spreads = append(g.Spreads, sp)
	}
	for _, text := range o["distinct"] {
		attribute, limit, _ := strings.Cut(text, ",")
		c := &berthv1.Constraint{Operator: "distinct_hosts"}
		if attribute != "" {
			c = &berthv1.Constraint{Attribute: attribute, Operator: "distinct_property", Value: limit}
		}
		g.Constraints = append(g.Constraints, c)
	}
	for _, c := range o["constraint"] {
		p := strings.SplitN(c+",,", ",", 3)
		g.Constraints = append(g.Constraints, &berthv1.Constraint{Attribute: p[0], Operator: p[1], Value: strings.TrimRight(p[2], ",")})
	}
	for _, c := range o["affinity"] {
		p := strings.Split(c, ",")
		weight, _ := strconv.Atoi(p[3])
		g.Affinities = append(g.Affinities, &berthv1.Affinity{Attribute: p[0], Operator: p[1], Value: p[2], Weight: int32(weight)})
	}
	for i, p := range o["port"] {
		static, _ := strconv.Atoi(p)
		if g.Network == nil {
			g.Network = &berthv1.Network{}
		}
		g.Network.Ports = append(g.Network.Ports, &berthv1.Port{Name: fmt.Sprintf("p%d", i), Static: uint32(static)})
	}
	job := &berthv1.Job{Name: name, Namespace: "default", Priority: uint32(o.number(t, "prio", 50)), NodePool: o.text("pool", ""), Groups: []*berthv1.Group{g}}
	job.Type = berthv1.Job_Type(berthv1.Job_Type_value[o.text("type", "service")])
	if o.has("arch") {
		job.Arch = strings.Split(o.text("arch", ""), ",")
	}
	return job
}

func askOf(t testing.TB, job *berthv1.Job, o options) *Ask {
	g, err := Compile(job, job.GetGroups()[0])
	if err != nil {
		t.Fatal(err)
	}
	ask := &Ask{Group: g, Count: g.Count}
	ids := func(key string) (out []string) {
		for _, name := range strings.Split(o.text(key, ""), ",") {
			if name != "" {
				out = append(out, "id-"+name)
			}
		}
		return out
	}
	ask.Nodes, ask.Penalised, ask.Excluded = ids("nodes"), ids("penalise"), ids("exclude")
	return ask
}

func (w *world) ask(name string, o options) {
	w.flush()
	job := jobOf(w.t, name, o)
	w.know(job)
	placed, unplaced := Place(w.f, []*Ask{askOf(w.t, job, o)})
	for _, p := range placed {
		fmt.Fprintf(&w.out, "%s  %s\n", p.NodeName, assignmentWords(p.Assignment))
		w.placed = append(w.placed, &berthv1.Alloc{NodeId: p.NodeID, Namespace: "default", Job: name, Group: name, Assignment: p.Assignment})
	}
	for _, u := range unplaced {
		fmt.Fprintf(&w.out, "%d not placed; each needs %s\n", u.Count, u.Explanation.GetNeeds())
		fmt.Fprintf(&w.out, "  %d nodes looked at\n", u.Explanation.GetNodes())
		for _, f := range u.Explanation.GetFailed() {
			fmt.Fprintf(&w.out, "  %4d  %s: %s\n", f.GetNodes(), f.GetCheck(), f.GetDetail())
		}
		for _, n := range u.Explanation.GetNearest() {
			var words []string
			for _, s := range n.GetShortfalls() {
				words = append(words, fmt.Sprintf("%s (%d of %d)", s.GetText(), s.GetFree(), s.GetWanted()))
			}
			fmt.Fprintf(&w.out, "  near  %s: %s\n", n.GetNode(), strings.Join(words, "; "))
		}
		for _, r := range u.Explanation.GetRemedies() {
			fmt.Fprintf(&w.out, "  try   %s\n", r)
		}
	}
}

func assignmentWords(a *berthv1.Assignment) string {
	var words []string
	for _, t := range a.GetTasks() {
		for _, c := range t.GetCells() {
			text := fmt.Sprintf("cell %d:", c.GetCell())
			if c.GetCpus() != "" {
				text += " cpus " + c.GetCpus()
			}
			if c.GetCpuMilli() > 0 {
				text += fmt.Sprintf(" %dm", c.GetCpuMilli())
			}
			if c.GetMemoryMib() > 0 {
				text += fmt.Sprintf(" %d MiB", c.GetMemoryMib())
			}
			for _, h := range c.GetHugepages() {
				text += fmt.Sprintf(" %dx%d KiB", h.GetCount(), h.GetSizeKib())
			}
			words = append(words, text)
		}
		for _, d := range t.GetDevices() {
			words = append(words, fmt.Sprintf("%s %d", d.GetId(), d.GetShareMilli()))
		}
	}
	for _, p := range a.GetPorts() {
		words = append(words, fmt.Sprintf("port %d", p.GetPort()))
	}
	return strings.Join(words, ", ")
}

func (w *world) release(job, node string) {
	i := slices.IndexFunc(w.placed, func(a *berthv1.Alloc) bool { return a.GetJob() == job && a.GetNodeId() == "id-"+node })
	if i < 0 {
		w.t.Fatalf("%s is not on %s", job, node)
	}
	w.f.ChangeAlloc(w.placed[i], nil)
	w.placed = slices.Delete(w.placed, i, i+1)
}

// draw shows each cell's threads: x reserved, # exclusive, . free; and what is left.
func (w *world) draw() {
	w.flush()
	names := make([]string, 0, len(w.nodes))
	for name := range w.nodes {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		u := w.f.nodes[w.f.slots["id-"+name]].usage
		for i, c := range u.Machine().Cells {
			var cores []string
			for _, core := range c.Cores {
				text := ""
				for cpu := range core.Threads.All() {
					switch {
					case c.ReservedCPUs.Contains(cpu):
						text += "x"
					case !u.FreeThreads(i).Contains(cpu):
						text += "#"
					default:
						text += "."
					}
				}
				cores = append(cores, text)
			}
			fmt.Fprintf(&w.out, "%s cell %d  %s  %dm %d MiB free\n", name, c.ID, strings.Join(cores, " "), u.FreeMilli(i), u.FreeMemory(i))
		}
	}
}
