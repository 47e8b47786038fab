package dns

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// cluster is a catalog that knows a few things by their topics' keys.
type cluster map[string]*berthv1.Known

func (c cluster) Lookup(ctx context.Context, topic *berthv1.Topic) (*berthv1.Known, error) {
	if topic.Key() == "service:default/late" {
		return nil, errors.New("nobody says anything")
	}
	if k := c[topic.Key()]; k != nil {
		return k, nil
	}
	return &berthv1.Known{Topic: topic}, nil
}

func instance(address string, port uint32, ready bool, tags ...string) *berthv1.ServiceInstance {
	return &berthv1.ServiceInstance{Namespace: "default", Service: "web", Address: address, Port: port, Ready: ready, Tags: tags}
}

func testCluster() cluster {
	c := cluster{
		"service:default/web": {Instances: []*berthv1.ServiceInstance{
			instance("10.0.0.7", 80, true, "blue"), instance("10.0.0.7", 81, true), instance("10.0.0.8", 80, false, "blue"), instance("fd00::1", 80, true, "green"),
		}},
		"service:default/down":   {Instances: []*berthv1.ServiceInstance{instance("10.0.0.7", 80, false)}},
		"service:default/nohost": {Instances: []*berthv1.ServiceInstance{instance("host.example", 80, true)}},
		"node:n7":                {NodeName: "n7", NodeAddress: "10.0.0.7"},
		"address:10.0.0.7":       {NodeName: "n7", Instances: []*berthv1.ServiceInstance{instance("10.0.0.7", 80, true)}},
		"address:fd00::1":        {NodeName: "n9"},
	}
	many := &berthv1.Known{}
	for i := range 500 {
		many.Instances = append(many.Instances, instance(fmt.Sprintf("10.1.%d.%d", i/250, i%250), 80, true))
	}
	c["service:default/many"] = many
	return c
}

func serve(t *testing.T) string {
	t.Helper()
	listening := make(chan string, 2)
	s := New(Config{
		Address: "127.0.0.1:0", Region: "EU", TTL: time.Second, Catalog: testCluster(), Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
		Listening: func(address string) { listening <- address },
	})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if address := <-listening; address != "" {
			t.Errorf("it still listens on %s", address)
		}
	})
	return <-listening
}

// said is an answer in a line.
func said(m *dns.Msg) string {
	var words []string
	for _, rr := range m.Answer {
		switch rr := rr.(type) {
		case *dns.A:
			words = append(words, rr.A.String())
		case *dns.AAAA:
			words = append(words, rr.AAAA.String())
		case *dns.SRV:
			words = append(words, fmt.Sprintf("%d@%s", rr.Port, rr.Target))
		case *dns.PTR:
			words = append(words, rr.Ptr)
		case *dns.SOA:
			words = append(words, rr.Mbox)
		case *dns.NS:
			words = append(words, rr.Ns)
		}
	}
	slices.Sort(words)
	line := dns.RcodeToString[m.Rcode] + " " + strings.Join(words, " ")
	if m.Authoritative && len(m.Answer) == 0 && len(m.Ns) != 1 {
		line += " (nobody says how long that holds)"
	}
	return strings.TrimSpace(line)
}

func TestAnswers(t *testing.T) {
	address := serve(t)
	for _, tt := range []struct {
		name string
		typ  uint16
		want string
	}{
		{"web.default.berth.", dns.TypeA, "NOERROR 10.0.0.7"},
		{"WEB.Default.BERTH.", dns.TypeA, "NOERROR 10.0.0.7"},
		{"web.default.eu.berth.", dns.TypeA, "NOERROR 10.0.0.7"},
		{"blue.web.default.eu.berth.", dns.TypeA, "NOERROR 10.0.0.7"},
		{"_web._tcp.default.eu.berth.", dns.TypeSRV, "NOERROR 80@0a000007.addr.berth. 80@fd000000000000000000000000000001.addr.berth. 81@0a000007.addr.berth."},
		{"n7.node.eu.berth.", dns.TypeA, "NOERROR 10.0.0.7"},
		{"web.default.us.berth.", dns.TypeA, "NXDOMAIN"},
		{"default.eu.berth.", dns.TypeA, "NXDOMAIN"},
		{"ns.berth.", dns.TypeA, "NOERROR 127.0.0.1"},
		{"ns.berth.", dns.TypeAAAA, "NOERROR"},
		{"web.default.berth.", dns.TypeAAAA, "NOERROR fd00::1"},
		{"web.default.berth.", dns.TypeANY, "NOERROR 10.0.0.7 fd00::1"},
		{"web.default.berth.", dns.TypeTXT, "NOERROR"},
		{"blue.web.default.berth.", dns.TypeA, "NOERROR 10.0.0.7"},
		{"green.web.default.berth.", dns.TypeA, "NOERROR"},
		{"red.web.default.berth.", dns.TypeA, "NXDOMAIN"},
		{"web.default.berth.", dns.TypeSRV, "NOERROR 80@0a000007.addr.berth. 80@fd000000000000000000000000000001.addr.berth. 81@0a000007.addr.berth."},
		{"_web._tcp.default.berth.", dns.TypeSRV, "NOERROR 80@0a000007.addr.berth. 80@fd000000000000000000000000000001.addr.berth. 81@0a000007.addr.berth."},
		{"0a000007.addr.berth.", dns.TypeA, "NOERROR 10.0.0.7"},
		{"fd000000000000000000000000000001.addr.berth.", dns.TypeAAAA, "NOERROR fd00::1"},
		{"0a0000.addr.berth.", dns.TypeA, "NXDOMAIN"},
		{"down.default.berth.", dns.TypeA, "NOERROR"},
		{"nohost.default.berth.", dns.TypeA, "NOERROR"},
		{"none.default.berth.", dns.TypeA, "NXDOMAIN"},
		{"late.default.berth.", dns.TypeA, "SERVFAIL"},
		{"n7.node.berth.", dns.TypeA, "NOERROR 10.0.0.7"},
		{"n7.node.berth.", dns.TypeAAAA, "NOERROR"},
		{"n8.node.berth.", dns.TypeA, "NXDOMAIN"},
		{"7.0.0.10.in-addr.arpa.", dns.TypePTR, "NOERROR n7.node.berth. web.default.berth."},
		{"1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa.", dns.TypePTR, "NOERROR n9.node.berth."},
		{"9.0.0.10.in-addr.arpa.", dns.TypePTR, "REFUSED"},
		{"0.10.in-addr.arpa.", dns.TypePTR, "REFUSED"},
		{"berth.", dns.TypeSOA, "NOERROR hostmaster.berth."},
		{"berth.", dns.TypeNS, "NOERROR ns.berth."},
		{"a.b.c.d.berth.", dns.TypeA, "NXDOMAIN"},
		{"example.com.", dns.TypeA, "REFUSED"},
		{"notberth.", dns.TypeA, "REFUSED"},
	} {
		for _, network := range []string{"udp", "tcp"} {
			c := dns.Client{Net: network, Timeout: 10 * time.Second}
			m, _, err := c.Exchange(new(dns.Msg).SetQuestion(tt.name, tt.typ), address)
			if err != nil {
				t.Fatalf("%s %s by %s: %v", tt.name, dns.TypeToString[tt.typ], network, err)
			}
			if got := said(m); got != tt.want {
				t.Errorf("%s %s by %s: %s, want %s", tt.name, dns.TypeToString[tt.typ], network, got, tt.want)
			}
		}
	}
}

func TestSRVBringsAddresses(t *testing.T) {
	m, err := dns.Exchange(new(dns.Msg).SetQuestion("web.default.berth.", dns.TypeSRV), serve(t))
	if err != nil || len(m.Extra) != 2 {
		t.Fatalf("%v, %v", m, err)
	}
}

// What does not fit is cut and says so; TCP has the whole.
func TestLargeAnswers(t *testing.T) {
	address := serve(t)
	for _, tt := range []struct {
		network string
		edns    uint16
		most    int
	}{{"udp", 0, 512}, {"udp", 4096, packet}, {"tcp", 0, dns.MaxMsgSize}} {
		q := new(dns.Msg).SetQuestion("many.default.berth.", dns.TypeA)
		if tt.edns > 0 {
			q.SetEdns0(tt.edns, false)
		}
		c := dns.Client{Net: tt.network, UDPSize: tt.edns}
		m, _, err := c.Exchange(q, address)
		if err != nil {
			t.Fatal(err)
		}
		m.Compress = true // as it was sent
		if whole := len(m.Answer) == 500; whole == m.Truncated || m.Truncated != (tt.network == "udp") || len(m.Answer) == 0 || m.Len() > tt.most {
			t.Errorf("%s with %d: %d answers in %d bytes, truncated %v", tt.network, tt.edns, len(m.Answer), m.Len(), m.Truncated)
		}
	}
}

func TestOddQuestions(t *testing.T) {
	address := serve(t)
	q := new(dns.Msg).SetQuestion("web.default.berth.", dns.TypeA)
	q.Opcode = dns.OpcodeUpdate
	if m, err := dns.Exchange(q, address); err != nil || m.Rcode != dns.RcodeNotImplemented {
		t.Errorf("an update: %v, %v", m, err)
	}
	q = new(dns.Msg).SetQuestion("web.default.berth.", dns.TypeA)
	q.Question[0].Qclass = dns.ClassCHAOS
	if m, err := dns.Exchange(q, address); err != nil || m.Rcode != dns.RcodeRefused {
		t.Errorf("another class: %v, %v", m, err)
	}
	conn, err := net.Dial("udp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for _, garbage := range []string{"x", strings.Repeat("\xff", 600)} {
		if _, err := conn.Write([]byte(garbage)); err != nil {
			t.Error(err)
		}
	}
	if m, err := dns.Exchange(new(dns.Msg).SetQuestion("n7.node.berth.", dns.TypeA), address); err != nil || m.Rcode != 0 {
		t.Errorf("after garbage: %v, %v", m, err)
	}
}

// The resolver of Go, as programs use it.
func TestGoResolves(t *testing.T) {
	address := serve(t)
	r := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, address)
	}}
	found, err := r.LookupNetIP(t.Context(), "ip", "web.default.berth.")
	if err != nil || len(found) != 2 {
		t.Errorf("%v, %v", found, err)
	}
	_, ports, err := r.LookupSRV(t.Context(), "web", "tcp", "default.berth.")
	if err != nil || len(ports) != 3 {
		t.Errorf("%v, %v", ports, err)
	}
	names, err := r.LookupAddr(t.Context(), "10.0.0.7")
	if err != nil || !slices.Contains(names, "n7.node.berth.") {
		t.Errorf("%v, %v", names, err)
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"web.default.berth.", "7.0.0.10.in-addr.arpa.", "0a000007.addr.berth.", "x.ip6.arpa.", "..", ".berth."} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if n := parse(s, "eu"); n.kind == addressName {
			if back := parse(targetOf(n.address), "eu"); back.address != n.address {
				t.Errorf("%s: %v, then %v", s, n.address, back.address)
			}
		}
	})
}

func TestReverseNames(t *testing.T) {
	for _, s := range []string{"10.0.0.7", "fd00::1", "255.1.2.3"} {
		a := netip.MustParseAddr(s)
		arpa, err := dns.ReverseAddr(s)
		if n := parse(arpa, ""); err != nil || n.kind != reverseName || n.address != a {
			t.Errorf("%s: %v, %v", arpa, n, err)
		}
	}
}
