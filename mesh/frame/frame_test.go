package frame

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
)

type message struct {
	N uint64 `cbor:"1,keyasint"`
	B []byte `cbor:"2,keyasint,omitempty"`
}

func TestMessageComesBack(t *testing.T) {
	var b bytes.Buffer
	want := message{7, []byte("seven")}
	if err := Write(&b, want); err != nil {
		t.Fatal(err)
	}
	var got message
	if err := Read(&b, 100, &got); err != nil || got.N != 7 || string(got.B) != "seven" {
		t.Errorf("%+v, %v", got, err)
	}
	if err := Read(&b, 100, &got); !errors.Is(err, io.EOF) {
		t.Errorf("after the last: %v", err)
	}
}

func TestWhatIsNoMessage(t *testing.T) {
	tests := []struct {
		name, bytes string
		want        error
	}{
		{"too long", "\xff\xff\xff\xff", ErrForm},
		{"one byte too long", "\x00\x00\x00\x65" + strings.Repeat("x", 101), ErrForm},
		{"half a length", "\x00\x00", io.ErrUnexpectedEOF},
		{"half a message", "\x00\x00\x00\x10\xa1", io.ErrUnexpectedEOF},
		{"no CBOR", "\x00\x00\x00\x01\xff", ErrForm},
		{"empty", "\x00\x00\x00\x00", ErrForm},
		{"a number in a longer form", "\x00\x00\x00\x04\xa1\x01\x18\x07", ErrForm},
		{"a field twice", "\x00\x00\x00\x05\xa2\x01\x07\x01\x07", ErrForm},
		{"an unknown field", "\x00\x00\x00\x05\xa2\x01\x07\x09\x07", ErrForm},
		{"fields in another order", "\x00\x00\x00\x06\xa2\x02\x41x\x01\x07", ErrForm},
	}
	for _, tt := range tests {
		var m message
		if err := Read(strings.NewReader(tt.bytes), 100, &m); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
		}
	}
}

// Memory grows with what comes, not with what a stranger announces.
func TestAnnouncedLengthTakesNoMemory(t *testing.T) {
	n := testing.AllocsPerRun(10, func() {
		var m message
		Read(strings.NewReader("\x00\x80\x00\x00x"), 16<<20, &m)
	})
	r := testing.Benchmark(func(b *testing.B) {
		for b.Loop() {
			var m message
			Read(strings.NewReader("\x00\x80\x00\x00x"), 16<<20, &m)
		}
	})
	if r.AllocedBytesPerOp() > 64<<10 {
		t.Errorf("%d bytes in %v allocations", r.AllocedBytesPerOp(), n)
	}
}

func FuzzRead(f *testing.F) {
	var b bytes.Buffer
	Write(&b, message{7, []byte("seven")})
	f.Add(b.Bytes())
	f.Fuzz(func(t *testing.T, in []byte) {
		var m message
		if Read(bytes.NewReader(in), 1<<16, &m) != nil {
			return
		}
		var out bytes.Buffer
		if Write(&out, m); !bytes.HasPrefix(in, out.Bytes()) {
			t.Errorf("%x is read as %+v, which is %x", in, m, out.Bytes())
		}
	})
}
