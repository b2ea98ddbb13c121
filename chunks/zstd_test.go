package chunks

import (
	"runtime"
	"slices"
	"testing"
)

// Frames made by hand (RFC 8878 §3.1.1): magic, descriptor, and window or
// content size.
const (
	frameHeaderUnknown = "\x28\xb5\x2f\xfd\x00\x48"             // window 512 KiB, size unknown: what libzstd streams
	frameHeaderSum     = "\x28\xb5\x2f\xfd\x04\x48"             // the same with a checksum
	frameHeaderThree   = "\x28\xb5\x2f\xfd\x20\x03"             // 3 bytes in a single segment
	frameHeader100MiB  = "\x28\xb5\x2f\xfd\xa0\x00\x00\x40\x06" // 100 MiB
	frameHeader132MiB  = "\x28\xb5\x2f\xfd\xa0\x00\x00\x40\x08"
	frameHeader2GiB    = "\x28\xb5\x2f\xfd\xa0\x00\x00\x00\x80"
	skippableFrame     = "\x50\x2a\x4d\x18\x02\x00\x00\x00xx"
)

func block(kind, size int, content string) string {
	h := size<<3 | kind<<1
	return string([]byte{byte(h), byte(h >> 8), byte(h >> 16)}) + content
}

func raw(s string) string { return block(zstdRawBlock, len(s), s) }
func rle(n int) string    { return block(zstdRLEBlock, n, "a") }
func last(b string) string {
	return string([]byte{b[0] | 1}) + b[1:]
}

// frame wraps a zstd frame into a blob.
func frame(header string, blocks ...string) Blob {
	b := Blob(slices.Clone(kindMagic[Zstd][:]))
	b = append(b, "CRC."...)
	b = append(b, header...)
	for _, s := range blocks {
		b = append(b, s...)
	}
	if err := b.SetCRC(); err != nil {
		panic(err)
	}
	return b
}

func TestZstdFrames(t *testing.T) {
	for _, tt := range []struct {
		name  string
		b     Blob
		want  string
		known bool
	}{
		{"a frame that declares its length", frame(frameHeaderThree, last(raw("abc"))), "abc", true},
		{"a frame that does not", frame(frameHeaderUnknown, raw("ab"), last(rle(3))), "abaaa", false},
		{"two frames", frame(frameHeaderThree, last(raw("abc")), frameHeaderUnknown, last(raw("d"))), "abcd", false},
		{"a frame that is skipped", frame(skippableFrame, frameHeaderThree, last(raw("abc"))), "abc", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := tt.b.Decode(nil, nil)
			if err != nil || string(got) != tt.want {
				t.Errorf("decoded to %q, error %v, want %q", got, err, tt.want)
			}
			if n, ok := tt.b.PlainLen(); ok != tt.known || ok && n != len(tt.want) {
				t.Errorf("PlainLen is %d, %v", n, ok)
			}
			if err := tt.b.Verify(Sum([]byte(tt.want)), nil); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestBadZstdFrames(t *testing.T) {
	bomb := make([]string, 1100)
	for i := range bomb {
		bomb[i] = rle(zstdMaxBlock)
	}
	bomb[len(bomb)-1] = last(bomb[0])
	for _, tt := range []struct {
		name, want string
		b          Blob
	}{
		{"no frame", "there is no frame", frame("")},
		{"no zstd", "magic", frame("hello, world")},
		{"a frame without blocks", "unexpected EOF", frame(frameHeaderUnknown)},
		{"a block cut off", "unexpected EOF", frame(frameHeaderUnknown, raw("abcd")[:5])},
		{"no last block", "unexpected EOF", frame(frameHeaderUnknown, raw("abcd"))},
		{"a checksum cut off", "unexpected EOF", frame(frameHeaderSum, last(raw("abcd")), "xyz")},
		{"a checksum that is wrong", "CRC", frame(frameHeaderSum, last(raw("abcd")), "wxyz")},
		{"a skippable frame cut off", "unexpected EOF", frame(skippableFrame[:9])},
		{"less than it declares", "its blocks hold at most 2", frame(frameHeaderThree, last(rle(2)))},
		{"more than it declares", "", frame(frameHeaderThree, last(raw("abcd")))},
		{"100 MiB declared by one block", "declares 104857600 bytes, its blocks hold at most 1000", frame(frameHeader100MiB, last(rle(1000)))},
		{"2 GiB declared", "declares 2147483648 bytes", frame(frameHeader2GiB, last(rle(1000)))},
		{"a block above 128 KiB", "", frame(frameHeaderUnknown, last(rle(200<<10)))},
		{"137 MiB from 4 KiB, declared", "content of 138412032 bytes is declared, at most 134217728", frame(frameHeader132MiB, bomb...)},
		{"137 MiB from 4 KiB", "exceed", frame(frameHeaderUnknown, bomb...)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := tt.b.Decode(nil, nil)
			wantErr(t, "decode", err, ErrCorrupt)
			wantText(t, err, tt.want)
			wantErr(t, "verify", tt.b.Verify(Digest{}, nil), ErrCorrupt)
		})
	}
}

func TestADeclaredLengthAllocatesNothing(t *testing.T) {
	b := frame(frameHeader100MiB, last(rle(1000)))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err := b.Decode(nil, nil)
	runtime.ReadMemStats(&after)
	wantErr(t, "decode", err, ErrCorrupt)
	if got := after.TotalAlloc - before.TotalAlloc; got > 1<<20 {
		t.Errorf("a blob of %d bytes made us allocate %d", len(b), got)
	}
}
