package cloudinit

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"

	"github.com/berthd/berth/problem"
)

// network is a network-config of version 2, as far as a config drive can say the same. On
// NoCloud the guest gets all that was written.
type network struct {
	Version   int                 `yaml:"version"`
	Ethernets map[string]ethernet `yaml:"ethernets"`
}

type ethernet struct {
	Match struct {
		MAC string `yaml:"macaddress"`
	} `yaml:"match"`
	DHCP4       bool     `yaml:"dhcp4"`
	DHCP6       bool     `yaml:"dhcp6"`
	Addresses   []string `yaml:"addresses"`
	Gateway4    string   `yaml:"gateway4"`
	Gateway6    string   `yaml:"gateway6"`
	MTU         int      `yaml:"mtu"`
	Nameservers struct {
		Addresses []string `yaml:"addresses"`
	} `yaml:"nameservers"`
	Routes []struct {
		To  string `yaml:"to"`
		Via string `yaml:"via"`
	} `yaml:"routes"`
}

// parseNetwork reads a network-config, whose values may stand below a key "network". With
// strict, keys that are not known here are errors.
func parseNetwork(text string, strict bool) (*network, error) {
	var options []yaml.DecodeOption
	if strict {
		options = append(options, yaml.Strict())
	}
	var outer struct {
		Network *network `yaml:"network"`
	}
	n := &network{}
	err := yaml.Unmarshal([]byte(text), &outer)
	switch {
	case err == nil && outer.Network != nil:
		err = yaml.UnmarshalWithOptions([]byte(text), &outer, options...)
		n = outer.Network
	case err == nil:
		err = yaml.UnmarshalWithOptions([]byte(text), n, options...)
	}
	if err != nil {
		return nil, problem.New(problem.Invalid, "network_config", "%s", yaml.FormatError(err, false, false))
	}
	if n.Version != 2 {
		return nil, problem.New(problem.Invalid, "network_config", "its version is %d, not 2", n.Version)
	}
	return n, nil
}

// openstackNetwork gives text in the form of a config drive's network_data.json.
func openstackNetwork(text string) (map[string]any, error) {
	if _, err := parseNetwork(text, false); err != nil {
		return nil, err
	}
	cannot := func(why string) error {
		return problem.New(problem.Unsupported, "network_config", "a config drive cannot say it: %s", why).
			WithRemedy(`use datasource = "nocloud", or configure it by user_data`)
	}
	n, err := parseNetwork(text, true)
	if err != nil {
		return nil, cannot(problem.From(err).Reason)
	}
	links, networks, services := []any{}, []any{}, []any{}
	for _, name := range slices.Sorted(maps.Keys(n.Ethernets)) {
		e := n.Ethernets[name]
		if e.Match.MAC == "" {
			return nil, cannot(name + " has no match: {macaddress: ...}")
		}
		link := map[string]any{"id": name, "type": "phy", "ethernet_mac_address": strings.ToLower(e.Match.MAC)}
		if e.MTU > 0 {
			link["mtu"] = e.MTU
		}
		links = append(links, link)
		own, err := e.networks(name)
		if err != nil {
			return nil, err
		}
		networks = append(networks, own...)
		for _, a := range e.Nameservers.Addresses {
			services = append(services, map[string]any{"type": "dns", "address": a})
		}
	}
	return map[string]any{"links": links, "networks": networks, "services": services}, nil
}

// networks are one for DHCP of each family, and one for each address.
func (e *ethernet) networks(link string) ([]any, error) {
	var list []any
	add := func(kind string, more map[string]any) {
		m := map[string]any{"id": fmt.Sprintf("%s-%d", link, len(list)), "link": link, "type": kind}
		maps.Copy(m, more)
		list = append(list, m)
	}
	if e.DHCP4 {
		add("ipv4_dhcp", nil)
	}
	if e.DHCP6 {
		add("ipv6_dhcp", nil)
	}
	for _, a := range e.Addresses {
		p, err := netip.ParsePrefix(a)
		if err != nil {
			return nil, problem.New(problem.Invalid, "network_config", "%q of %s is no address with the length of its prefix", a, link)
		}
		kind, length := "ipv4", 32
		if p.Addr().Is6() {
			kind, length = "ipv6", 128
		}
		routes, err := e.routes(p.Addr().Is6())
		if err != nil {
			return nil, err
		}
		add(kind, map[string]any{"ip_address": p.Addr().String(), "netmask": mask(p.Bits(), length), "routes": routes})
	}
	return list, nil
}

// routes are those of one family of addresses.
func (e *ethernet) routes(six bool) ([]any, error) {
	routes := []any{}
	add := func(to netip.Prefix, via string) {
		routes = append(routes, map[string]any{"network": to.Addr().String(), "netmask": mask(to.Bits(), to.Addr().BitLen()), "gateway": via})
	}
	everywhere := netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	gateway := e.Gateway4
	if six {
		everywhere, gateway = netip.PrefixFrom(netip.IPv6Unspecified(), 0), e.Gateway6
	}
	if gateway != "" {
		add(everywhere, gateway)
	}
	for _, r := range e.Routes {
		via, err := netip.ParseAddr(r.Via)
		if err != nil {
			return nil, problem.New(problem.Invalid, "network_config", "%q is no address to route by", r.Via)
		}
		if via.Is6() != six {
			continue
		}
		to := everywhere
		if r.To != "default" {
			if to, err = netip.ParsePrefix(r.To); err != nil {
				return nil, problem.New(problem.Invalid, "network_config", "%q is no network to route to", r.To)
			}
		}
		add(to, r.Via)
	}
	return routes, nil
}

// mask is a netmask in full.
func mask(bits, length int) string {
	b := make([]byte, length/8)
	for i := range bits {
		b[i/8] |= 0x80 >> (i % 8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a.String()
}
