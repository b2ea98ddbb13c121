package stack

import (
	"bytes"
	"encoding/binary"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// maxJoined is the largest IPv6 packet without jumbo options.
const maxJoined = ipLen + 65535

// A joiner gives out the packets of a batch, each run of consecutive segments
// of one TCP stream as one packet: TCP then works once per run.
type joiner struct {
	bufs   [][]byte
	offset int // where packets begin in bufs
	at     int
}

// skip leaves bufs[i] out.
func (j *joiner) skip(i int) { j.bufs[i] = j.bufs[i][:j.offset] }

// next returns a copy of the next packet, nil at the end.
func (j *joiner) next() *buffer.View {
	for j.at < len(j.bufs) && len(j.bufs[j.at]) == j.offset {
		j.at++
	}
	if j.at == len(j.bufs) {
		return nil
	}
	first := j.bufs[j.at][j.offset:]
	run := begin(first)
	for j.at++; run.open && j.at < len(j.bufs); j.at++ {
		if !run.extend(j.bufs[j.at][j.offset:]) {
			break
		}
	}
	if run.count == 1 {
		return buffer.NewViewWithData(first)
	}
	return run.join(j.bufs[j.at-run.count:j.at], j.offset)
}

// A run is segments of one TCP stream that follow each other.
type run struct {
	first   []byte
	headers int    // bytes of IPv6 and TCP headers
	mss     int    // payload of the first: all are as large, but the last
	seq     uint32 // of the next
	size    int    // bytes of the packet that they make together
	count   int
	open    bool // more may follow
	flags   header.TCPFlags
}

// begin starts a run with p, which stays alone unless it is a plain segment.
func begin(p []byte) run {
	r := run{first: p, count: 1}
	headers, ok := segment(p)
	if !ok {
		return r
	}
	tcp := header.TCP(p[ipLen:])
	r.headers, r.mss, r.size, r.flags = headers, len(p)-headers, len(p), tcp.Flags()
	r.seq = tcp.SequenceNumber() + uint32(r.mss)
	r.open = r.flags == header.TCPFlagAck
	return r
}

// segment reports whether p is a TCP segment with data whose length is as its
// headers say, and nothing but ACK and PSH set.
func segment(p []byte) (headers int, ok bool) {
	if len(p) < ipLen+tcpLen || p[6] != uint8(header.TCPProtocolNumber) ||
		int(binary.BigEndian.Uint16(p[4:])) != len(p)-ipLen {
		return 0, false
	}
	tcp := header.TCP(p[ipLen:])
	headers = ipLen + int(tcp.DataOffset())
	flags := tcp.Flags() &^ header.TCPFlagPsh
	return headers, flags == header.TCPFlagAck && headers >= ipLen+tcpLen && len(p) > headers
}

// extend adds p to the run if it continues it.
func (r *run) extend(p []byte) bool {
	headers, ok := segment(p)
	if !ok || headers != r.headers || len(p)-headers > r.mss || r.size+len(p)-headers > maxJoined ||
		!sameStream(r.first, p, headers) || header.TCP(p[ipLen:]).SequenceNumber() != r.seq {
		return false
	}
	n := len(p) - headers
	r.seq += uint32(n)
	r.size += n
	r.count++
	r.flags |= header.TCP(p[ipLen:]).Flags()
	r.open = n == r.mss && r.flags == header.TCPFlagAck
	return true
}

// sameStream compares all of the headers but lengths, sequence number, flags
// and checksum: version, class, label, hops, addresses, ports; acknowledgement
// and header length; window; urgent pointer and options.
func sameStream(a, b []byte, headers int) bool {
	return bytes.Equal(a[:4], b[:4]) && bytes.Equal(a[6:ipLen+4], b[6:ipLen+4]) &&
		bytes.Equal(a[ipLen+8:ipLen+13], b[ipLen+8:ipLen+13]) &&
		bytes.Equal(a[ipLen+14:ipLen+16], b[ipLen+14:ipLen+16]) &&
		bytes.Equal(a[ipLen+18:headers], b[ipLen+18:headers])
}

// join returns the segments in bufs as one packet.
func (r *run) join(bufs [][]byte, offset int) *buffer.View {
	view := buffer.NewView(r.size)
	view.Write(r.first)
	for _, b := range bufs[1:] {
		view.Write(b[offset+r.headers:])
	}
	p := view.AsSlice()
	binary.BigEndian.PutUint16(p[4:], uint16(r.size-ipLen))
	header.TCP(p[ipLen:]).SetFlags(uint8(r.flags))
	return view
}
