package chunks

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
)

var testKey = NewKey([32]byte{7, 7, 7})

// encodings are the options that lead to all kinds of blob.
var encodings = []EncodeOptions{{}, {Compress: true}, {Key: testKey}, {Compress: true, Key: testKey}}

func encoded(t testing.TB, plain []byte, opt EncodeOptions) Blob {
	t.Helper()
	b, err := Encode(nil, plain, opt)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestEncodeVector(t *testing.T) {
	b := encoded(t, []byte("hello"), EncodeOptions{Compress: true})
	if got := hex.EncodeToString(b); got != "42ab3807be8370a186a6103668656c6c6f" {
		t.Errorf("hello is encoded as %s", got)
	}
	if got := Sum(b).String(); got != "9c5944aba3379b450612203cafb5bf60c2358103550b7f799d197f4668f169d5" {
		t.Errorf("the blob's SHA-256 is %s", got)
	}
}

func TestEncodeThenDecode(t *testing.T) {
	for _, size := range []int{0, 1, 5, 100, 4096, 128 << 10, 128<<10 + 1, 5 << 20} {
		for name, plain := range map[string][]byte{"text": textLike(size), "random": hashStream(size), "zeros": make([]byte, size)} {
			for _, opt := range encodings {
				b := encoded(t, plain, opt)
				kind, err := b.Kind()
				t.Run(fmt.Sprintf("%d bytes of %s, %s", size, name, kind), func(t *testing.T) {
					if err != nil || kind.IsEncrypted() != (opt.Key != nil) || kind.IsZstd() && !opt.Compress {
						t.Fatalf("encoded as %s, error %v", kind, err)
					}
					if got := len(b) - kind.HeaderSize(); kind.IsZstd() && got >= size || !kind.IsZstd() && got != size {
						t.Errorf("the payload has %d bytes", got)
					}
					if size >= 4096 && opt.Compress && kind.IsZstd() != (name != "random") {
						t.Errorf("encoded as %s", kind)
					}
					got, err := b.Decode(nil, opt.Key)
					if err != nil || !bytes.Equal(got, plain) {
						t.Errorf("decoded to %d other bytes, error %v", len(got), err)
					}
					if n, ok := b.PlainLen(); ok != (kind != ZstdEncrypted) || ok && n != size {
						t.Errorf("PlainLen is %d, %v", n, ok)
					}
				})
			}
		}
	}
}

func TestEncodeRefusesWhatNoServerAccepts(t *testing.T) {
	_, err := Encode(nil, make([]byte, MaxPlain+1), EncodeOptions{Compress: true})
	wantText(t, err, "at most 134217728 fit into a blob")
	_, err = Encode(nil, make([]byte, MaxBlob), EncodeOptions{})
	wantText(t, err, "at most 16777260 are allowed")
	if b, err := Encode(nil, make([]byte, 16<<20), EncodeOptions{Key: testKey}); err != nil || len(b) != MaxBlob || b.Check() != nil {
		t.Errorf("the largest chunk makes a blob of %d bytes, error %v", len(b), err)
	}
	if b, err := Encode(nil, make([]byte, 2*MaxBlob), EncodeOptions{Compress: true}); err != nil || b.Check() != nil {
		t.Errorf("32 MiB that compress well: %v", err)
	}
}

func TestEncodeDrawsAnIVEachTime(t *testing.T) {
	opt := EncodeOptions{Key: testKey}
	a, b := encoded(t, []byte("hello"), opt), encoded(t, []byte("hello"), opt)
	if bytes.Equal(a[ivStart:tagStart], b[ivStart:tagStart]) {
		t.Error("two blobs have one IV")
	}
}

func TestMemoryOfTheCallerIsUsed(t *testing.T) {
	for _, size := range []int{1, 128 << 10, 300 << 10, 1 << 20} { // two fill a buffer
		testMemory(t, hashStream(size))
		testMemory(t, make([]byte, size))
	}
}

func testMemory(t *testing.T, plain []byte) {
	t.Helper()
	for _, opt := range encodings {
		dst, back := GetBuffer(len(plain)), GetBuffer(len(plain))
		b, err := Encode(dst.Bytes, plain, opt)
		if err != nil || &b[0] != &dst.Bytes[:1][0] {
			t.Errorf("the blob lies elsewhere, error %v", err)
		}
		got, err := b.Decode(back.Bytes, opt.Key)
		if err != nil || &got[0] != &back.Bytes[:1][0] {
			t.Errorf("the content lies elsewhere, error %v", err)
		}
		exact := make([]byte, len(plain)+TagSize)
		if got, err := b.Decode(exact, opt.Key); err != nil || &got[0] != &exact[0] {
			t.Errorf("the content lies elsewhere than in memory that just suffices, error %v", err)
		}
		if got, err := b.Decode(make([]byte, 10, 20), opt.Key); err != nil || !bytes.Equal(got, plain) {
			t.Errorf("decoded into little memory: %d bytes, error %v", len(got), err)
		}
	}
}

// TestMemoryForUndeclaredLengths has a blob whose headers allow 128 KiB of
// content. It has one, and memory for that is enough.
func TestMemoryForUndeclaredLengths(t *testing.T) {
	b := Blob(readGolden(t, "g1-first", "index.json.blob"))
	dst := make([]byte, 0, 4096)
	got, err := b.Decode(dst, nil)
	if err != nil || &got[0] != &dst[:1][0] {
		t.Errorf("the content lies elsewhere, error %v", err)
	}
}

func TestCompressionIsUsedOnlyWhereItHelps(t *testing.T) {
	for n := range 600 {
		b := encoded(t, append(hashStream(n/2), make([]byte, n-n/2)...), EncodeOptions{Compress: true})
		if kind, _ := b.Kind(); kind.IsZstd() != (len(b) < n+PlainHeaderSize) {
			t.Errorf("%d bytes become %d as %s", n, len(b), kind)
		}
	}
}

func TestDamagedBlobsAreRefused(t *testing.T) {
	for _, opt := range encodings {
		b := encoded(t, textLike(1000), opt)
		kind, _ := b.Kind()
		for i := range b {
			damaged := slices.Clone(b)
			damaged[i] ^= 0x10
			_, err := damaged.Decode(nil, testKey)
			if i >= ivStart && i < kind.HeaderSize() {
				wantErr(t, fmt.Sprintf("byte %d of a %s blob", i, kind), err, ErrWrongKey)
			} else {
				wantErr(t, fmt.Sprintf("byte %d of a %s blob", i, kind), err, ErrCorrupt)
			}
		}
		for n := range len(b) {
			wantErr(t, fmt.Sprintf("%d bytes of a %s blob", n, kind), b[:n].Check(), ErrCorrupt)
		}
	}
}

func TestCheckSaysWhatIsWrong(t *testing.T) {
	good := encoded(t, []byte("hello"), EncodeOptions{})
	for _, tt := range []struct {
		name, want string
		b          Blob
	}{
		{"nothing at all", "0 bytes are too few for a blob", nil},
		{"a header cut off", "11 bytes are too few for a blob", good[:11]},
		{"an encrypted header cut off", "43 bytes are too few for an encrypted blob", encoded(t, nil, EncodeOptions{Key: testKey})[:43]},
		{"a wrong magic", "ffffffffffffffff is not the magic of a blob", bytes.Repeat([]byte{0xff}, 20)},
		{"a changed byte", "the blob's CRC is 0d7e864e, its header says 3610a686", append(slices.Clone(good[:16]), 'O')},
		{"more than a server accepts", "a blob of 16777261 bytes, at most 16777260", make(Blob, MaxBlob+1)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := tt.b.Check()
			wantErr(t, "check", err, ErrCorrupt)
			wantText(t, err, tt.want)
			wantErr(t, "verify", tt.b.Verify(Digest{}, nil), ErrCorrupt)
		})
	}
}

func TestSetCRC(t *testing.T) {
	for _, opt := range encodings {
		b := encoded(t, textLike(1000), opt)
		copy(b[magicSize:], "junk")
		wantErr(t, "check", b.Check(), ErrCorrupt)
		if err := b.SetCRC(); err != nil {
			t.Error(err)
		}
		if err := b.Check(); err != nil {
			t.Error(err)
		}
	}
	wantErr(t, "set the CRC of no blob", Blob("short").SetCRC(), ErrCorrupt)
}

func TestKeyErrorsHaveHints(t *testing.T) {
	b := encoded(t, []byte("hello"), EncodeOptions{Key: testKey})
	for _, tt := range []struct {
		key  *Key
		want error
		hint string
	}{
		{nil, ErrNoKey, "--keyfile"},
		{NewKey([32]byte{1}), ErrWrongKey, "fingerprint"},
	} {
		_, err := b.Decode(nil, tt.key)
		wantErr(t, "decode", err, tt.want)
		if errors.Is(err, ErrCorrupt) {
			t.Errorf("%v counts as damage, and a healer would replace a good chunk", err)
		}
		var hinted interface{ Hint() string }
		if !errors.As(err, &hinted) || !strings.Contains(hinted.Hint(), tt.hint) {
			t.Errorf("%v has no hint with %q", err, tt.hint)
		}
	}
}

func FuzzBlob(f *testing.F) {
	for _, opt := range encodings {
		f.Add([]byte(encoded(f, textLike(500), opt)), true)
	}
	f.Add([]byte(frame(frameHeaderUnknown, rle(1<<20), last(raw("x")))), true)
	f.Add([]byte(strings.Repeat("hello ", 100)), false)
	f.Fuzz(func(t *testing.T, data []byte, isBlob bool) {
		if !isBlob {
			for _, opt := range encodings {
				b := encoded(t, data, opt)
				if got, err := b.Decode(nil, opt.Key); err != nil || !bytes.Equal(got, data) {
					t.Fatalf("decoded to %d other bytes, error %v", len(got), err)
				}
			}
			return
		}
		b := slices.Clone(Blob(data))
		if b.SetCRC() != nil {
			return // the CRC would hide everything behind it
		}
		n, known := b.PlainLen()
		plain, err := b.Decode(nil, testKey)
		switch {
		case err != nil:
			if !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrWrongKey) {
				t.Fatalf("an error of no kind: %v", err)
			}
		case known && n != len(plain):
			t.Fatalf("PlainLen is %d, there are %d bytes", n, len(plain))
		case b.Verify(b.digestOf(plain), testKey) != nil:
			t.Fatalf("the digest of its own content does not fit")
		}
	})
}

func (b Blob) digestOf(plain []byte) Digest {
	if kind, _ := b.Kind(); kind.IsEncrypted() {
		return testKey.Digest(plain)
	}
	return Sum(plain)
}
