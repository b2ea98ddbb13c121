package chunks

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// countingKey has the bytes 00 to 1f, as the vectors of §5.5 do.
func countingKey() *Key {
	var raw [KeySize]byte
	for i := range raw {
		raw[i] = byte(i)
	}
	return NewKey(raw)
}

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestKeyVectors(t *testing.T) {
	k := countingKey()
	const fingerprint = "0e:ab:d4:46:0b:6e:b9:ca:34:50:23:de:e2:b7:78:c7:90:e5:4a:16:83:b9:65:9c:0a:57:ae:19:90:90:15:9b"
	if got := k.Fingerprint().String(); got != fingerprint {
		t.Errorf("fingerprint is %s, want %s", got, fingerprint)
	}
	if got := k.Fingerprint().Short(); got != fingerprint[:23] {
		t.Errorf("short fingerprint is %s, want %s", got, fingerprint[:23])
	}
	const digest = "348571e12bbbedb529def1f1394316e338a01945d871df9ef792617ceb13d636"
	if got := k.Digest(make([]byte, 4<<20)).String(); got != digest {
		t.Errorf("digest of 4 MiB of zeros is %s, want %s", got, digest)
	}
	if raw := k.Raw(); NewKey(raw).Fingerprint() != k.Fingerprint() || raw[31] != 31 {
		t.Errorf("the raw key does not give the same key again")
	}
}

func TestKeySignatureIsThatOfTheRealClient(t *testing.T) {
	raw := unhex(t, "28cdb1a3bef39396c3860e00d448fe7a0efd8244486ab6feb30457681d31597e")
	one, two := strings.Repeat("01", 32), strings.Repeat("02", 32)
	canonical := `{"backup-id":"elsa","backup-time":1593179765,"backup-type":"host","files":[` +
		`{"crypt-mode":"encrypt","csum":"` + one + `","filename":"test1.img.fidx","size":200},` +
		`{"crypt-mode":"none","csum":"` + two + `","filename":"abc.blob","size":200}]}`
	sum := NewKey([KeySize]byte(raw)).Sign([]byte(canonical))
	if got, want := hex.EncodeToString(sum[:]), "d7b446fb7db081662081d4b40fedd858a1d6307a5aff4ecff7d5bf4fd35679e9"; got != want {
		t.Errorf("signature is %s, want %s", got, want)
	}
}

// TestOpenReadsRealCiphertext opens the data of a key file that the official
// client wrote: nonce, tag and a key of 32 bytes, under a derived key.
func TestOpenReadsRealCiphertext(t *testing.T) {
	data, err := base64.StdEncoding.DecodeString("WIbXlKLgrsqNYu/VCUyzWqTs5dKxvHQ+eLf+1GKtSXN6hlM+7dwTkbVjAYhaQq09UMTyFLi9xtC0FIgh6h1eAg==")
	if err != nil {
		t.Fatal(err)
	}
	k := NewKey([KeySize]byte(unhex(t, "bf1d844800bef88a162b0a90c818e987ed47583e5b31929271229eedfe4f77d2")))
	plain, err := k.Open(nil, data[:16], data[16:32], data[32:])
	if want := "1dcda50ca5b9e29df63f6275e7ed6b62ca9af8e6838fc9b58d9d475252cfc245"; err != nil || hex.EncodeToString(plain) != want {
		t.Fatalf("opened %x, %v; want %s", plain, err, want)
	}
	out, tag := k.Seal(nil, data[:16], plain)
	if !bytes.Equal(tag[:], data[16:32]) || !bytes.Equal(out, data[32:]) {
		t.Errorf("sealed %x with tag %x, want %x with tag %x", out, tag, data[32:], data[16:32])
	}
}

func TestOpenReturnsWhatWasSealedAndRefusesEveryChange(t *testing.T) {
	k := countingKey()
	rapid.Check(t, func(t *rapid.T) {
		plain := rapid.SliceOfN(rapid.Byte(), 0, 100).Draw(t, "plain")
		iv := rapid.SliceOfN(rapid.Byte(), IVSize, IVSize).Draw(t, "iv")
		head := rapid.SliceOfN(rapid.Byte(), 0, 20).Draw(t, "head")

		sealed, tag := k.Seal(bytes.Clone(head), iv, plain)
		if !bytes.HasPrefix(sealed, head) || len(sealed) != len(head)+len(plain) {
			t.Fatalf("sealing %d bytes after %d gave %d", len(plain), len(head), len(sealed))
		}
		ciphertext := sealed[len(head):]
		opened, err := k.Open(bytes.Clone(head), iv, tag[:], ciphertext)
		if err != nil || !bytes.Equal(opened, append(bytes.Clone(head), plain...)) {
			t.Fatalf("opened %x, %v; want %x after %x", opened, err, plain, head)
		}

		parts := [][]byte{iv, tag[:], ciphertext}
		whole := bytes.Join(parts, nil)
		bit := rapid.IntRange(0, 8*len(whole)-1).Draw(t, "bit")
		whole[bit/8] ^= 1 << (bit % 8)
		if got, err := k.Open(nil, whole[:16], whole[16:32], whole[32:]); err == nil || got != nil {
			t.Fatalf("with bit %d changed Open returned %x, %v", bit, got, err)
		}
		if got, err := k.Open(ciphertext[:0], iv, tag[:], ciphertext); err != nil || !bytes.Equal(got, plain) {
			t.Fatalf("opening in place gave %x, %v; want %x", got, err, plain)
		}
	})
}

func TestOpenRefusesWrongSizes(t *testing.T) {
	k := countingKey()
	out, tag := k.Seal(nil, make([]byte, IVSize), []byte("text"))
	for _, test := range []struct {
		name    string
		iv, tag []byte
	}{
		{"a nonce of the usual 12 bytes", make([]byte, 12), tag[:]},
		{"no nonce", nil, tag[:]},
		{"a short tag", make([]byte, IVSize), tag[:12]},
		{"a long tag", make([]byte, IVSize), append(tag[:], 0)},
	} {
		if _, err := k.Open(nil, test.iv, test.tag, out); err == nil || !strings.Contains(err.Error(), "want 16 and 16") {
			t.Errorf("%s: error is %v", test.name, err)
		}
	}
}

func TestWrongKeyIsNamedInTheError(t *testing.T) {
	k := countingKey()
	iv := make([]byte, IVSize)
	out, tag := NewKey([KeySize]byte{}).Seal(nil, iv, []byte("text"))
	if _, err := k.Open(nil, iv, tag[:], out); err == nil || !strings.Contains(err.Error(), k.Fingerprint().Short()) {
		t.Errorf("error is %v, want one with the fingerprint %s", err, k.Fingerprint().Short())
	}
}

func TestKeyAllocations(t *testing.T) {
	k := countingKey()
	plain := make([]byte, 4096)
	iv := make([]byte, IVSize)
	sealed := make([]byte, 0, len(plain)+TagSize)
	opened := make([]byte, 0, len(plain)+TagSize)
	_, tag := k.Seal(sealed, iv, plain)
	for _, test := range []struct {
		name string
		do   func()
	}{
		{"Digest", func() { k.Digest(plain) }},
		{"Seal", func() { k.Seal(sealed, iv, plain) }},
		{"Open", func() { k.Open(opened, iv, tag[:], sealed[:len(plain)]) }},
	} {
		if n := testing.AllocsPerRun(100, test.do); n != 0 {
			t.Errorf("%s allocates %v times", test.name, n)
		}
	}
}

func TestNothingPrintsAKey(t *testing.T) {
	raw := [KeySize]byte([]byte("thirty-two bytes of plain text!!"))
	k := NewKey(raw)
	type holder struct {
		ByPointer *Key
		hidden    *Key
		byValue   Key
	}
	h := holder{k, k, *k}
	secrets := []string{string(raw[:6]), hex.EncodeToString(raw[:4]), fmt.Sprint(raw[0], raw[1], raw[2]), fmt.Sprintf("%#v", raw[0]) + ", " + fmt.Sprintf("%#v", raw[1])}
	for _, format := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%T %v"} {
		for _, value := range []any{k, *k, h, &h, []*Key{k}, []Key{*k}, k.Fingerprint()} {
			printed := fmt.Sprintf(format, value)
			for _, secret := range secrets {
				if strings.Contains(strings.ToLower(printed), secret) {
					t.Errorf("%s of a %T prints the key: %s", format, value, printed)
				}
			}
		}
	}
	if want := "key " + k.Fingerprint().Short(); k.String() != want || fmt.Sprintf("%x", k) != want || k.GoString() != want {
		t.Errorf("a key prints as %q, %q and %q, want %q", k.String(), fmt.Sprintf("%x", k), k.GoString(), want)
	}
	if b, err := json.Marshal(h); err != nil || string(b) != `{"ByPointer":{}}` {
		t.Errorf("JSON of a key is %s, %v", b, err)
	}
}

func TestParseFingerprint(t *testing.T) {
	good := countingKey().Fingerprint()
	for _, test := range []struct{ name, text, want string }{
		{"what String writes", good.String(), ""},
		{"upper case", strings.ToUpper(good.String()), ""},
		{"an empty text", "", "has 0 characters, want 95"},
		{"the short form", good.Short(), "has 23 characters"},
		{"no colons", strings.ReplaceAll(good.String(), ":", ""), "has 64 characters"},
		{"dashes for colons", strings.ReplaceAll(good.String(), ":", "-"), "no colon before byte 2"},
		{"a digit that is none", strings.Replace(good.String(), "0e", "0x", 1), "invalid byte"},
		{"one pair too many", good.String() + ":00", "has 98 characters"},
	} {
		got, err := ParseFingerprint(test.text)
		switch {
		case test.want == "" && (err != nil || got != good):
			t.Errorf("%s: %v, %v", test.name, got, err)
		case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)):
			t.Errorf("%s: error is %v, want one with %q", test.name, err, test.want)
		}
	}
	var back struct{ F Fingerprint }
	text, err := json.Marshal(struct{ F Fingerprint }{good})
	if err != nil || json.Unmarshal(text, &back) != nil || back.F != good {
		t.Errorf("JSON %s, %v reads back as %v", text, err, back.F)
	}
}

// FuzzParseFingerprint: what is accepted is written back the same, but for
// the case of letters.
func FuzzParseFingerprint(f *testing.F) {
	f.Add(countingKey().Fingerprint().String())
	f.Add(strings.Repeat("00:", 32))
	f.Fuzz(func(t *testing.T, text string) {
		if parsed, err := ParseFingerprint(text); err == nil && parsed.String() != strings.ToLower(text) {
			t.Errorf("%q is written back as %s", text, parsed)
		}
	})
}

func BenchmarkKey(b *testing.B) {
	k := countingKey()
	plain := make([]byte, 4<<20)
	iv := make([]byte, IVSize)
	sealed, tag := k.Seal(nil, iv, plain)
	buf := make([]byte, 0, len(plain)+TagSize)
	for _, bench := range []struct {
		name string
		do   func()
	}{
		{"Digest", func() { k.Digest(plain) }},
		{"Seal", func() { k.Seal(buf, iv, plain) }},
		{"Open", func() { k.Open(buf, iv, tag[:], sealed) }},
	} {
		b.Run(bench.name, func(b *testing.B) {
			b.SetBytes(int64(len(plain)))
			b.ReportAllocs()
			for b.Loop() {
				bench.do()
			}
		})
	}
}
