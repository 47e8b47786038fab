package agent

import (
	"context"
	"maps"
	"net"
	"os"
	"runtime"
	"sort"
	"strconv"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/berthd/berth/agent/inventory"
	"github.com/berthd/berth/drivers"
	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/topology"
)

// probeTimeout bounds a driver's Probe.
const probeTimeout = 10 * time.Second

// watch looks at the node every now and then, until ctx ends, and tells the servers of
// changes as they are seen.
func (a *Agent) watch(ctx context.Context) {
	ticker := time.NewTicker(a.cfg.Watch)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			a.look(ctx)
		}
	}
}

// look reads the node's inventory and probes its drivers.
func (a *Agent) look(ctx context.Context) {
	reading := a.inventory.Read(ctx)
	infos := a.probe(ctx)
	if ctx.Err() != nil && a.node.Load() != nil {
		return // what was read may be cut short
	}
	n := a.describe(reading, infos)
	a.nodeMu.Lock()
	defer a.nodeMu.Unlock()
	a.addOwn(n)
	a.publish(n)
}

// assemble publishes the node anew with what the agent itself knows of it.
func (a *Agent) assemble() {
	a.nodeMu.Lock()
	defer a.nodeMu.Unlock()
	n := proto.CloneOf(a.node.Load())
	a.addOwn(n)
	a.publish(n)
}

// publish is called with nodeMu held.
func (a *Agent) publish(n *berthv1.Node) {
	old := a.node.Swap(n)
	a.mu.Lock()
	client := a.client
	a.mu.Unlock()
	if old != nil && client != nil && !proto.Equal(old, n) {
		a.log.Info("the node has changed", "what", changedWords(old, n))
		client.NodeChanged()
	}
}

// changedWords names what differs between two looks at the node.
func changedWords(old, n *berthv1.Node) []string {
	var words []string
	if !proto.Equal(old.GetHardware(), n.GetHardware()) {
		words = append(words, "hardware")
	}
	for _, d := range n.GetDrivers() {
		for _, o := range old.GetDrivers() {
			if o.GetName() == d.GetName() && !proto.Equal(o, d) {
				words = append(words, "driver "+d.GetName()+": "+d.GetMessage())
			}
		}
	}
	for k, v := range n.GetAttributes() {
		if old.GetAttributes()[k] != v {
			words = append(words, k)
		}
	}
	for k := range old.GetAttributes() {
		if _, ok := n.GetAttributes()[k]; !ok {
			words = append(words, k)
		}
	}
	sort.Strings(words)
	return words
}

// describe makes the node of what was read, found and configured.
func (a *Agent) describe(r *inventory.Reading, infos []*berthv1.DriverInfo) *berthv1.Node {
	n := &berthv1.Node{
		Id: a.store.NodeID(), Name: a.cfg.Name, Pool: a.cfg.Pool, Arch: r.Arch,
		Attributes: maps.Clone(r.Attributes),
		Hardware:   r.Hardware, Drivers: infos,
		Address: a.cfg.Address, MinPort: a.cfg.MinPort, MaxPort: a.cfg.MaxPort, ReservedPorts: a.cfg.Reserved.Ports,
		Version: a.cfg.Version, BootId: r.BootID,
	}
	if n.Name == "" {
		n.Name = r.Hostname
	}
	if n.Name == "" {
		n.Name, _ = os.Hostname()
	}
	if n.Arch == "" {
		n.Arch = runtime.GOARCH
	}
	if n.Address == "" {
		n.Address = defaultAddress(n.GetHardware().GetNics())
	}
	reserve(n.Hardware, a.cfg.Reserved)
	for _, d := range infos {
		prefix := "driver." + d.GetName()
		n.Attributes[prefix] = strconv.FormatBool(d.GetHealthy())
		if d.GetVersion() != "" {
			n.Attributes[prefix+".version"] = d.GetVersion()
		}
		for k, v := range d.GetAttributes() {
			n.Attributes[prefix+"."+k] = v
		}
	}
	return n
}

// addOwn adds what the agent is configured with and has noticed itself.
func (a *Agent) addOwn(n *berthv1.Node) {
	w := a.words.Load()
	n.Meta, n.Taints = w.meta, w.taints
	delete(n.Attributes, inventory.AttrClockSkew)
	if ahead, wrong := a.clock.skew(); wrong {
		n.Attributes[inventory.AttrClockSkew] = ahead.String()
	}
	n.Attributes[inventory.AttrAgentVersion] = a.cfg.Version
	delete(n.Attributes, inventory.AttrDNSAddress)
	if address := a.dnsAddress.Load(); address != nil && *address != "" {
		n.Attributes[inventory.AttrDNSAddress] = *address
	}
	if a.cfg.Region != "" {
		n.Attributes[inventory.AttrRegion] = a.cfg.Region
	}
}

// reserve takes what is kept for the system off what is given out: CPUs where they are,
// memory from the cells in proportion to theirs.
func reserve(hw *berthv1.Hardware, r Reserved) {
	reserved, _ := topology.ParseCPUSet(r.CPUs) // checked before
	var total uint64
	for _, c := range hw.GetCells() {
		total += c.GetMemoryMib()
	}
	left := r.MemoryMiB
	for i, c := range hw.GetCells() {
		var cpus topology.CPUSet
		for _, core := range c.GetCores() {
			if set, err := topology.ParseCPUSet(core); err == nil {
				cpus.AddAll(set)
			}
		}
		c.ReservedCpus = cpus.Intersect(reserved).String()
		part := left
		if total > 0 && i < len(hw.GetCells())-1 {
			part = min(left, r.MemoryMiB*c.GetMemoryMib()/total)
		}
		c.ReservedMemoryMib = min(c.GetMemoryMib(), c.GetReservedMemoryMib()+part)
		left -= part
	}
	hw.DiskMib -= min(hw.DiskMib, r.DiskMiB)
}

// probe asks every driver how it is, at the same time.
func (a *Agent) probe(ctx context.Context) []*berthv1.DriverInfo {
	infos := make([]*berthv1.DriverInfo, len(a.cfg.Drivers))
	var wg sync.WaitGroup
	for i, d := range a.cfg.Drivers {
		wg.Go(func() { infos[i] = probeOne(ctx, d) })
	}
	wg.Wait()
	sort.Slice(infos, func(i, j int) bool { return infos[i].GetName() < infos[j].GetName() })
	return infos
}

func probeOne(ctx context.Context, d drivers.Driver) *berthv1.DriverInfo {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	info, err := d.Probe(ctx)
	if err != nil {
		info = &berthv1.DriverInfo{Message: problem.From(err).Error()}
	} else {
		info = proto.CloneOf(info)
	}
	who := d.Info()
	info.Name = who.Name
	if info.Version == "" {
		info.Version = who.Version
	}
	if len(info.GetCapabilities()) == 0 {
		for _, c := range who.Capabilities {
			info.Capabilities = append(info.Capabilities, string(c))
		}
	}
	return info
}

// defaultAddress is the address that packets to elsewhere would come from, else the
// first one of a NIC that is up, else loopback. Nothing is sent.
func defaultAddress(nics []*berthv1.Nic) string {
	for _, target := range []string{"192.0.2.1:9", "[2001:db8::1]:9"} {
		conn, err := net.Dial("udp", target)
		if err != nil {
			continue
		}
		ip := conn.LocalAddr().(*net.UDPAddr).IP
		conn.Close()
		if !ip.IsLoopback() && !ip.IsUnspecified() {
			return ip.String()
		}
	}
	for _, nic := range nics {
		for _, addr := range nic.GetAddresses() {
			ip, _, err := net.ParseCIDR(addr)
			if err == nil && nic.GetUp() && ip.IsGlobalUnicast() {
				return ip.String()
			}
		}
	}
	return "127.0.0.1"
}
