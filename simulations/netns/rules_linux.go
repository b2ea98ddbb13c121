package netns

import "strings"

// quiet are the kernel parameters of every namespace: no second of asking
// whether somebody else has the same IPv6 address, for none has.
var quiet = []string{
	"net/ipv6/conf/all/accept_dad=0",
	"net/ipv6/conf/default/accept_dad=0",
}

// routing are those of a router. The machine's own, which a new namespace takes
// over, may differ.
var routing = []string{
	"net/ipv4/ip_forward=1",
	"net/ipv6/conf/all/forwarding=1",
	"net/ipv4/conf/all/rp_filter=0",
	"net/ipv4/conf/default/rp_filter=0",
	"net/bridge/bridge-nf-call-iptables=0", // rules are for what is routed, not for the LAN
	"net/bridge/bridge-nf-call-ip6tables=0",
}

// rules returns the nftables rules of a site's router.
//
// A router with NAT must drop what comes in unasked rather than refuse it. A
// packet that its input chain accepts becomes a connection of the router, and
// that would take the port away from the host that is about to punch a hole
// from the inside, which no router that people buy does.
func (k NAT) rules() string {
	switch k {
	case Public:
		return fill("accept", "", "")
	case Symmetric:
		return fill("drop", "", nat("masquerade fully-random"))
	}
	return fill("drop", "", nat("masquerade"))
}

// carrierRules returns the rules of a provider's router: customers share an IPv4
// address; IPv6 passes as it is.
func carrierRules() string {
	return fill("drop", "meta nfproto ipv6 accept", nat("masquerade fully-random"))
}

func fill(policy, pass, nat string) string {
	return strings.NewReplacer("POLICY", policy, "PASS", pass, "NAT", nat).Replace(table)
}

// table is what all routers have. Interface "wan" leads out, "lan" in.
const table = `
table inet lab {
	set noudp4 { type ipv4_addr; }
	set noudp6 { type ipv6_addr; }
	chain through {
		type filter hook forward priority filter; policy POLICY;
		meta l4proto udp ip saddr @noudp4 drop
		meta l4proto udp ip daddr @noudp4 drop
		meta l4proto udp ip6 saddr @noudp6 drop
		meta l4proto udp ip6 daddr @noudp6 drop
		ct state established,related accept
		ct status dnat accept
		iifname "lan" accept
		PASS
	}
	chain here {
		type filter hook input priority filter; policy drop;
		iifname { "lo", "lan" } accept
		ct state established,related accept
		icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept
	}
	NAT
}
`

// nat is what routers with NAT have besides.
func nat(how string) string {
	return `
	chain arriving {
		type nat hook prerouting priority dstnat;
	}
	chain leaving {
		type nat hook postrouting priority srcnat;
		meta nfproto ipv4 oifname "wan" ` + how + `
	}
`
}
