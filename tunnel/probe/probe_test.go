package probe

import (
	"crypto/ecdh"
	"crypto/rand"
	"net/netip"
	"reflect"
	"slices"
	"testing"
)

func pairs(t testing.TB) (a, b *Pair) {
	t.Helper()
	x, _ := ecdh.X25519().GenerateKey(rand.Reader)
	y, _ := ecdh.X25519().GenerateKey(rand.Reader)
	a, err := NewPair(x, y.PublicKey())
	if err != nil {
		t.Fatal(err)
	}
	if b, err = NewPair(y, x.PublicKey()); err != nil {
		t.Fatal(err)
	}
	return a, b
}

func open(p *Pair, b []byte) (Opened, error) { return p.Open(make([]byte, ScratchBytes), b) }

var messages = []Message{
	{Kind: Ping, ID: 7, Got: 1, Lost: 2, Size: pingBytes},
	{Kind: Ping, ID: 1 << 63, Size: 1280},
	{Kind: Pong, ID: 8, Got: 3, Lost: 4, Seen: netip.MustParseAddrPort("203.0.113.9:51820")},
	{Kind: Pong, ID: 8, Seen: netip.MustParseAddrPort("[2001:db8::1]:1")},
	{Kind: Pong, ID: 9},
	{Kind: Call},
	{Kind: Call, Candidates: []netip.AddrPort{netip.MustParseAddrPort("10.0.0.1:5"), netip.MustParseAddrPort("[fd00::2]:6")}},
}

func TestMessagesCross(t *testing.T) {
	a, b := pairs(t)
	for _, m := range messages {
		sealed := a.Seal(nil, m)
		if name, ok := NameOf(sealed); !ok || name != b.Incoming || !Is(sealed) {
			t.Errorf("%+v: name of key is %x, %t, want %x", m, name, ok, b.Incoming)
		}
		got, err := open(b, sealed)
		if err != nil || !reflect.DeepEqual(got.Message, m) {
			t.Errorf("got %+v, %v, want %+v", got.Message, err, m)
		}
	}
}

func TestNobodyElseCanOpenOrForge(t *testing.T) {
	a, b := pairs(t)
	c, _ := pairs(t)
	sealed := a.Seal(nil, messages[0])
	if _, err := open(c, sealed); err == nil {
		t.Error("a stranger opened it")
	}
	if _, err := open(a, sealed); err == nil {
		t.Error("the sender took it for one of the peer")
	}
	for i := range sealed {
		bad := slices.Clone(sealed)
		bad[i] ^= 1
		if _, err := open(b, bad); err == nil {
			t.Errorf("a probe with byte %d changed was opened", i)
		}
	}
}

func TestReplay(t *testing.T) {
	a, b := pairs(t)
	one, two := a.Seal(nil, messages[0]), a.Seal(nil, messages[0])
	o, err := open(b, one)
	if err != nil || o.Fresh {
		t.Fatalf("before it is confirmed a session proves nothing, got fresh %t, %v", o.Fresh, err)
	}
	b.Confirm(o.Session)
	for _, sealed := range [][]byte{two, one} { // overtaken is fine
		if o, err := open(b, sealed); err != nil || !o.Fresh {
			t.Errorf("fresh %t, %v, want a fresh one", o.Fresh, err)
		}
		if _, err := open(b, sealed); err == nil {
			t.Error("the same probe was taken twice")
		}
	}
}

func TestRestartedPeerIsBelievedOnceConfirmed(t *testing.T) {
	x, _ := ecdh.X25519().GenerateKey(rand.Reader)
	y, _ := ecdh.X25519().GenerateKey(rand.Reader)
	before, _ := NewPair(x, y.PublicKey())
	after, _ := NewPair(x, y.PublicKey())
	b, _ := NewPair(y, x.PublicKey())
	o, _ := open(b, before.Seal(nil, messages[0]))
	b.Confirm(o.Session)
	o, err := open(b, after.Seal(nil, messages[0]))
	if err != nil || o.Fresh {
		t.Fatalf("a new session is fresh %t, %v, before it is confirmed", o.Fresh, err)
	}
	b.Confirm(o.Session)
	if o, err := open(b, after.Seal(nil, messages[0])); err != nil || !o.Fresh {
		t.Errorf("after that it is fresh %t, %v", o.Fresh, err)
	}
	if o, _ := open(b, before.Seal(nil, messages[0])); o.Fresh {
		t.Error("the old session is still believed")
	}
}

func TestWindow(t *testing.T) {
	tests := []struct {
		name   string
		before []uint64
		check  uint64
		fresh  bool
	}{
		{"the next", []uint64{1, 2}, 3, true},
		{"far ahead", []uint64{1}, 1 << 40, true},
		{"behind, not used", []uint64{1, 2000}, 1999, true},
		{"behind, used", []uint64{1999, 2000}, 1999, false},
		{"the oldest that is known", []uint64{5000}, 5000 - windowBits + 1, true},
		{"too old", []uint64{5000}, 5000 - windowBits, false},
		{"used before a step over a whole window", []uint64{3, 3 + windowBits}, 4, true},
		{"the same slot one window later", []uint64{3, 2 + windowBits}, 3 + windowBits, true},
		{"zero is a counter, too", nil, 0, true},
	}
	for _, tt := range tests {
		w := Window{}
		w.Confirm(1)
		for _, c := range tt.before {
			w.Check(1, c)
		}
		if fresh, _ := w.Check(1, tt.check); fresh != tt.fresh {
			t.Errorf("%s: fresh is %t, want %t", tt.name, fresh, tt.fresh)
		}
	}
}

// What strangers send is turned away without an allocation.
func TestForgedProbesCostNoAllocation(t *testing.T) {
	a, b := pairs(t)
	forged := a.Seal(nil, Message{Kind: Ping, Size: 1200})
	forged[len(forged)-1] ^= 1
	scratch := make([]byte, ScratchBytes)
	if n := testing.AllocsPerRun(100, func() {
		if _, err := b.Open(scratch, forged); err == nil {
			t.Fatal("opened")
		}
	}); n > 0 {
		t.Errorf("a forged probe costs %v allocations", n)
	}
}

func FuzzParse(f *testing.F) {
	for _, m := range messages {
		f.Add(m.Append(nil))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := Parse(b)
		if err != nil {
			return
		}
		again, err := Parse(m.Append(nil))
		if err != nil || !reflect.DeepEqual(m, again) {
			t.Errorf("%+v is %+v, %v the second time", m, again, err)
		}
	})
}

func FuzzOpen(f *testing.F) {
	a, b := pairs(f)
	for _, m := range messages {
		f.Add(a.Seal(nil, m))
	}
	f.Fuzz(func(t *testing.T, sealed []byte) {
		if _, ok := NameOf(sealed); !ok {
			return
		}
		if _, err := open(b, sealed); err == nil && sealed[0] != first {
			t.Error("opened what is no probe")
		}
	})
}
