package manifest

import (
	"encoding/json"
	"math"
	"strings"
	"testing"
)

func TestNotes(t *testing.T) {
	m := New(snapshot)
	for _, notes := range []string{"one line", "two\nlines\t\"quoted\" <b> \u2028 é \x00", ""} {
		if err := m.SetNotes(notes); err != nil || m.Notes() != notes {
			t.Errorf("notes %q are %q, error %v", notes, m.Notes(), err)
		}
	}
	if raw := m.GetUnprotected("notes"); raw != nil {
		t.Errorf("removed notes are %s", raw)
	}
	if err := m.SetNotes("\xff"); err == nil {
		t.Error("notes need not be text")
	}
}

func TestVerifyState(t *testing.T) {
	m := New(snapshot)
	if v, ok := m.VerifyState(); ok {
		t.Errorf("never verified: %+v", v)
	}
	for _, want := range []VerifyState{{"ok", "UPID:a"}, {"failed", "UPID:b"}} {
		if err := m.SetVerifyState(want); err != nil {
			t.Fatal(err)
		}
		if got, ok := m.VerifyState(); !ok || got != want || got.OK() != (want.State == "ok") {
			t.Errorf("%+v, %v, want %+v", got, ok, want)
		}
	}
	if got, want := string(m.GetUnprotected("verify_state")), `{"state":"failed","upid":"UPID:b"}`; got != want {
		t.Errorf("JSON %s, want %s", got, want)
	}
	if err := m.SetUnprotected("verify_state", object{"upid": "UPID:c"}); err != nil {
		t.Fatal(err)
	}
	if v, ok := m.VerifyState(); ok {
		t.Errorf("verified without a state: %+v", v)
	}
	if err := m.SetVerifyState(VerifyState{State: "maybe"}); err == nil {
		t.Error("a state may be anything")
	}
}

func TestUploadStats(t *testing.T) {
	m := New(snapshot)
	want := UploadStats{1, math.MaxUint64, 3, 4}
	m.SetUploadStats(want)
	if got, ok := m.UploadStats(); !ok || got != want {
		t.Errorf("%+v, %v, want %+v", got, ok, want)
	}
	if got, want := string(m.GetUnprotected("chunk_upload_stats")), `{"compressed_size":3,"count":1,"duplicates":4,"size":18446744073709551615}`; got != want {
		t.Errorf("JSON %s, want %s", got, want)
	}
}

// TestForeignUnprotectedValues: nothing that somebody else put there makes a
// manifest useless, and it stays what it was.
func TestForeignUnprotectedValues(t *testing.T) {
	const foreign = `{"chunk_upload_stats":{"count":-1},"key-fingerprint":5,"notes":[],"verify_state":"ok"}`
	m, err := Parse([]byte(text("", `,"unprotected":`+foreign)))
	if err != nil {
		t.Fatal(err)
	}
	if notes := m.Notes(); notes != "" {
		t.Errorf("notes %q", notes)
	}
	if v, ok := m.VerifyState(); ok || v != (VerifyState{}) {
		t.Errorf("state %+v", v)
	}
	if u, ok := m.UploadStats(); ok || u != (UploadStats{}) {
		t.Errorf("statistics %+v", u)
	}
	if f, ok := m.KeyFingerprint(); ok {
		t.Errorf("fingerprint %s", f)
	}
	if got := string(appendCanonical(nil, m.unprotected)); got != foreign {
		t.Errorf("it became %s", got)
	}
}

func TestSetUnprotected(t *testing.T) {
	deep := json.RawMessage(strings.Repeat("[", 127) + strings.Repeat("]", 127))
	for _, tt := range []struct {
		about, name string
		value       any
		want        string // "": refused
	}{
		{"text", "change-detection-fingerprint", "ab:cd", `"ab:cd"`},
		{"a structure", "x", struct {
			B []int `json:"b"`
			A any   `json:"a"`
		}{[]int{1}, nil}, `{"a":null,"b":[1]}`},
		{"a number that is text keeps its digits", "x", json.Number("1.00"), "1.00"},
		{"as deep as a manifest may be", "x", deep, string(deep)},
		{"deeper than a manifest may be", "x", json.RawMessage("[" + string(deep) + "]"), ""},
		{"what has no JSON", "x", func() {}, ""},
		{"not a number", "x", math.NaN(), ""},
		{"one name twice", "x", json.RawMessage(`{"a":1,"a":2}`), ""},
		{"a name that is no text", "\xff", 1, ""},
	} {
		t.Run(tt.about, func(t *testing.T) {
			var m Manifest // the zero value must do
			m.Type, m.ID, m.Time = snapshot.Type, snapshot.ID, snapshot.Time
			err := m.SetUnprotected(tt.name, tt.value)
			if (err == nil) != (tt.want != "") || string(m.GetUnprotected(tt.name)) != tt.want {
				t.Fatalf("%s, error %v, want %q", m.GetUnprotected(tt.name), err, tt.want)
			}
			if _, err := m.JSON(); err != nil {
				t.Errorf("cannot be written any more: %v", err)
			}
			if err := m.SetUnprotected(tt.name, nil); err == nil && m.GetUnprotected(tt.name) != nil {
				t.Error("null does not remove it")
			}
		})
	}
}
