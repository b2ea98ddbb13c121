package wan

import (
	"container/heap"
	"encoding/binary"
	"net/netip"
	"time"
)

// maxPacket is the largest packet that a device may hand over.
const maxPacket = 64 << 10

// A packet is one IP packet on its way.
type packet struct {
	data     []byte
	from, to *Site
	way      [3]*Line // uplink, path, downlink
	hop      int      // the line it is on; len(way) when past them all

	queued bool      // at is when it leaves the queue, not when it arrives
	at     time.Time // when something happens to it next
	seq    uint64    // breaks ties of at: first come, first served
}

// newPacket returns a packet with a copy of data; give it back with free.
func (n *Network) newPacket(data []byte) *packet {
	p, _ := n.spare.Get().(*packet)
	if p == nil {
		p = new(packet)
	}
	*p = packet{data: append(p.data[:0], data...)}
	return p
}

func (n *Network) free(p *packet) { n.spare.Put(p) }

// advance does what is due for p, and reports whether it has arrived at its site.
func (p *packet) advance() bool {
	if p.hop == len(p.way) {
		return true
	}
	l := p.way[p.hop]
	switch {
	case p.queued:
		l.sent(p.at)
		return false
	case l.cut:
		l.drop(p, func(c *Counters) *uint64 { return &c.Cut })
		return false
	}
	if p.hop != 1 {
		l.counters.pass(p)
	}
	p.hop++
	if p.hop == len(p.way) {
		p.way[1].counters.pass(p)
		return true
	}
	p.way[p.hop].enter(p, p.at)
	return false
}

func (c *Counters) pass(p *packet) {
	c.Packets++
	c.Bytes += uint64(len(p.data))
}

// A schedule holds packets by when something happens to them next.
type schedule []*packet

func (s schedule) Len() int      { return len(s) }
func (s schedule) Swap(i, j int) { s[i], s[j] = s[j], s[i] }
func (s *schedule) Push(p any)   { *s = append(*s, p.(*packet)) }
func (s schedule) Less(i, j int) bool {
	if s[i].at.Equal(s[j].at) {
		return s[i].seq < s[j].seq
	}
	return s[i].at.Before(s[j].at)
}

func (s *schedule) Pop() any {
	last := len(*s) - 1
	p := (*s)[last]
	(*s)[last] = nil
	*s = (*s)[:last]
	return p
}

func (s schedule) first() *packet {
	if len(s) == 0 {
		return nil
	}
	return s[0]
}

func (n *Network) schedule(p *packet, at time.Time) {
	n.sent++
	p.at, p.seq = at, n.sent
	heap.Push(&n.due, p)
}

const (
	header4 = 20
	header6 = 40
)

// destination returns where an IP packet wants to go.
func destination(b []byte) (netip.Addr, bool) {
	switch {
	case len(b) >= header4 && b[0]>>4 == 4:
		return netip.AddrFrom4([4]byte(b[16:20])), true
	case len(b) >= header6 && b[0]>>4 == 6:
		return netip.AddrFrom16([16]byte(b[24:40])), true
	}
	return netip.Addr{}, false
}

// The addresses that ICMP messages of the network itself come from.
var (
	router4 = netip.MustParseAddr("11.255.255.254")
	router6 = netip.MustParseAddr("2b00:ffff::fe")
)

// packetTooBig returns the ICMP message that tells the sender of b that mtu is
// the limit (RFC 792 and 1191; RFC 4443), or nil if there is none to send: b is not
// IP, or a router might have cut it into fragments, which this network does not.
func packetTooBig(b []byte, mtu int) []byte {
	switch {
	case len(b) >= header4 && b[0]>>4 == 4 && b[6]&0x40 != 0:
		return tooBig4(b, mtu)
	case len(b) >= header6 && b[0]>>4 == 6:
		return tooBig6(b, mtu)
	}
	return nil
}

func tooBig4(b []byte, mtu int) []byte {
	quote := b[:min(len(b), 548)] // with the headers at most 576 bytes
	m := make([]byte, header4+8+len(quote))
	m[0], m[8], m[9] = 0x45, 64, 1 // version and length, TTL, ICMP
	binary.BigEndian.PutUint16(m[2:], uint16(len(m)))
	copy(m[12:16], router4.AsSlice())
	copy(m[16:20], b[12:16])
	binary.BigEndian.PutUint16(m[10:], checksum(0, m[:header4]))
	icmp := m[header4:]
	icmp[0], icmp[1] = 3, 4 // unreachable: fragmentation needed
	binary.BigEndian.PutUint16(icmp[6:], uint16(mtu))
	copy(icmp[8:], quote)
	binary.BigEndian.PutUint16(icmp[2:], checksum(0, icmp))
	return m
}

func tooBig6(b []byte, mtu int) []byte {
	quote := b[:min(len(b), 1280-header6-8)]
	m := make([]byte, header6+8+len(quote))
	m[0], m[6], m[7] = 0x60, 58, 64 // version, ICMPv6, hop limit
	binary.BigEndian.PutUint16(m[4:], uint16(8+len(quote)))
	copy(m[8:24], router6.AsSlice())
	copy(m[24:40], b[8:24])
	icmp := m[header6:]
	icmp[0] = 2 // packet too big
	binary.BigEndian.PutUint32(icmp[4:], uint32(mtu))
	copy(icmp[8:], quote)
	pseudo := uint32(len(icmp)) + 58 + sum(m[8:40])
	binary.BigEndian.PutUint16(icmp[2:], checksum(pseudo, icmp))
	return m
}

func checksum(start uint32, b []byte) uint16 {
	s := start + sum(b)
	for s > 0xffff {
		s = s>>16 + s&0xffff
	}
	return ^uint16(s)
}

// sum adds up b as 16-bit numbers; b is at most a few thousand bytes.
func sum(b []byte) uint32 {
	var s uint32
	for len(b) >= 2 {
		s += uint32(binary.BigEndian.Uint16(b))
		b = b[2:]
	}
	if len(b) == 1 {
		s += uint32(b[0]) << 8
	}
	return s
}
