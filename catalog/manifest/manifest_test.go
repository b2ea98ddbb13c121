package manifest

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/holdfast-mesh/holdfast/catalog/naming"
	"github.com/holdfast-mesh/holdfast/chunks"
)

var snapshot = naming.Snapshot{Group: naming.Group{Type: naming.VM, ID: "100"}, Time: 1700000000}

// csum is a sum of a file, in hexadecimal.
var csum = strings.Repeat("ab", chunks.DigestSize)

// text writes a manifest with these files and further members.
func text(files, more string) string {
	return `{"backup-type":"vm","backup-id":"100","backup-time":1700000000,"files":[` + files + `]` + more + `}`
}

func file(name, more string) string {
	return fmt.Sprintf(`{"filename":%q,"size":5,"csum":%q%s}`, name, csum, more)
}

func TestParse(t *testing.T) {
	for _, tt := range []struct{ about, text, err string }{
		{"the least there can be", text("", ""), ""},
		{"a file without crypt mode", text(file("a.blob", ""), ""), ""},
		{"a signature that is null, an unprotected part that is null", text("", `,"signature":null,"unprotected":null`), ""},
		{"members that are unknown", text(file("a.blob", `,"x":[1,null]`), `,"y":{"z":null}`), ""},
		{"a size beyond int64", text(strings.Replace(file("a.blob", ""), "5", "18446744073709551615", 1), ""), ""},
		{"white space around and in it", " \t\r\n" + strings.ReplaceAll(text(file("a.blob", ""), ""), ",", " ,\n\t") + "\n", ""},
		{"the log of a client, which PBS does not list", text(file("client.log.blob", ""), ""), ""},

		{"nothing", "", "byte 0: the text ends, want a value"},
		{"half of it", `{"backup-type":"vm"`, "byte 19: the text ends"},
		{"more than one text", text("", "") + "{}", "found '{', want the end"},
		{"a text behind a NUL", text("", "") + "\x00{}", `found '\x00', want the end`},
		{"an array", "[]", "not an object"},
		{"no type", strings.Replace(text("", ""), "type", "kind", 1), "backup-type: is missing"},
		{"an unknown type", strings.Replace(text("", ""), `"vm"`, `"pod"`, 1), `backup type "pod" is unknown`},
		{"an ID that leads out", strings.Replace(text("", ""), `"100"`, `"../1"`, 1), "begins with '.'"},
		{"an ID that is a number", strings.Replace(text("", ""), `"100"`, `100`, 1), "backup-id: is missing, null or of another type"},
		{"a time with an exponent", strings.Replace(text("", ""), "1700000000", "1.7e9", 1), "backup-time: is 1.7e9"},
		{"a time that is text", strings.Replace(text("", ""), "1700000000", `"1700000000"`, 1), "backup-time: is missing"},
		{"time zero", strings.Replace(text("", ""), "1700000000", "0", 1), "between 1970 and 9999"},
		{"a time in the year 10000", strings.Replace(text("", ""), "1700000000", "253402300800", 1), "between 1970 and 9999"},
		{"no files", strings.Replace(text("", ""), "files", "file", 1), "files: is missing"},
		{"files that are null", strings.Replace(text("", ""), "[]", "null", 1), "files: is missing"},
		{"a file that is null", text("null", ""), "file 0, \"\": not an object"},
		{"a file that leads out", text(file("../../a.blob", ""), ""), "begins with '.'"},
		{"a file of no known kind", text(file("a.txt", ""), ""), "does not end in"},
		{"a manifest in itself", text(file("index.json.blob", ""), ""), "cannot list itself"},
		{"one file twice", text(file("a.blob", "")+","+file("a.blob", ""), ""), `file 1, "a.blob": it is listed already`},
		{"a negative size", text(strings.Replace(file("a.blob", ""), "5", "-5", 1), ""), "size: is -5, want bytes"},
		{"a size beyond 64 bits", text(strings.Replace(file("a.blob", ""), "5", "18446744073709551616", 1), ""), "want bytes"},
		{"a sum of 31 bytes", text(strings.Replace(file("a.blob", ""), "ab", "", 1), ""), "csum: digest"},
		{"a sum in capitals", text(strings.ToUpper(file("a", "")), ""), "is missing"},
		{"a sum with one capital", text(strings.Replace(file("a.blob", ""), "ab", "aB", 1), ""), "csum: is not in small letters"},
		{"an unknown crypt mode", text(file("a.blob", `,"crypt-mode":"rot13"`), ""), `crypt mode "rot13" is unknown`},
		{"an empty crypt mode", text(file("a.blob", `,"crypt-mode":""`), ""), `crypt mode "" is unknown`},
		{"a crypt mode that is null", text(file("a.blob", `,"crypt-mode":null`), ""), "crypt-mode: is missing"},
		{"an empty signature", text("", `,"signature":""`), "small hexadecimal digits"},
		{"a signature without end", text("", `,"signature":"`+strings.Repeat("x", 1025)+`"`), "small hexadecimal digits"},
		{"a signature that is a number", text("", `,"signature":1`), "signature: is missing"},
		{"an unprotected part that is a list", text("", `,"unprotected":[]`), "unprotected: is missing"},
		{"two members of one name", text("", `,"a":1,"b":2,"a":1`), `two members are named "a"`},
		{"two members of one name, spelled differently", text("", `,"a":1,"\u0061":1`), `two members are named "a"`},
		{"two members of one name in the unprotected part", text("", `,"unprotected":{"notes":"a","notes":"b"}`), `two members are named "notes"`},
		{"bytes that are no characters", text("", `,"a":"`+"\xff"+`"`), "not UTF-8"},
		{"128 levels", text("", `,"a":`+strings.Repeat("[", 128)+strings.Repeat("]", 128)), ""},
		{"129 levels", text("", `,"a":`+strings.Repeat("[", 129)+strings.Repeat("]", 129)), "nested deeper than 128"},
		{"a million levels", text("", `,"a":`+strings.Repeat("[", 1_000_000)), "nested deeper than 128"},
		{"a million values", text("", `,"a":[`+strings.Repeat("0,", 1_000_000)+`0]`), "more than 262144 values"},
		{"16 MiB", text("", strings.Repeat(" ", MaxJSON-len(text("", "")))), ""},
		{"16 MiB and a byte", text("", strings.Repeat(" ", MaxJSON+1-len(text("", "")))), "want at most 16777216"},
	} {
		t.Run(tt.about, func(t *testing.T) {
			_, err := Parse([]byte(tt.text))
			if tt.err == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			if !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), tt.err) {
				t.Fatalf("error %v, want one with %q", err, tt.err)
			}
			var hint interface{ Hint() string }
			if !errors.As(err, &hint) || !strings.Contains(hint.Hint(), "another copy") {
				t.Errorf("error %q has another hint than that of a damaged file", err)
			}
			if len(err.Error()) > 600 || strings.Contains(err.Error(), "\n") {
				t.Errorf("error %q is not one short line", err)
			}
		})
	}
}

func TestParseBlobRefusesWhatIsNoManifest(t *testing.T) {
	valid := []byte(text("", ""))
	encode := func(opt chunks.EncodeOptions, text []byte) chunks.Blob {
		b, err := chunks.Encode(nil, text, opt)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	damaged := encode(chunks.EncodeOptions{}, valid)
	damaged[20] ^= 1
	for _, tt := range []struct {
		about string
		blob  chunks.Blob
		err   error
	}{
		{"a plain one is fine", encode(chunks.EncodeOptions{}, valid), nil},
		{"a compressed one is fine", encode(chunks.EncodeOptions{Compress: true}, []byte(text(file("a.blob", ""), strings.Repeat(" ", 99)))), nil},
		{"an encrypted one", encode(chunks.EncodeOptions{Key: chunks.NewKey([32]byte{1})}, valid), ErrInvalid},
		{"one that is no JSON", encode(chunks.EncodeOptions{}, []byte("hello")), ErrInvalid},
		{"one that is small only while it is compressed", encode(chunks.EncodeOptions{Compress: true}, []byte(text("", strings.Repeat(" ", MaxJSON)))), ErrInvalid},
		{"a damaged one", damaged, chunks.ErrCorrupt},
		{"an empty file", nil, chunks.ErrCorrupt},
	} {
		t.Run(tt.about, func(t *testing.T) {
			if _, err := ParseBlob(tt.blob); !errors.Is(err, tt.err) {
				t.Fatalf("error %v, want %v", err, tt.err)
			}
		})
	}
}

func TestAdd(t *testing.T) {
	m := New(snapshot)
	if err := errors.Join(m.Add(File{Name: "a.blob"}), m.Add(File{Name: "b.img.fidx", CryptMode: Encrypt})); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		about string
		file  File
		err   string
	}{
		{"a name that is listed", File{Name: "a.blob", Size: 1}, "listed already"},
		{"a name of a client", File{Name: "a.img"}, "does not end in"},
		{"a path", File{Name: "x/a.blob"}, "'/' at byte 1"},
		{"the manifest", File{Name: Name}, "cannot list itself"},
		{"the log of the client", File{Name: LogName}, "not part of its backup"},
		{"an unknown crypt mode", File{Name: "c.blob", CryptMode: "rot13"}, "is unknown"},
	} {
		t.Run(tt.about, func(t *testing.T) {
			if err := m.Add(tt.file); err == nil || !strings.Contains(err.Error(), tt.err) {
				t.Fatalf("error %v, want one with %q", err, tt.err)
			}
		})
	}
	if len(m.Files) != 2 || m.Files[0].CryptMode != None || m.Files[1].CryptMode != Encrypt {
		t.Fatalf("files %+v", m.Files)
	}
	if _, ok := m.File("c.blob"); ok {
		t.Error("a file is listed that was refused")
	}
}

// TestUnknownMembersSurvive, also numbers that no type of Go holds, and what is
// signed with them.
func TestUnknownMembersSurvive(t *testing.T) {
	const unknown = `"big":123456789012345678901234567890,"exp":1.50e+400,"list":[{"b":1.0,"a":-0},null,"\u2028 <&> / \u001f é"],"max":18446744073709551615`
	m, err := Parse([]byte(text(file("a.blob", `,"new":{`+unknown+`}`), `,"new":{`+unknown+`},"unprotected":{"new":{`+unknown+`}}`)))
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Add(File{Name: "b.blob"}); err != nil {
		t.Fatal(err)
	}
	written, err := m.JSON()
	if err != nil {
		t.Fatal(err)
	}
	var compact strings.Builder
	again, err := Parse(written)
	if err != nil {
		t.Fatal(err)
	}
	compact.Write(appendCanonical(nil, again.signed()))
	compact.Write(again.GetUnprotected("new"))
	const want = `"new":{"big":123456789012345678901234567890,"exp":1.50e+400,"list":[{"a":-0,"b":1.0},null,"` + "\u2028" + ` <&> / \u001f é"],"max":18446744073709551615}`
	if got := strings.Count(compact.String(), want); got != 2 {
		t.Errorf("found %d times, want 2:\n%s", got, compact.String())
	}
	if got := string(again.GetUnprotected("new")); `"new":`+got != want {
		t.Errorf("unprotected: %s", got)
	}
}

func TestJSONIsWhatCanBeReadBack(t *testing.T) {
	for _, tt := range []struct {
		about string
		m     *Manifest
	}{
		{"the zero value", &Manifest{}},
		{"no time", &Manifest{Type: naming.VM, ID: "1"}},
		{"a bad ID", &Manifest{Type: naming.VM, ID: "\n", Time: 1}},
		{"an ID that is no text", &Manifest{Type: naming.VM, ID: "\xff", Time: 1}},
		{"a bad file", &Manifest{Type: naming.VM, ID: "1", Time: 1, Files: []File{{Name: "/etc/passwd"}}}},
		{"a file twice", &Manifest{Type: naming.VM, ID: "1", Time: 1, Files: []File{{Name: "a.blob"}, {Name: "a.blob"}}}},
		{"a bad crypt mode", &Manifest{Type: naming.VM, ID: "1", Time: 1, Files: []File{{Name: "a.blob", CryptMode: "x"}}}},
	} {
		t.Run(tt.about, func(t *testing.T) {
			if _, err := tt.m.JSON(); !errors.Is(err, ErrInvalid) || strings.Contains(err.Error(), "\n") {
				t.Errorf("JSON: error %q", err)
			}
			if _, err := tt.m.Blob(); !errors.Is(err, ErrInvalid) {
				t.Errorf("blob: error %v", err)
			}
			if err := tt.m.Sign(chunks.NewKey([32]byte{})); !errors.Is(err, ErrInvalid) || tt.m.Signed() {
				t.Errorf("sign: error %v, signed: %v", err, tt.m.Signed())
			}
		})
	}
}

func TestPrettyForm(t *testing.T) {
	m := &Manifest{Type: naming.VM, ID: "100", Time: 1700000000}
	got, err := m.JSON()
	const want = `{
  "backup-id": "100",
  "backup-time": 1700000000,
  "backup-type": "vm",
  "files": [],
  "signature": null,
  "unprotected": {}
}`
	if err != nil || string(got) != want {
		t.Fatalf("error %v:\n%s", err, got)
	}
	compact, err := json.Marshal(m)
	if err != nil || string(compact) != `{"backup-id":"100","backup-time":1700000000,"backup-type":"vm","files":[],"signature":null,"unprotected":{}}` {
		t.Fatalf("by encoding/json, error %v:\n%s", err, compact)
	}
}

func BenchmarkParseBlob(b *testing.B) {
	blob := chunks.Blob(readFile(b, "server-encrypted.blob"))
	for b.Loop() {
		if _, err := ParseBlob(blob); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkBlob(b *testing.B) {
	m, err := ParseBlob(readFile(b, "server-encrypted.blob"))
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := m.Blob(); err != nil {
			b.Fatal(err)
		}
	}
}
