package manifest

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
)

func TestParseValue(t *testing.T) {
	for _, tt := range []struct{ about, text, want, err string }{
		{"literals", `[null,true,false]`, `[null,true,false]`, ""},
		{"members are sorted by bytes", `{"b":1,"B":2,"":3,"é":4,"a-":5,"a":6}`, `{"":3,"B":2,"a":6,"a-":5,"b":1,"é":4}`, ""},
		{"numbers keep their digits", `[0,-0,1.0,1e5,1E+05,0.10,-1.5e-7,99999999999999999999]`, `[0,-0,1.0,1e5,1E+05,0.10,-1.5e-7,99999999999999999999]`, ""},
		{"escapes that are needed stay", `"\"\\\b\f\n\r\t\u0000\u001F"`, `"\"\\\b\f\n\r\t\u0000\u001f"`, ""},
		{"escapes that are not needed go", `"\/\u0041\u003c\u2028\ud83d\ude00\u007f"`, "\"/A<\u2028\U0001F600\x7f\"", ""},
		{"the replacement character is a character", "\"\\ufffd\uFFFD\"", "\"\uFFFD\uFFFD\"", ""},
		{"white space goes", " { \"a\" : [ 1 , 2 ] , \"b\" : { } } ", `{"a":[1,2],"b":{}}`, ""},

		{"the first half of a pair", `"\ud83d"`, "", "half of a surrogate pair"},
		{"the second half of a pair", `"\ude00"`, "", "half of a surrogate pair"},
		{"a pair in the wrong order", `"\ude00\ud83d"`, "", "half of a surrogate pair"},
		{"half a pair and another escape", `"\ud83d\u0041"`, "", "half of a surrogate pair"},
		{"half a pair and an end", `"\ud83d\u`, "", "ends within an escape"},
		{"a short escape", `"\u12"`, "", "ends within an escape"},
		{"an escape that is no number", `"\u12G4"`, "", "is no hexadecimal number"},
		{"an escape with a sign", `"\u+123"`, "", "is no hexadecimal number"},
		{"an escape with an underscore", `"\u1_23"`, "", "is no hexadecimal number"},
		{"an unknown escape", `"\x41"`, "", "found 'x', want an escape"},
		{"an escape of a quote from another language", `"\'"`, "", "want an escape"},
		{"a bare newline", "\"a\nb\"", "", "a bare '\\n' within a string"},
		{"a string without end", `"abc`, "", "want the end of a string"},
		{"a backslash at the end", `"abc\`, "", "want an escape"},
		{"a leading zero", `01`, "", "found '1', want the end"},
		{"a plus", `+1`, "", "want a value"},
		{"a minus alone", `-`, "", "want a digit"},
		{"no digit before the point", `.5`, "", "want a value"},
		{"no digit after the point", `1.`, "", "want a digit"},
		{"no digit in the exponent", `1e+`, "", "want a digit"},
		{"not a number", `NaN`, "", "want a value"},
		{"a word", `nil`, "", "want a value"},
		{"a literal that goes on", `nullx`, "", "found 'x', want the end"},
		{"a comma at the end of an array", `[1,]`, "", "want a value"},
		{"a comma at the end of an object", `{"a":1,}`, "", "want the name of a member"},
		{"no comma", `[1 2]`, "", "want a comma or the end of the array"},
		{"no colon", `{"a" 1}`, "", "want a colon"},
		{"a name that is no string", `{a:1}`, "", "want the name of a member"},
		{"an array that ends as an object", `[1}`, "", "want a comma or the end of the array"},
		{"a byte order mark", "\ufeff{}", "", "found '\\ufeff', want a value"},
		{"a comment", `{} // x`, "", "found '/', want the end"},
		{"a no-break space", "\u00a0{}", "", "want a value"},
	} {
		t.Run(tt.about, func(t *testing.T) {
			v, err := parseValue(tt.text, 0)
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Fatalf("error %v, want one with %q", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := string(appendCanonical(nil, v)); got != tt.want {
				t.Fatalf("%s, want %s", got, tt.want)
			}
		})
	}
}

// FuzzValue: what is accepted is JSON to encoding/json as well, and the same
// JSON; its canonical form is one that does not change any more.
func FuzzValue(f *testing.F) {
	for _, s := range []string{
		`{"a":[1,2.0,-3e4,null,true,false,"x"],"b":{}}`, `"\ud83d\ude00\u2028\n"`, `{"a":1,"a":2}`, "\"\xff\"", `[[[[]]]]`,
		`{"é":"\u0000","":[]}`, ` [ 1 , 2 ] `, `-0`, `1e999`, `"\ud83d"`, "nul", `{"a":{"b":{"c":[{"d":0}]}}}`, "\x00", `[1,]`,
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		v, err := parseValue(s, 0)
		if err != nil {
			if json.Valid([]byte(s)) && !stricter(err) {
				t.Fatalf("valid JSON is refused: %v", err)
			}
			return
		}
		canonical := appendCanonical(nil, v)
		again, err := parseValue(string(canonical), 0)
		if err != nil || !bytes.Equal(appendCanonical(nil, again), canonical) {
			t.Fatalf("%q becomes %q, then %q, error %v", s, canonical, appendCanonical(nil, again), err)
		}
		pretty, err := parseValue(string(appendPretty(nil, v)), 0)
		if err != nil || !bytes.Equal(appendCanonical(nil, pretty), canonical) {
			t.Fatalf("the pretty form of %q is another value, error %v", s, err)
		}
		if theirs, ours := reference(t, s), reference(t, string(canonical)); theirs != ours {
			t.Fatalf("%q means %s to encoding/json, its canonical form %s", s, theirs, ours)
		}
		if hasNull(v) != strings.Contains(withoutStrings(string(canonical)), "null") {
			t.Fatalf("null in %s: %v", canonical, hasNull(v))
		}
	})
}

// stricter reports whether err is one of the deliberate differences.
func stricter(err error) bool {
	for _, text := range []string{"two members", "not UTF-8", "half of a surrogate", "nested deeper", "more than"} {
		if strings.Contains(err.Error(), text) {
			return true
		}
	}
	return false
}

// reference returns what encoding/json makes of s, with the digits of numbers.
func reference(t *testing.T, s string) string {
	t.Helper()
	var v any
	dec := json.NewDecoder(strings.NewReader(s))
	dec.UseNumber()
	if err := dec.Decode(&v); err != nil {
		t.Fatalf("%q is no JSON to encoding/json: %v", s, err)
	}
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// withoutStrings cuts strings out of JSON.
func withoutStrings(s string) string {
	var out strings.Builder
	for inside, i := false, 0; i < len(s); i++ {
		switch {
		case inside && s[i] == '\\':
			i++
		case s[i] == '"':
			inside = !inside
		case !inside:
			out.WriteByte(s[i])
		}
	}
	return out.String()
}

// FuzzManifest: a manifest that is accepted is written so that it reads back as
// the same, its canonical form does not depend on how it was spelled nor on the
// unprotected part, and a signature over it holds.
func FuzzManifest(f *testing.F) {
	for _, name := range goldenNames(f) {
		f.Add(string(readFile(f, name+".json")))
	}
	f.Add(text("", ""))
	f.Add(text(file("a.blob", `,"x":[1,null,{"y":1.0}]`), `,"signature":null,"z":18446744073709551616,"unprotected":{"notes":1}`))
	f.Add(text(file("a.blob", ``)+","+file("a.blob", ""), ""))
	key := openKey(f, "none.json")
	f.Fuzz(func(t *testing.T, s string) {
		m, err := Parse([]byte(s))
		if err != nil {
			return
		}
		written, err := m.JSON()
		if err != nil {
			t.Fatalf("%q cannot be written: %v", s, err)
		}
		again, err := Parse(written)
		if err != nil {
			t.Fatalf("%q is written so that it cannot be read: %v", s, err)
		}
		twice, err := again.JSON()
		if err != nil || !bytes.Equal(written, twice) {
			t.Fatalf("%q is written as %q, then as %q, %v", s, written, twice, err)
		}
		if err := m.SetNotes("fuzz"); err != nil {
			t.Fatal(err)
		}
		before, err1 := again.Canonical()
		after, err2 := m.Canonical()
		if err1 != nil || err2 != nil || !bytes.Equal(before, after) {
			t.Fatalf("%q has the canonical forms %q and %q, %v, %v", s, before, after, err1, err2)
		}
		if err := m.Sign(key); err != nil {
			if !hasNull(m.signed()) {
				t.Fatalf("%q cannot be signed: %v", s, err)
			}
			return
		}
		if err := m.Check(key); err != nil {
			t.Fatal(err)
		}
	})
}
