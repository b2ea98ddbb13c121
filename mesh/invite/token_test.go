package invite

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-mesh/holdfast/consensus/authority"
)

var now = time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)

func sample() Token {
	return Token{
		Cluster: [16]byte{1}, ID: [8]byte{2}, Seed: [32]byte{3}, Expires: now.Add(time.Hour).Unix(), Role: "full", Site: "dc",
		Genesis: [32]byte{4}, Head: [32]byte{5}, Members: []Member{
			{"12D3KooWJWoaqZhDaoEFshF7Rh1bpY9ohihFhzcW6d69Lr2NASuq", []string{"/ip4/192.0.2.7/udp/51820/quic-v1", "/ip6/2001:db8::1/tcp/51820"}},
			{"12D3KooWRndVhVZPCiQwHBBBdg769GyrPUW13zxwqQyf9r3ANaba", nil},
		},
	}
}

func text(t testing.TB, k Token) string {
	t.Helper()
	s, err := k.Text()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestTokenComesBack(t *testing.T) {
	want := sample()
	s := text(t, want)
	for _, pasted := range []string{s, " " + s + "\n", strings.ToUpper(s), s[:40] + "\r\n  " + s[40:]} {
		got, err := Parse(pasted)
		if err != nil || text(t, got) != s {
			t.Errorf("%q: %+v, %v", pasted, got, err)
		}
	}
	if len(s) > 600 {
		t.Errorf("%d characters", len(s))
	}
	if strings.Contains(want.String(), s[10:30]) || len(want.String()) > 30 {
		t.Errorf("the name %q gives it away", want)
	}
}

func TestWhatIsWrongWithAToken(t *testing.T) {
	s := text(t, sample())
	swap := func(i int) string { b := []byte(s); b[i], b[i+1] = b[i+1], b[i]; return string(b) }
	at := 20
	for s[at] == s[at+1] {
		at++
	}
	tests := []struct {
		name, text string
		want       error
	}{
		{"nothing", "", ErrNotToken},
		{"something else", "K10abc::server:xyz", ErrNotToken},
		{"a long something else", strings.Repeat("x", 5000), ErrNotToken},
		{"its beginning is missing", s[10:], ErrNotToken},
		{"of a later version", "hf2" + s[3:], ErrNewer},
		{"only its beginning", s[:3], ErrCut},
		{"the first half", s[:len(s)/2], ErrCut},
		{"without the checksum", s[:len(s)-8], ErrCut},
		{"without its last character", s[:len(s)-1], ErrCut},
		{"two characters swapped", swap(at), ErrDamaged},
		{"a digit that is not in the alphabet", s[:30] + "0" + s[31:], ErrDamaged},
		{"a character too many", s + "a", ErrDamaged},
		{"two tokens", s + s, ErrDamaged},
	}
	for _, tt := range tests {
		_, err := Parse(tt.text)
		var hinted interface{ Hint() string }
		if !errors.Is(err, tt.want) || !errors.As(err, &hinted) || hinted.Hint() == "" {
			t.Errorf("%s: %v, want %v and a hint", tt.name, err, tt.want)
		}
		if err != nil && len(tt.text) > 30 && strings.Contains(err.Error(), tt.text[5:20]) {
			t.Errorf("%s: the error quotes the token: %v", tt.name, err)
		}
	}
}

// Every change of one character is noticed.
func TestEveryCharacterCounts(t *testing.T) {
	s := text(t, sample())
	for i := range s {
		for _, c := range []byte("aq7.") {
			if s[i] == c {
				continue
			}
			if k, err := Parse(s[:i] + string(c) + s[i+1:]); err == nil {
				t.Fatalf("with %q at %d it is %+v", c, i, k)
			}
		}
	}
}

func TestFieldsThatNoTokenHas(t *testing.T) {
	for name, change := range map[string]func(*Token){
		"no cluster": func(k *Token) { k.Cluster = [16]byte{} }, "no genesis": func(k *Token) { k.Genesis = [32]byte{} },
		"no head": func(k *Token) { k.Head = [32]byte{} }, "no seed": func(k *Token) { k.Seed = [32]byte{} },
		"no role": func(k *Token) { k.Role = "" }, "a long role": func(k *Token) { k.Role = strings.Repeat("x", 300) },
		"for ever": func(k *Token) { k.Expires = 0 }, "nobody to ask": func(k *Token) { k.Members = nil },
		"five to ask": func(k *Token) { k.Members = make([]Member, 5) }, "a member without ID": func(k *Token) { k.Members[0].Node = "" },
		"an empty address": func(k *Token) { k.Members[0].Addrs[0] = "" }, "five addresses": func(k *Token) { k.Members[0].Addrs = make([]string, 5) },
	} {
		k := sample()
		change(&k)
		if _, err := k.Text(); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s is written: %v", name, err)
		}
		b, err := encoding.Marshal(k)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Parse(prefix + "." + alphabet.EncodeToString(b) + "." + sum(b)); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s is read: %v", name, err)
		}
	}
}

func TestExpiryAllowsForClocks(t *testing.T) {
	k := sample()
	for after, want := range map[time.Duration]error{
		0: nil, time.Hour: nil, time.Hour + 9*time.Minute: nil, time.Hour + 10*time.Minute: ErrExpired, 100 * time.Hour: ErrExpired,
		-6 * 24 * time.Hour: nil, -8 * 24 * time.Hour: ErrInvalid,
	} {
		if err := k.Check(now.Add(after)); !errors.Is(err, want) {
			t.Errorf("after %s: %v, want %v", after, err, want)
		}
	}
}

// The ledger reads what the machine signs, byte for byte.
func TestStatementIsThatOfTheLedger(t *testing.T) {
	machine := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{9}, 32))
	k := sample()
	s := Statement{
		Cluster: k.Cluster, Token: k.ID, Joiner: machine.Public().(ed25519.PublicKey), Member: bytes.Repeat([]byte{7}, 32),
		JoinerNonce: [32]byte{1}, MemberNonce: [32]byte{2}, Record: []byte("record"), Role: "full", Site: "dc", Name: "dc-1",
	}
	b, seed, node, err := s.Sign(k, machine)
	if err != nil {
		t.Fatal(err)
	}
	got, err := authority.ParseStatement(b)
	if err != nil {
		t.Fatal(err)
	}
	want := authority.Statement{
		Cluster: s.Cluster, Token: s.Token, Joiner: authority.PublicKey(machine), Member: authority.Key(s.Member),
		Nonces: [2][32]byte{s.JoinerNonce, s.MemberNonce}, Record: sha256.Sum256(s.Record), Role: s.Role, Site: s.Site, Name: s.Name,
	}
	if got != want {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if !ed25519.Verify(k.Key().Public().(ed25519.PublicKey), b, seed[:]) || !ed25519.Verify(s.Joiner, b, node[:]) {
		t.Error("the signatures are not of the seed and the machine")
	}
	s.Name = strings.Repeat("x", 65)
	if _, err := s.Bytes(); err == nil {
		t.Error("a name of 65 bytes is signed")
	}
}

func FuzzParse(f *testing.F) {
	s := text(f, sample())
	f.Add(s)
	f.Add(s[:50])
	f.Add("hf2.x.y")
	f.Fuzz(func(t *testing.T, s string) {
		k, err := Parse(s)
		if err != nil {
			return
		}
		if again, err := Parse(text(t, k)); err != nil || text(t, again) != text(t, k) {
			t.Errorf("%q is read as %+v, which is written and read as %+v, %v", s, k, again, err)
		}
	})
}
