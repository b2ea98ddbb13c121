package record

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-mesh/holdfast/consensus/authority"
	"github.com/holdfast-mesh/holdfast/consensus/ledger"
	"github.com/holdfast-mesh/holdfast/mesh/frame"
)

var cluster = [16]byte{7}

func key(n byte) ed25519.PrivateKey { return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{n}, 32)) }

func sample(seq uint64) Record {
	return Record{Cluster: cluster, Seq: seq, WireGuard: [][32]byte{{9}, {10}}, Version: "0.1", At: 100, Relay: true, MTU: 1420, Addrs: []Addr{
		{"/ip4/192.0.2.7/udp/8009/quic-v1", Advertised}, {"/ip4/192.0.2.7/tcp/8009", Advertised},
		{"/ip6/2001:db8::1/udp/8009/quic-v1", Interface}, {"/dns4/nas.example.org/udp/8009/quic-v1", Advertised},
		{"/ip4/192.0.2.9/udp/1/quic-v1/p2p/" + KeyOf(key(9)).NodeID() + "/p2p-circuit", Observed},
	}}
}

func sign(t testing.TB, r Record, by byte) Signed {
	t.Helper()
	s, err := r.Sign(key(by))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestRecordComesBack(t *testing.T) {
	want := sample(3)
	s := sign(t, want, 1)
	want.Node = KeyOf(key(1))
	got, err := s.Open()
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Fatalf("%+v, %v\nwant %+v", got, err, want)
	}
	ends := []netip.AddrPort{netip.MustParseAddrPort("192.0.2.7:8009"), netip.MustParseAddrPort("[2001:db8::1]:8009")}
	if e := got.Endpoints(); !slices.Equal(e, ends) {
		t.Errorf("endpoints %v, want %v", e, ends)
	}
	if texts := got.Texts(); len(texts) != 5 || texts[1] != want.Addrs[1].Text {
		t.Errorf("%v", texts)
	}
}

// Everything in a record counts, and nobody else can sign it.
func TestForgedRecord(t *testing.T) {
	s := sign(t, sample(3), 1)
	for i := range s.Body {
		forged := Signed{bytes.Clone(s.Body), s.Sig}
		forged.Body[i]++
		if _, err := forged.Open(); !errors.Is(err, ErrInvalid) {
			t.Errorf("with byte %d changed: %v", i, err)
		}
	}
	r := sample(3)
	r.Node = KeyOf(key(1))
	body := frame.Encode(r)
	other := Signed{body, [64]byte(ed25519.Sign(key(2), append([]byte(domain), body...)))}
	if _, err := other.Open(); !errors.Is(err, ErrInvalid) {
		t.Errorf("signed by another node: %v", err)
	}
	bare := Signed{body, [64]byte(ed25519.Sign(key(1), body))}
	if _, err := bare.Open(); !errors.Is(err, ErrInvalid) {
		t.Errorf("signed for another purpose: %v", err)
	}
}

func TestWhatNoRecordSays(t *testing.T) {
	for name, change := range map[string]func(*Record){
		"no cluster": func(r *Record) { r.Cluster = [16]byte{} }, "no number": func(r *Record) { r.Seq = 0 },
		"no key": func(r *Record) { r.WireGuard = nil }, "a zero key": func(r *Record) { r.WireGuard[1] = [32]byte{} },
		"three keys": func(r *Record) { r.WireGuard = [][32]byte{{1}, {2}, {3}} }, "a key twice": func(r *Record) { r.WireGuard[1] = [32]byte{9} },
		"a key of low order":        func(r *Record) { r.WireGuard[0] = [32]byte{1} },
		"a key in another spelling": func(r *Record) { r.WireGuard[0][31] = 0x80 },
		"no multiaddress":           func(r *Record) { r.Addrs[0].Text = "nas.example.org:8009" }, "no origin": func(r *Record) { r.Addrs[0].Origin = 0 },
		"an address in another spelling": func(r *Record) { r.Addrs[0].Text = "/ip6/2001:DB8::1/udp/1" },
		"many addresses":                 func(r *Record) { r.Addrs = make([]Addr, MaxAddrs+1) }, "a long version": func(r *Record) { r.Version = strings.Repeat("x", 65) },
		"a small MTU": func(r *Record) { r.MTU = 1000 }, "a future origin": func(r *Record) { r.Addrs[0].Origin = origins },
	} {
		r := sample(1)
		change(&r)
		if _, err := r.Sign(key(1)); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s is signed: %v", name, err)
		}
		r.Node = KeyOf(key(1))
		body := frame.Encode(r)
		if _, err := (Signed{body, [64]byte(ed25519.Sign(key(1), append([]byte(domain), body...)))}).Open(); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s is read: %v", name, err)
		}
	}
}

// A member that said that the key of another was its own cut that one off everywhere, and
// no node started any more that had read it.
func TestAKeyBelongsToWhoHadItFirst(t *testing.T) {
	file := filepath.Join(t.TempDir(), "records")
	s, err := Open(file, cluster)
	if err != nil {
		t.Fatal(err)
	}
	with := func(seq uint64, keys ...[32]byte) Record {
		r := sample(seq)
		r.WireGuard = keys
		return r
	}
	put := func(r Record, by byte, holder byte) {
		t.Helper()
		_, err := s.Put(sign(t, r, by))
		if taken, is := errors.AsType[*TakenError](err); is != (holder > 0) || is && taken.By != KeyOf(key(holder)) {
			t.Errorf("node %d: %v", by, err)
		}
	}
	put(with(1, [32]byte{9}), 1, 0)
	put(with(1, [32]byte{10}), 2, 0)
	put(with(2, [32]byte{9}), 2, 1)
	put(with(2, [32]byte{11}, [32]byte{9}), 2, 1)
	put(with(2, [32]byte{12}, [32]byte{9}), 1, 0) // its own
	put(with(3, [32]byte{12}), 1, 0)
	put(with(2, [32]byte{9}), 2, 0) // nobody's now
	if _, err := s.Renew(with(0, [32]byte{9}), key(3), time.Now()); err != nil {
		t.Error(err)
	}
	if have := s.Have(); len(have) != 2 {
		t.Errorf("who has a key himself lets others have it: %v", have)
	}
	put(with(9, [32]byte{9}), 2, 3)
	if err := s.Forget(KeyOf(key(3))); err != nil {
		t.Error(err)
	}
	put(with(9, [32]byte{9}), 2, 0)

	// What earlier versions took is left out when it is read.
	bad := Record{Cluster: cluster, Node: KeyOf(key(4)), Seq: 1, WireGuard: [][32]byte{{1}}}
	body := frame.Encode(bad)
	rows := append(s.All(), sign(t, with(1, [32]byte{12}), 5), Signed{body, [64]byte(ed25519.Sign(key(4), append([]byte(domain), body...)))})
	if err := os.WriteFile(file, frame.Encode(rows), 0o600); err != nil {
		t.Fatal(err)
	}
	if s, err = Open(file, cluster); err != nil || len(s.All()) != 2 {
		t.Errorf("%d rows, %v", len(s.All()), err)
	}
}

// The ledger checks the same signature and names nodes in the same way.
func TestTheLedgerAgrees(t *testing.T) {
	if domain != ledger.RecordDomain {
		t.Errorf("records are signed for %q, and the ledger wants %q", domain, ledger.RecordDomain)
	}
	for n := range byte(20) {
		ours, theirs := KeyOf(key(n)).NodeID(), authority.PublicKey(key(n)).NodeID()
		if ours != theirs {
			t.Fatalf("node %s is %s in the ledger", ours, theirs)
		}
		if k, err := ParseNodeID(ours); err != nil || k != KeyOf(key(n)) {
			t.Errorf("%s, %v", k, err)
		}
	}
	for _, s := range []string{"", "x", "QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N", KeyOf(key(1)).NodeID() + "1"} {
		if k, err := ParseNodeID(s); err == nil {
			t.Errorf("%q is node %s", s, k)
		}
	}
}

func TestAddressInTheTunnel(t *testing.T) {
	a, b := Address(cluster, KeyOf(key(1))), Address(cluster, KeyOf(key(2)))
	if !Prefix(cluster).Contains(a) || !Prefix(cluster).Contains(b) || a == b || !a.IsPrivate() {
		t.Errorf("%s, %s in %s", a, b, Prefix(cluster))
	}
	if other := Prefix([16]byte{8}); other.Contains(a) || other == Prefix(cluster) {
		t.Errorf("two clusters have the prefix %s", other)
	}
	if want := netip.MustParseAddr("fd13:15bd:bc76:0:3475:f98:bd59:fcfc"); a != want { // for ever
		t.Errorf("%s, want %s", a, want)
	}
}

func TestStoreKeepsTheNewest(t *testing.T) {
	file := filepath.Join(t.TempDir(), "records")
	s, err := Open(file, cluster)
	if err != nil {
		t.Fatal(err)
	}
	put := func(signed Signed, changed bool, want error) {
		t.Helper()
		if got, err := s.Put(signed); got != changed || !errors.Is(err, want) {
			t.Errorf("%v, %v, want %v, %v", got, err, changed, want)
		}
	}
	old, two := sign(t, sample(3), 1), sample(4)
	two.Version = "0.2"
	put(old, true, nil)
	put(old, false, nil)
	put(sign(t, two, 1), true, nil)
	put(old, false, ErrOld) // somebody plays it back
	two.Version = "0.3"
	put(sign(t, two, 1), false, ErrFork)
	two.Cluster = [16]byte{8}
	put(sign(t, two, 1), false, ErrOther)
	put(Signed{old.Body, [64]byte{}}, false, ErrInvalid)
	second := sample(1)
	second.WireGuard = [][32]byte{{11}}
	put(sign(t, second, 2), true, nil)
	if s, err = Open(file, cluster); err != nil {
		t.Fatal(err)
	}
	put(old, false, ErrOld)
	if r, known := s.Get(KeyOf(key(1))); !known || r.Version != "0.2" {
		t.Errorf("%+v", r)
	}
	if have := s.Have(); len(have) != 2 || len(s.All()) != 2 || have[0].Seq+have[1].Seq != 5 {
		t.Errorf("%v", have)
	}
	if err := s.Forget(KeyOf(key(2))); err != nil || len(s.All()) != 1 {
		t.Errorf("%v", err)
	}
	if _, err := Open(file, [16]byte{8}); !errors.Is(err, ErrOther) {
		t.Errorf("the file of another cluster: %v", err)
	}
	if err := os.WriteFile(file, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	var hinted interface{ Hint() string }
	if _, err := Open(file, cluster); !errors.As(err, &hinted) {
		t.Errorf("a damaged file: %v", err)
	}
}

// A node whose disk went back to an earlier state still signs a newer record.
func TestRenew(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	peers, err := Open("", cluster)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		mine, err := Open("", cluster) // forgets all
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			signed, err := mine.Renew(sample(0), key(1), now.Add(time.Duration(i)*time.Minute))
			if err != nil {
				t.Fatal(err)
			}
			if changed, err := peers.Put(signed); err != nil || !changed {
				t.Errorf("%v, %v", changed, err)
			}
		}
	}
}

func TestStoreIsBounded(t *testing.T) {
	s, err := Open("", cluster)
	if err != nil {
		t.Fatal(err)
	}
	r := Record{Cluster: cluster, Seq: 1, WireGuard: [][32]byte{{9}}}
	for n := range MaxNodes + 1 {
		seed := make([]byte, 32)
		seed[0], seed[1] = byte(n), byte(n>>8)
		r.WireGuard[0] = [32]byte{9, seed[0], seed[1]}
		signed, err := r.Sign(ed25519.NewKeyFromSeed(seed))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Put(signed); (err != nil) != (n == MaxNodes) || err != nil && !errors.Is(err, ErrFull) {
			t.Errorf("record %d: %v", n, err)
		}
	}
}

func FuzzOpen(f *testing.F) {
	s := sign(f, sample(3), 1)
	f.Add(s.Body)
	f.Add(s.Body[:40])
	f.Fuzz(func(t *testing.T, body []byte) {
		var r Record
		if frame.Decode(body, &r) != nil {
			return
		}
		r.Endpoints()
		if _, err := (Signed{body, [64]byte{}}).Open(); err == nil {
			t.Error("a record without a signature is read")
		}
		// What passes the checks is written as it was read.
		if signed, err := r.Sign(key(1)); err == nil {
			if _, err := signed.Open(); err != nil {
				t.Errorf("%+v is signed and not read: %v", r, err)
			}
		}
	})
}
