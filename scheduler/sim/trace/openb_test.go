package trace

import (
	"math/rand"
	"slices"
	"strings"
	"testing"
)

// TestReadWrong: what is wrong is said with its line and column.
func TestReadWrong(t *testing.T) {
	const nodes, pods = "sn,cpu_milli,memory_mib,gpu,model\n", "name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec\n"
	for name, tc := range map[string]struct{ nodes, pods, want string }{
		"nothing":           {nodes: "", want: "line 1: the file is empty"},
		"only a header":     {nodes: nodes, want: "there are no nodes"},
		"no such column":    {nodes: "a,b\n1,2\n", want: `line 1: there is no column "sn" among a,b`},
		"a column twice":    {nodes: "sn,gpu,gpu\n", want: `line 1: column "gpu" is there twice`},
		"a node twice":      {nodes: nodes + "a,1,1,0,\na,1,1,0,\n", want: `line 3: sn: "a" is no name, or is there twice`},
		"no name":           {nodes: nodes + ",1,1,0,\n", want: `line 2: sn: "" is no name`},
		"no model":          {nodes: nodes + "a,1,1,2,\n", want: "line 2: model: a has 2 GPUs of no model"},
		"too many GPUs":     {nodes: nodes + "a,1,1,65,T4\n", want: "line 2: gpu: 65 is not from 0 to 64"},
		"negative":          {nodes: nodes + "a,-1,1,0,\n", want: "line 2: cpu_milli: -1 is not from 0 to"},
		"no number":         {nodes: nodes + "a,1.5,1,0,\n", want: `line 2: cpu_milli: "1.5" is not a whole number`},
		"overflow":          {nodes: nodes + "a,1,99999999999999999999,0,\n", want: "line 2: memory_mib: "},
		"an open quote":     {nodes: nodes + "\"a,1,1,0,\n", want: "line 2: not CSV"},
		"too few fields":    {pods: pods + "a,1,1\n", want: "line 2: not CSV: wrong number of fields"},
		"no pods":           {pods: pods, want: "there are no pods"},
		"nothing of a GPU":  {pods: pods + "a,1,1,1,0,\n", want: "line 2: gpu_milli: 0 of each of 1 GPUs"},
		"shares of several": {pods: pods + "a,1,1,1,100,\nb,1,1,2,500,\n", want: "line 3: gpu_milli: 500 of each of 2 GPUs"},
	} {
		t.Run(name, func(t *testing.T) {
			var err error
			if tc.pods == "" {
				_, err = ReadNodes(strings.NewReader(tc.nodes))
			} else {
				_, err = ReadPods(strings.NewReader(tc.pods))
			}
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %s", err, tc.want)
			}
		})
	}
}

func TestReadArrivalsWrong(t *testing.T) {
	for text, want := range map[string]string{
		"":                                      "not the JSON of an order",
		"[]":                                    "not the JSON of an order",
		"{}":                                    "there are none",
		`{"arrivals":[2]}`:                      "number 0 is 2, and there are 2 pods",
		`{"arrivals":[-1]}`:                     "number 0 is -1",
		`{"arrivals":[1.5]}`:                    "not the JSON of an order",
		`{"arrivals":[0],"node_order":[0,0,1]}`: "number 1 is 0: not one of 3 nodes",
		`{"arrivals":[0],"node_order":[0,1]}`:   "2 of 3 nodes",
	} {
		if _, err := ReadArrivals(strings.NewReader(text), 2, 3); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %s", text, err, want)
		}
	}
	order, err := ReadArrivals(strings.NewReader(`{"arrivals":[1,0,1]}`), 2, 3)
	if err != nil || !slices.Equal(order.Pods, []int{1, 0, 1}) || !slices.Equal(order.Nodes, []int{0, 1, 2}) {
		t.Errorf("got %v, %v", order, err)
	}
}

// TestDraw: until the target is reached pods are added, or taken away, whatever the order
// of the files.
func TestDraw(t *testing.T) {
	nodes := []Node{{Name: "b", GPUs: 4, Model: "T4"}, {Name: "a", GPUs: 6, Model: "T4"}}
	pods := []Pod{{Name: "x", GPUs: 1, GPUMilli: 500}, {Name: "y", GPUs: 2, GPUMilli: 1000}, {Name: "z"}}
	for _, tune := range []float64{0.1, 0.25, 1, 3} {
		a, err := Draw(pods, nodes, rand.New(rand.NewSource(1)), tune)
		if err != nil {
			t.Fatal(err)
		}
		var total int64
		for _, p := range a.Pods {
			total += pods[p].Demand()
		}
		if target := int64(tune * 10_000); total > target+1000 || total < target-2500 {
			t.Errorf("tune %v: %d are asked for", tune, total)
		}
		turned := []Pod{pods[2], pods[0], pods[1]}
		b, err := Draw(turned, []Node{nodes[1], nodes[0]}, rand.New(rand.NewSource(1)), tune)
		if err != nil || len(a.Pods) != len(b.Pods) {
			t.Fatalf("%d and %d pods, %v", len(a.Pods), len(b.Pods), err)
		}
		for i := range a.Pods {
			if pods[a.Pods[i]].Name != turned[b.Pods[i]].Name {
				t.Fatalf("tune %v: pod %d depends on the order of the file", tune, i)
			}
		}
	}
	if _, err := Draw([]Pod{{Name: "z"}}, nodes, rand.New(rand.NewSource(1)), 1); err == nil {
		t.Error("an order was drawn of pods that ask for no GPU")
	}
	if _, err := Draw(pods, nodes, rand.New(rand.NewSource(1)), -1); err == nil {
		t.Error("an order was drawn for less than nothing")
	}
}

func FuzzReadNodes(f *testing.F) {
	f.Add("sn,cpu_milli,memory_mib,gpu,model\nn,1,1,1,T4\n")
	f.Add("\ufeffmodel,gpu,memory_mib,cpu_milli,sn\r\n\"T4\",8,1,1,n\r\n")
	f.Add("sn,\"")
	f.Fuzz(func(t *testing.T, text string) {
		nodes, err := ReadNodes(strings.NewReader(text))
		if err != nil {
			return
		}
		for _, n := range nodes {
			if n.Name == "" || n.GPUs < 0 || n.GPUs > mostGPUs || n.CPUMilli < 0 || n.CPUMilli > mostCPU || n.MemoryMiB < 0 || n.GPUs > 0 && n.Model == "" {
				t.Errorf("%+v", n)
			}
		}
	})
}

func FuzzReadPods(f *testing.F) {
	f.Add("name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec\np,1,1,1,500,T4|G2\n")
	f.Add("name,cpu_milli,memory_mib,num_gpu,gpu_milli\np,1,1,0,0\n")
	f.Fuzz(func(t *testing.T, text string) {
		pods, err := ReadPods(strings.NewReader(text))
		if err != nil {
			return
		}
		for _, p := range pods {
			if p.GPUs < 0 || p.GPUs > mostGPUs || p.GPUMilli < 0 || p.GPUMilli > wholeGPU || (p.GPUs > 1 && p.GPUMilli < wholeGPU) || (p.GPUs == 0) != (p.GPUMilli == 0) {
				t.Errorf("%+v", p)
			}
		}
	})
}
