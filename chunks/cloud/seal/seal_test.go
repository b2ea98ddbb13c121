package seal

import (
	"bytes"
	"errors"
	"testing"
)

func TestSealBindsNameAndKey(t *testing.T) {
	k := NewKey()
	sealed := k.Seal("r/1", []byte("the root"))
	if plain, err := k.Open("r/1", sealed); err != nil || string(plain) != "the root" {
		t.Fatalf("open: %q, %v", plain, err)
	}
	if bytes.Contains(sealed, []byte("the root")) {
		t.Error("the content can be read")
	}
	if _, err := k.Open("r/2", sealed); !errors.Is(err, ErrOpen) {
		t.Errorf("under another name: %v", err)
	}
	if _, err := NewKey().Open("r/1", sealed); !errors.Is(err, ErrOpen) {
		t.Errorf("with another key: %v", err)
	}
	for i := range sealed {
		bad := bytes.Clone(sealed)
		bad[i] ^= 1
		if _, err := k.Open("r/1", bad); err == nil {
			t.Errorf("byte %d was flipped and it opened", i)
		}
	}
	if _, err := k.Open("r/1", sealed[:10]); err == nil {
		t.Error("ten bytes opened")
	}
}

func TestEveryRecipientOpensAlone(t *testing.T) {
	node, err := NewIdentity()
	if err != nil {
		t.Fatal(err)
	}
	recovery, _ := NewIdentity()
	stranger, _ := NewIdentity()
	recipients, err := ParseRecipients(node.Recipient().String(), " "+recovery.Recipient().String()+"\n")
	if err != nil {
		t.Fatal(err)
	}
	k := NewKey()
	wrapped, err := k.Wrap(recipients...)
	if err != nil {
		t.Fatal(err)
	}
	if n := Recipients(wrapped); n != 2 {
		t.Errorf("%d keys open it, want 2", n)
	}
	printed, err := ParseIdentity(recovery.String())
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []interface{ String() string }{node, printed} {
		again, err := ParseIdentity(id.String())
		if err != nil {
			t.Fatal(err)
		}
		got, err := Unwrap(wrapped, again)
		if err != nil || got.ID() != k.ID() || !got.Signer().Equal(k.Signer()) {
			t.Errorf("unwrap: %v", err)
		}
	}
	if _, err := Unwrap(wrapped, stranger); err == nil {
		t.Error("a stranger unwrapped the key")
	}
	if _, err := Unwrap(wrapped); err == nil {
		t.Error("nobody unwrapped the key")
	}
	if _, err := k.Wrap(); err == nil {
		t.Error("the key was wrapped to nobody")
	}
}

func FuzzOpen(f *testing.F) {
	k := keyOf([KeySize]byte{1})
	f.Add(k.Seal("n", []byte("x")))
	f.Fuzz(func(t *testing.T, b []byte) {
		if plain, err := k.Open("n", b); err == nil && len(plain)+objectHead+16 != len(b) {
			t.Errorf("%d bytes opened to %d", len(b), len(plain))
		}
		_, _ = Unwrap(b, nil...)
		if n := Recipients(b); n < 0 || 4*n > len(b) {
			t.Errorf("%d keys in %d bytes", n, len(b))
		}
	})
}
