package dns

import (
	"context"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"

	"github.com/miekg/dns"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// answer is what is said to a question.
type answer struct {
	rcode  int
	answer []dns.RR
	extra  []dns.RR
}

// answer finds what there is to say. Only ready instances are given.
func (s *Server) answer(ctx context.Context, q dns.Question) answer {
	n := parse(q.Name, s.cfg.Region)
	var topic *berthv1.Topic
	switch n.kind {
	case outside:
		return answer{rcode: dns.RcodeRefused}
	case nothing:
		return answer{rcode: dns.RcodeNameError}
	case apex:
		return s.apex(q)
	case serverName:
		return s.itself(q)
	case addressName:
		return answer{answer: s.addresses(q, []netip.Addr{n.address})}
	case serviceName:
		topic = berthv1.ServiceTopic(n.namespace, n.service)
	case nodeName:
		topic = berthv1.NodeTopic(n.node)
	case reverseName:
		topic = berthv1.AddressTopic(n.address.String())
	}
	known, err := s.cfg.Catalog.Lookup(ctx, topic)
	if err != nil {
		return answer{rcode: dns.RcodeServerFailure}
	}
	switch n.kind {
	case serviceName:
		return s.service(q, n, known.GetInstances())
	case nodeName:
		return s.node(q, known)
	}
	return s.reverse(q, known)
}

func (s *Server) apex(q dns.Question) answer {
	switch q.Qtype {
	case dns.TypeSOA:
		return answer{answer: []dns.RR{s.soa()}}
	case dns.TypeNS:
		return answer{answer: []dns.RR{&dns.NS{Hdr: s.header(zone, dns.TypeNS), Ns: nameserver}}}
	}
	return answer{}
}

// itself answers for the name of the responder, where it has one address.
func (s *Server) itself(q dns.Question) answer {
	at, err := netip.ParseAddrPort(s.cfg.Address)
	if err != nil || at.Addr().IsUnspecified() {
		return answer{}
	}
	return answer{answer: s.addresses(q, []netip.Addr{at.Addr()})}
}

// service answers for the instances of a service: those with the tag, where one was
// asked for. A name that no instance has does not exist; one whose instances are not
// ready exists and has nothing.
func (s *Server) service(q dns.Question, n name, instances []*berthv1.ServiceInstance) answer {
	if n.tag != "" {
		instances = slices.DeleteFunc(slices.Clone(instances), func(i *berthv1.ServiceInstance) bool {
			return !slices.ContainsFunc(i.GetTags(), func(tag string) bool { return strings.EqualFold(tag, n.tag) })
		})
	}
	if len(instances) == 0 {
		return answer{rcode: dns.RcodeNameError}
	}
	var ready []*berthv1.ServiceInstance
	var at []netip.Addr
	for _, i := range instances {
		if a, err := netip.ParseAddr(i.GetAddress()); err == nil && i.GetReady() {
			ready, at = append(ready, i), append(at, a)
		}
	}
	if q.Qtype == dns.TypeSRV {
		return s.ports(q, ready, at)
	}
	slices.SortFunc(at, netip.Addr.Compare)
	return answer{answer: s.addresses(q, slices.Compact(at))}
}

// ports are the SRV records of instances, in random order, with their addresses.
func (s *Server) ports(q dns.Question, instances []*berthv1.ServiceInstance, at []netip.Addr) (a answer) {
	told := map[netip.Addr]bool{}
	for _, i := range rand.Perm(len(instances)) {
		if instances[i].GetPort() == 0 {
			continue
		}
		target := targetOf(at[i])
		a.answer = append(a.answer, &dns.SRV{Hdr: s.header(q.Name, dns.TypeSRV), Priority: 1, Weight: 1, Port: uint16(instances[i].GetPort()), Target: target})
		if !told[at[i]] {
			told[at[i]] = true
			a.extra = append(a.extra, s.address(target, at[i]))
		}
	}
	return a
}

func (s *Server) node(q dns.Question, known *berthv1.Known) answer {
	at, err := netip.ParseAddr(known.GetNodeAddress())
	switch {
	case known.GetNodeName() == "":
		return answer{rcode: dns.RcodeNameError}
	case err != nil:
		return answer{}
	}
	return answer{answer: s.addresses(q, []netip.Addr{at})}
}

// reverse names the node with an address, and the services there. An address that nobody
// has is not ours to speak of.
func (s *Server) reverse(q dns.Question, known *berthv1.Known) answer {
	var names []string
	if known.GetNodeName() != "" {
		names = append(names, known.GetNodeName()+".node."+zone)
	}
	for _, i := range known.GetInstances() {
		if name := i.GetService() + "." + i.GetNamespace() + "." + zone; i.GetReady() && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return answer{rcode: dns.RcodeRefused}
	}
	if q.Qtype != dns.TypePTR && q.Qtype != dns.TypeANY {
		return answer{}
	}
	var a answer
	for _, name := range names {
		a.answer = append(a.answer, &dns.PTR{Hdr: s.header(q.Name, dns.TypePTR), Ptr: dns.Fqdn(name)})
	}
	return a
}

// addresses are the records of the asked type, in random order.
func (s *Server) addresses(q dns.Question, at []netip.Addr) []dns.RR {
	var records []dns.RR
	for _, i := range rand.Perm(len(at)) {
		is4 := at[i].Unmap().Is4()
		if q.Qtype == dns.TypeANY || q.Qtype == dns.TypeA && is4 || q.Qtype == dns.TypeAAAA && !is4 {
			records = append(records, s.address(q.Name, at[i]))
		}
	}
	return records
}

func (s *Server) address(owner string, a netip.Addr) dns.RR {
	if a = a.Unmap(); a.Is4() {
		return &dns.A{Hdr: s.header(owner, dns.TypeA), A: a.AsSlice()}
	}
	return &dns.AAAA{Hdr: s.header(owner, dns.TypeAAAA), AAAA: a.AsSlice()}
}

func (s *Server) header(owner string, t uint16) dns.RR_Header {
	return dns.RR_Header{Name: owner, Rrtype: t, Class: dns.ClassINET, Ttl: uint32(s.cfg.TTL.Seconds())}
}

// nameserver is this responder; every agent is one.
const nameserver = "ns." + zone

// soa goes with answers that have nothing: they may be kept as long as others (RFC 2308).
func (s *Server) soa() dns.RR {
	ttl := uint32(s.cfg.TTL.Seconds())
	h := s.header(zone, dns.TypeSOA)
	return &dns.SOA{Hdr: h, Ns: nameserver, Mbox: "hostmaster." + zone, Serial: 1, Refresh: 3600, Retry: 600, Expire: 86400, Minttl: ttl}
}
