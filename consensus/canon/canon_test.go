package canon

import (
	"bytes"
	"encoding/hex"
	"errors"
	"testing"
)

type thing struct {
	Number uint64         `cbor:"1,keyasint,omitempty"`
	Text   string         `cbor:"2,keyasint,omitempty"`
	Bytes  []byte         `cbor:"3,keyasint,omitempty"`
	Sum    [4]byte        `cbor:"4,keyasint"`
	Map    map[string]int `cbor:"5,keyasint,omitempty"`
	List   []thing        `cbor:"6,keyasint,omitempty"`
	Signed int64          `cbor:"7,keyasint,omitempty"`
	Yes    bool           `cbor:"8,keyasint,omitempty"`
}

// These bytes are stored and signed: they may not change.
func TestBytesStayAsTheyAre(t *testing.T) {
	v := thing{Number: 24, Text: "é", Bytes: []byte{1}, Sum: [4]byte{1, 2, 3, 4}, Map: map[string]int{"b": 1, "a": 2, "ab": 3}, List: []thing{{}}, Signed: -1, Yes: true}
	const want = "a8011818" + "0262c3a9" + "034101" + "044401020304" + "05a3616102616201626162" + "03" + "0681a1044400000000" + "0720" + "08f5"
	if got := hex.EncodeToString(Encode(v)); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestDecodeRefusesOtherSpellings(t *testing.T) {
	for name, text := range map[string]string{
		"a number in a longer form":  "a2011800044400000000",
		"fields in another order":    "a20444000000000101",
		"a field twice":              "a301010101044400000000",
		"a field that is not known":  "a2044400000000186301",
		"an empty field written out": "a20100044400000000",
		"a list of unknown length":   "a1045f4400000000ff",
		"something behind the end":   "a10444000000000a",
		"text that is not UTF-8":     "a20261ff044400000000",
		"a tag":                      "a201c101044400000000",
		"a short sum":                "a10443000000",
		"nothing":                    "",
	} {
		b, _ := hex.DecodeString(text)
		if err := Decode(b, &thing{}); !errors.Is(err, ErrForm) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The audit cut text at 300 bytes, also in a letter.
func TestClippedTextIsText(t *testing.T) {
	cut := Encode(thing{Text: "m\xc3"})
	var v thing
	if err := DecodeClipped(cut, &v); err != nil || v.Text != "m\xc3" {
		t.Errorf("%q, %v", v.Text, err)
	}
	if err := Decode(cut, &v); !errors.Is(err, ErrForm) {
		t.Errorf("text that is not UTF-8 is read: %v", err)
	}
	if err := DecodeClipped(append(cut, 0), &v); !errors.Is(err, ErrForm) {
		t.Errorf("something behind the end is read: %v", err)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(Encode(thing{Number: 1, Text: "x", Map: map[string]int{"a": 1}}))
	f.Add(Encode(thing{List: []thing{{Bytes: []byte("x")}}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		var v thing
		if Decode(b, &v) == nil && !bytes.Equal(Encode(v), b) {
			t.Errorf("%x is read, and written as %x", b, Encode(v))
		}
	})
}
