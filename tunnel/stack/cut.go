package stack

import (
	"encoding/binary"

	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

const (
	ipLen      = header.IPv6MinimumSize
	tcpLen     = header.TCPMinimumSize
	maxHeaders = ipLen + header.TCPHeaderMaximumSize
)

// A cutter holds one packet of the stack and gives it out in pieces that fit
// the link. Only TCP packets are ever larger than that.
type cutter struct {
	packet  *stack.PacketBuffer // nil: nothing left
	headers [maxHeaders]byte    // IPv6, and TCP if it is TCP
	length  int                 // of headers
	pieces  [][]byte            // of the payload that follows headers
	left    int                 // bytes in pieces
	mss     int                 // most payload bytes in a piece; 0: do not cut
	partial bool                // the TCP checksum must be computed
	seq     uint32              // of the next piece
	flags   header.TCPFlags
	sum     uint16 // of both addresses, as programs see them
	src     Mark
	dst     Mark
}

func (c *cutter) empty() bool { return c.packet == nil }

// begin takes over p; it reports false for what is not IPv6.
func (c *cutter) begin(p *stack.PacketBuffer) bool {
	*c = cutter{packet: p, pieces: p.AsSlices(), left: p.Size()}
	if c.left < ipLen {
		c.drop()
		return false
	}
	c.take(c.headers[:ipLen])
	c.length = ipLen
	c.sum = checksum.Checksum(c.headers[8:ipLen], 0)
	if c.headers[6] != uint8(header.TCPProtocolNumber) || c.left < tcpLen {
		return true
	}
	tcp := header.TCP(c.headers[ipLen:])
	c.take(tcp[:tcpLen])
	options := max(int(tcp.DataOffset())-tcpLen, 0)
	c.take(tcp[tcpLen : tcpLen+min(options, c.left)])
	c.length = ipLen + tcpLen + options
	c.seq, c.flags = tcp.SequenceNumber(), tcp.Flags()
	c.partial = p.GSOOptions.NeedsCsum
	if p.GSOOptions.Type != stack.GSONone && c.left > int(p.GSOOptions.MSS) {
		c.mss = int(p.GSOOptions.MSS)
	}
	return true
}

// take moves the next len(dst) bytes of the payload to dst.
func (c *cutter) take(dst []byte) {
	c.left -= len(dst)
	for len(dst) > 0 {
		n := copy(dst, c.pieces[0])
		dst = dst[n:]
		if c.pieces[0] = c.pieces[0][n:]; len(c.pieces[0]) == 0 {
			c.pieces = c.pieces[1:]
		}
	}
}

func (c *cutter) drop() {
	c.packet.DecRef()
	c.packet, c.pieces = nil, nil
}

func (c *cutter) setMarks(src, dst Mark) { c.src, c.dst = src, dst }

// fit makes what the other end will send fit the link, and reports whether
// this packet does.
func (c *cutter) fit(mtu int) bool {
	if c.flags.Contains(header.TCPFlagSyn) && clampMSS(c.headers[:c.length], mtu) {
		c.partial = true
	}
	payload := c.left
	if c.mss > 0 {
		payload = c.mss
	}
	return c.length+payload <= mtu
}

// next writes the next packet to dst and returns its length.
func (c *cutter) next(dst []byte) int {
	payload := c.left
	if c.mss > 0 {
		payload = min(payload, c.mss)
	}
	n := c.length + payload
	copy(dst, c.headers[:c.length])
	c.take(dst[c.length:n])
	binary.BigEndian.PutUint16(dst[4:], uint16(n-ipLen))
	if c.length > ipLen {
		c.finish(header.TCP(dst[ipLen:n]), uint32(payload))
	}
	binary.BigEndian.PutUint16(dst[8+markAt:], uint16(c.src))
	binary.BigEndian.PutUint16(dst[24+markAt:], uint16(c.dst))
	if c.left == 0 {
		c.drop()
	}
	return n
}

// finish sets what differs from piece to piece of a TCP packet. The sum is of
// the addresses without marks, which the other end restores.
func (c *cutter) finish(tcp header.TCP, payload uint32) {
	if c.mss > 0 {
		tcp.SetSequenceNumber(c.seq)
		c.seq += payload
		if c.left > 0 {
			tcp.SetFlags(uint8(c.flags &^ (header.TCPFlagFin | header.TCPFlagPsh)))
		}
	}
	if c.mss > 0 || c.partial {
		tcp.SetChecksum(0)
		sum := checksum.Combine(c.sum, uint16(len(tcp)))
		sum = checksum.Combine(sum, uint16(header.TCPProtocolNumber))
		tcp.SetChecksum(^checksum.Checksum(tcp, sum))
	}
}

// clampMSS lowers the segment size that a SYN offers, if it is too much for
// the link, and reports whether it did. The checksum is then wrong.
func clampMSS(p []byte, mtu int) bool {
	if len(p) < ipLen+tcpLen || p[6] != uint8(header.TCPProtocolNumber) || header.TCPFlags(p[ipLen+13])&header.TCPFlagSyn == 0 {
		return false
	}
	tcp := header.TCP(p[ipLen:])
	options := p[ipLen+tcpLen : max(ipLen+tcpLen, min(len(p), ipLen+int(tcp.DataOffset())))]
	for len(options) >= 2 {
		kind, size := options[0], int(options[1])
		switch {
		case kind == header.TCPOptionEOL:
			return false
		case kind == header.TCPOptionNOP:
			options = options[1:]
			continue
		case size < 2 || size > len(options):
			return false
		case kind == header.TCPOptionMSS && size == header.TCPOptionMSSLength:
			if int(binary.BigEndian.Uint16(options[2:])) <= mtu-ipLen-tcpLen {
				return false
			}
			binary.BigEndian.PutUint16(options[2:], uint16(mtu-ipLen-tcpLen))
			return true
		}
		options = options[size:]
	}
	return false
}
