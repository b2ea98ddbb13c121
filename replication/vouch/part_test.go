package vouch

import (
	"bytes"
	"crypto/ed25519"
	"testing"
)

func FuzzParse(f *testing.F) {
	key := ed25519.NewKeyFromSeed(make([]byte, 32))
	p := &Part{Index: [32]byte{1}, First: 7, Sums: []Sum{{2}, {3}}}
	if err := p.sign(key); err != nil {
		f.Fatal(err)
	}
	f.Add(p.Bytes())
	f.Add([]byte(magic))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := Parse(b)
		if err == nil && !bytes.Equal(p.Bytes(), b) {
			t.Errorf("%x came back as %x", b, p.Bytes())
		}
	})
}
