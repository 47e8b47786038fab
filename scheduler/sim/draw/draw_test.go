package draw

import (
	"bytes"
	"encoding/xml"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

var update = flag.Bool("update", false, "write the golden files anew")

// node makes a node of cells with cores of two threads, and a GPU a cell.
func node(name string, cells, cores int) Node {
	hw := &berthv1.Hardware{}
	for c := range cells {
		cell := &berthv1.Cell{Id: uint32(c), MemoryMib: 65536, ReservedMemoryMib: 1024, Hugepages: []*berthv1.Hugepages{{SizeKib: 2048, Count: 512}}}
		for k := range cores {
			cell.Cores = append(cell.Cores, fmt.Sprintf("%d,%d", c*cores+k, (cells+c)*cores+k))
		}
		if c == 0 {
			cell.ReservedCpus = "0"
		}
		hw.Cells = append(hw.Cells, cell)
		hw.Devices = append(hw.Devices, &berthv1.Device{Id: fmt.Sprintf("gpu%d", c), Kind: "gpu", Model: "G80", Cell: int32(c), Healthy: true})
	}
	return Node{Node: &berthv1.Node{Id: "id-" + name, Name: name, Arch: "amd64", Status: berthv1.Node_ready, Hardware: hw}}
}

func alloc(job string, index int, node, cpus string, milli uint32, memory uint64) Alloc {
	return Alloc{Priority: 50, Alloc: &berthv1.Alloc{
		Id: fmt.Sprintf("%s-%d", job, index), Namespace: "default", Job: job, Group: "main", Index: uint32(index), NodeId: "id-" + node,
		Assignment: &berthv1.Assignment{Tasks: []*berthv1.TaskGrant{{Task: "main", Cells: []*berthv1.CellGrant{
			{Cell: 0, Cpus: cpus, CpuMilli: milli, MemoryMib: memory}}}}},
	}}
}

func threeNodes() *Fleet {
	f := &Fleet{Title: "What if: 1 node more", Nodes: []Node{node("n2", 2, 8), node("n10", 4, 4), node("n1", 1, 20)}}
	f.Nodes[1].Mark = Added
	f.Allocs = []Alloc{
		alloc("db", 0, "n2", "2-3,18-19", 0, 16384),
		alloc("db", 1, "n2", "5", 0, 8192), // one thread of a core
		alloc("web", 0, "n2", "", 2500, 4096),
		alloc("web", 1, "n1", "", 500, 1024),
		alloc("big", 0, "n10", "1-3,17-19", 0, 60000),
	}
	f.Allocs[4].Mark, f.Allocs[4].Priority = Added, 80
	f.Allocs[3].Mark = Leaving
	f.Allocs[4].Assignment.Tasks[0].Devices = []*berthv1.DeviceGrant{{Kind: "gpu", Id: "gpu0", ShareMilli: 1000}, {Kind: "gpu", Id: "gpu2", ShareMilli: 250}}
	f.Allocs[4].Assignment.Tasks[0].Cells[0].Hugepages = []*berthv1.Hugepages{{SizeKib: 2048, Count: 128}}
	return f
}

func TestGolden(t *testing.T) {
	jobs, priority := threeNodes(), threeNodes()
	priority.ByPriority = true
	many := &Fleet{Title: "60 nodes"}
	for i := range 60 {
		many.Nodes = append(many.Nodes, node(fmt.Sprintf("n%d", i), 1+i%2, 2))
		many.Allocs = append(many.Allocs, alloc(fmt.Sprintf("job-%d", i%20), i, fmt.Sprintf("n%d", i), "1", 0, 1000))
	}
	for name, f := range map[string]*Fleet{"jobs": jobs, "priority": priority, "many": many, "empty": {Title: "Nothing <here>"}} {
		got, file := SVG(f), filepath.Join("testdata", name+".svg")
		if *update {
			if err := os.WriteFile(file, got, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s is not what is drawn now (go test -update, and look at it)", file)
		}
	}
}

// What is drawn does not depend on the order of what is given.
func TestOrderDoesNotMatter(t *testing.T) {
	want := SVG(threeNodes())
	f := threeNodes()
	slices.Reverse(f.Nodes)
	slices.Reverse(f.Allocs)
	if !bytes.Equal(SVG(f), want) {
		t.Error("another order draws another picture")
	}
}

func TestColoursAndTitles(t *testing.T) {
	svg := string(SVG(threeNodes()))
	for _, want := range []string{
		"db.main[0], priority 50: CPUs 2-3,18-19 of cell 0",
		"db.main[1], priority 50: CPUs 5 of cell 0",
		"web.main[0], priority 50: 2.500 shared cores of cell 0",
		"big.main[0] (new), priority 80: gpu gpu0 G80",
		"big.main[0] (new), priority 80: 250 thousandths of gpu gpu2 G80",
		"big.main[0] (new), priority 80: 128 hugepages of 2 MiB of cell 0",
		"web.main[1] (goes), priority 50: 1 GiB of memory of cell 0",
		"gpu gpu2 G80: 750 of 1000 free",
		"cell 0: 39 of 40 CPUs not pinned by anyone",
		"prefers-color-scheme:dark", "default/db (2)",
	} {
		if !strings.Contains(svg, want) {
			t.Errorf("the picture does not say %q", want)
		}
	}
	if strings.Contains(svg, "<script") || strings.Contains(svg, "href") {
		t.Error("the picture has a script or a reference")
	}
	for i, name := range []string{">n1<", ">n2<", ">n10<"} {
		if i > 0 && strings.Index(svg, name) < strings.Index(svg, []string{">n1<", ">n2<", ">n10<"}[i-1]) {
			t.Errorf("%s comes too early", name)
		}
	}
}

// drawFleet draws fleets, senseless grants included.
func drawFleet(t *rapid.T) *Fleet {
	f := &Fleet{Title: rapid.String().Draw(t, "title"), ByPriority: rapid.Bool().Draw(t, "by priority")}
	nodes := rapid.SampledFrom([]int{0, 1, 3, 9, 41, 401}).Draw(t, "nodes")
	cells, cores := 8, 40
	if nodes > 3 {
		cells, cores = 2, 5
	}
	for i := range nodes {
		n := node(fmt.Sprintf("n%d", i), rapid.IntRange(0, cells).Draw(t, "cells"), rapid.IntRange(0, cores).Draw(t, "cores"))
		n.Mark = rapid.SampledFrom([]Mark{Unmarked, Added, Leaving}).Draw(t, "mark")
		if rapid.Bool().Draw(t, "loose") {
			n.Hardware.Devices = append(n.Hardware.Devices, &berthv1.Device{Id: "x", Kind: "fpga", Cell: -1})
		}
		f.Nodes = append(f.Nodes, n)
		if i < 10 {
			list := rapid.SampledFrom([]string{"", "0", "1-7", "3,9", "garbage", "0-4095"}).Draw(t, "cpus")
			a := alloc("j", i, n.Name, list, rapid.Uint32().Draw(t, "milli"), rapid.Uint64().Draw(t, "memory"))
			a.Assignment.Tasks[0].Devices = []*berthv1.DeviceGrant{{Id: "gpu0", ShareMilli: rapid.Uint32Range(0, 3000).Draw(t, "share")}}
			f.Allocs = append(f.Allocs, a)
		}
	}
	return f
}

// Nothing lies over anything else but its node's frame, and all of it is in the picture.
func TestGeometry(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := drawFleet(t)
		boxes, width, height := newPainter(f).layout()
		var frame box
		var nodes, parts []box
		check := func() {
			for i := range parts {
				for k := range i {
					if overlap(&parts[i], &parts[k]) {
						t.Fatalf("%+v lies over %+v", parts[i], parts[k])
					}
				}
			}
			parts = parts[:0]
		}
		for _, b := range boxes {
			if b.w <= 0 || b.h <= 0 || b.x < 0 || b.y < 0 || b.x+b.w > width || b.y+b.h > height {
				t.Fatalf("%+v is not in a picture of %dx%d", b, width, height)
			}
			if frames(&b) {
				check()
				frame = b
				nodes = append(nodes, b)
				continue
			}
			parts = append(parts, b)
			if b.x < frame.x || b.y < frame.y || b.x+b.w > frame.x+frame.w || b.y+b.h > frame.y+frame.h {
				t.Fatalf("%+v is not in its node %+v", b, frame)
			}
		}
		check()
		parts = nodes
		check()
		if len(nodes) != len(f.Nodes) {
			t.Fatalf("%d nodes drawn of %d", len(nodes), len(f.Nodes))
		}
		wellFormed(t, SVG(f))
	})
}

func overlap(a, b *box) bool {
	return a.x < b.x+b.w && b.x < a.x+a.w && a.y < b.y+b.h && b.y < a.y+a.h
}

func wellFormed(t *rapid.T, svg []byte) {
	for d := xml.NewDecoder(bytes.NewReader(svg)); ; {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			return
		} else if err != nil {
			t.Fatalf("not XML: %v", err)
		}
	}
}
