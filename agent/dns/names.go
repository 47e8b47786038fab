package dns

import (
	"encoding/hex"
	"net/netip"
	"strings"

	"github.com/miekg/dns"
)

// zone is where all names live.
const zone = "berth."

// kind is what a name is about.
type kind int

const (
	outside     kind = iota // no name of ours
	nothing                 // in the zone, and nobody's
	apex                    // the zone itself
	serverName              // ns.berth., this responder
	serviceName             // <service>.<namespace>.berth. or <tag>.<service>.<namespace>.berth.
	nodeName                // <node>.node.berth.
	addressName             // <address in hexadecimal>.addr.berth.
	reverseName             // 7.0.0.10.in-addr.arpa.
)

// name is a name that was taken apart.
type name struct {
	kind               kind
	tag                string
	service, namespace string
	node               string
	address            netip.Addr
}

// parse takes a name apart; names know no case. Each name may have the region before the
// zone, where it is a label more: web.default.eu.berth. is web.default.berth. in region eu.
func parse(qname, region string) name {
	qname = strings.ToLower(dns.Fqdn(qname))
	if address, ok := reversed(qname); ok {
		return name{kind: reverseName, address: address}
	}
	if qname == zone {
		return name{kind: apex}
	}
	rest, ours := strings.CutSuffix(qname, "."+zone)
	if !ours {
		return name{kind: outside}
	}
	if rest+"."+zone == nameserver {
		return name{kind: serverName}
	}
	if short, ok := strings.CutSuffix(rest, "."+strings.ToLower(region)); ok && region != "" && strings.Contains(short, ".") {
		rest = short
	}
	if node, ok := strings.CutSuffix(rest, ".node"); ok {
		return name{kind: nodeName, node: node}
	}
	if digits, ok := strings.CutSuffix(rest, ".addr"); ok {
		return addressOf(digits)
	}
	labels := strings.Split(rest, ".")
	switch {
	case len(labels) == 2:
		return name{kind: serviceName, service: labels[0], namespace: labels[1]}
	case len(labels) == 3 && isProtocol(labels[1]) && strings.HasPrefix(labels[0], "_"): // RFC 2782: _web._tcp.default.berth.
		return name{kind: serviceName, service: labels[0][1:], namespace: labels[2]}
	case len(labels) == 3:
		return name{kind: serviceName, tag: labels[0], service: labels[1], namespace: labels[2]}
	}
	return name{kind: nothing}
}

func isProtocol(label string) bool { return label == "_tcp" || label == "_udp" }

func addressOf(digits string) name {
	b, err := hex.DecodeString(digits)
	address, ok := netip.AddrFromSlice(b)
	if err != nil || !ok {
		return name{kind: nothing}
	}
	return name{kind: addressName, address: address}
}

// targetOf is the name of an address, for SRV records.
func targetOf(a netip.Addr) string { return hex.EncodeToString(a.AsSlice()) + ".addr." + zone }

// reversed reads the name under which an address is looked up (RFC 1035 3.5, RFC 3596 2.5).
func reversed(qname string) (netip.Addr, bool) {
	if rest, ok := strings.CutSuffix(qname, ".in-addr.arpa."); ok {
		labels := strings.Split(rest, ".")
		if len(labels) != 4 {
			return netip.Addr{}, false
		}
		a, err := netip.ParseAddr(labels[3] + "." + labels[2] + "." + labels[1] + "." + labels[0])
		return a, err == nil
	}
	rest, ok := strings.CutSuffix(qname, ".ip6.arpa.")
	if !ok || len(rest) != 63 {
		return netip.Addr{}, false
	}
	digits := make([]byte, 0, 32)
	for i := len(rest) - 1; i >= 0; i -= 2 {
		digits = append(digits, rest[i])
		if i > 0 && rest[i-1] != '.' {
			return netip.Addr{}, false
		}
	}
	b, err := hex.DecodeString(string(digits))
	a, ok := netip.AddrFromSlice(b)
	return a, ok && err == nil
}
