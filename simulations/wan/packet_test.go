package wan

import (
	"encoding/binary"
	"net/netip"
	"testing"
)

// FuzzPacket looks at whatever a kernel may hand over. What it answers is a
// well-formed ICMP message to the sender.
func FuzzPacket(f *testing.F) {
	v4 := append([]byte{0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, 17, 0, 0, 11, 0, 1, 1, 11, 0, 2, 1}, make([]byte, 20)...)
	v6 := append([]byte{0x60, 0, 0, 0, 0, 2, 17, 64}, make([]byte, 34)...)
	f.Add(v4, 1280)
	f.Add(v6, 1280)
	f.Add(v4[:19], 0)
	f.Add([]byte{}, 65535)
	f.Add(append(v6, make([]byte, 2000)...), 1400)
	f.Fuzz(func(t *testing.T, b []byte, mtu int) {
		_, known := destination(b)
		m := packetTooBig(b, mtu)
		if m == nil {
			return
		}
		if !known {
			t.Fatal("answers a packet that has no destination")
		}
		to, _ := destination(m)
		switch m[0] >> 4 {
		case 4:
			if from := netip.AddrFrom4([4]byte(b[12:16])); to != from {
				t.Errorf("answer goes to %v, want %v", to, from)
			}
			if len(m) > 576 || int(binary.BigEndian.Uint16(m[2:])) != len(m) {
				t.Errorf("answer has %d bytes and says %d", len(m), binary.BigEndian.Uint16(m[2:]))
			}
			if checksum(0, m[:header4]) != 0 || checksum(0, m[header4:]) != 0 {
				t.Error("answer has a wrong checksum")
			}
			if got := binary.BigEndian.Uint16(m[header4+6:]); got != uint16(mtu) {
				t.Errorf("answer says MTU %d, want %d", got, mtu)
			}
		case 6:
			if from := netip.AddrFrom16([16]byte(b[8:24])); to != from {
				t.Errorf("answer goes to %v, want %v", to, from)
			}
			if len(m) > 1280 || int(binary.BigEndian.Uint16(m[4:]))+header6 != len(m) {
				t.Errorf("answer has %d bytes and says %d", len(m), binary.BigEndian.Uint16(m[4:])+header6)
			}
			if checksum(uint32(len(m)-header6)+58+sum(m[8:40]), m[header6:]) != 0 {
				t.Error("answer has a wrong checksum")
			}
			if got := binary.BigEndian.Uint32(m[header6+4:]); got != uint32(mtu) {
				t.Errorf("answer says MTU %d, want %d", got, mtu)
			}
		}
	})
}
