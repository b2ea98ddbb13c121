package wire

import (
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

// What is read of an answer is what JSON says of its data, and one without any
// is refused.
func FuzzAnswer(f *testing.F) {
	for _, seed := range []string{`{"data":null}`, `{"data":[{"n":1}],"total":3,"active":true}`, `{"total":1}`, `null`, `[]`, `{"data":1}{"data":2}`, "\x00"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		a, err := parseAnswer[any](text)
		var members map[string]json.RawMessage
		whole := json.Unmarshal(text, &members)
		if err != nil {
			return
		}
		var want any
		if whole != nil {
			t.Fatalf("%q was accepted: %v", text, whole)
		}
		for name, data := range members {
			if strings.EqualFold(name, "data") {
				if err := json.Unmarshal(data, &want); err != nil {
					t.Fatal(err)
				}
				if reflect.DeepEqual(a.Data, want) {
					return
				}
			}
		}
		t.Errorf("%q: got %v", text, a.Data)
	})
}

// What a server says fits on one line of a terminal, and says it once.
func FuzzOneLine(f *testing.F) {
	for _, seed := range []string{"no such datastore 'x'", "a\nb\tc", "\x1b[31mred", "\xff\xfe", "  "} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		line := OneLine(s)
		if !utf8.ValidString(line) || strings.IndexFunc(line, func(r rune) bool { return !unicode.IsPrint(r) }) >= 0 {
			t.Errorf("%q became %q", s, line)
		}
		if OneLine(line) != line {
			t.Errorf("%q became %q", line, OneLine(line))
		}
	})
}

// What is escaped can stand in a path, and reads as it was.
func FuzzEscape(f *testing.F) {
	for _, seed := range []string{`UPID:pbs3:00000001:garbage_collection:store1\x3a-host:admin@pbs:`, "a/../b", "%41"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		escaped := Escape(s)
		back, err := url.PathUnescape(escaped)
		if err != nil || back != s || strings.ContainsAny(escaped, "/.?#") {
			t.Errorf("%q became %q, which reads %q, %v", s, escaped, back, err)
		}
		cookie := encodeHeader(s)
		if back, err := url.PathUnescape(cookie); err != nil || back != s || strings.IndexFunc(cookie, func(r rune) bool { return r <= ' ' || r > '~' }) >= 0 {
			t.Errorf("%q became %q, which reads %q, %v", s, cookie, back, err)
		}
	})
}

func TestRefusalsAreTold(t *testing.T) {
	req, err := http.NewRequest("GET", "https://host/api2/json/version?a=b", nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		name       string
		status     int
		body       string
		want, hint string
	}{
		{"a text", 400, "no such datastore 'x'", "host:8007 refused GET /api2/json/version: no such datastore 'x' (status 400)", "may see it"},
		{"nothing", 404, "", "Not Found (status 404)", ""},
		{"a terminal's commands", 400, "a\x1b[2Jb\nc", ": a[2Jb c (status 400)", ""},
		{"too much", 403, strings.Repeat("x", 1<<20), "x (status 403)", "lacks a privilege"},
		{"a login", 401, "authentication failed", "(status 401)", "check the user"},
		{"an overload", 503, "busy", "(status 503)", "try again"},
	} {
		e := refused("host:8007", req, &http.Response{StatusCode: row.status, Body: io.NopCloser(strings.NewReader(row.body))})
		if !strings.Contains(e.Error(), row.want) || !strings.Contains(e.Hint(), row.hint) || len(e.Message) > maxMessage {
			t.Errorf("%s: got %.200s with the hint %q", row.name, e, e.Hint())
		}
		if errors.Is(e, fs.ErrNotExist) != (row.status == 404) {
			t.Errorf("%s: is it fs.ErrNotExist?", row.name)
		}
	}
}

// What a server knows to do about it is better than what its text makes us think. It is
// printed, so it is one line, and not endless.
func TestHintOfTheServer(t *testing.T) {
	req, err := http.NewRequestWithContext(t.Context(), "GET", "https://host:8007/api2/json/version", nil)
	if err != nil {
		t.Fatal(err)
	}
	for said, want := range map[string]string{"": "may see it", "it is a draft": "it is a draft", "a\x1b[2Jb": "a[2Jb", strings.Repeat("x", 1<<20): "xxx"} {
		header := http.Header{"Holdfast-Hint": {said}}
		e := refused("host:8007", req, &http.Response{StatusCode: 400, Header: header, Body: io.NopCloser(strings.NewReader("no such datastore 'x'"))})
		if hint := e.Hint(); !strings.Contains(hint, want) || len(hint) > maxHint {
			t.Errorf("%.20q: %.200q", said, hint)
		}
	}
}

// The login and the backup are asked for with two slashes, as PBS's client does, and
// messages showed them: "GET //api2/json/backup".
func TestMessagesNameAPathAsItIs(t *testing.T) {
	srv, err := New(Config{Host: "host", Address: "host:8007", User: "a@b", Password: "p"})
	if err != nil {
		t.Fatal(err)
	}
	const twice = "/" + Base + "/backup"
	req, err := srv.newRequest(t.Context(), Request{Method: "GET", Path: twice})
	if err != nil || req.URL.Path != twice {
		t.Fatalf("%v, asked for at %s", err, req.URL)
	}
	near, far := net.Pipe()
	far.Close()
	_, lost := srv.shakeHands(t.Context(), link{Conn: near}, req)
	for _, err := range []error{
		refused("host:8007", req, &http.Response{StatusCode: 400, Body: io.NopCloser(strings.NewReader("no"))}),
		srv.brokenCall(t.Context(), Request{Method: "GET", Path: twice}, io.EOF), lost,
	} {
		if !strings.Contains(err.Error(), "GET "+Base+"/backup") || strings.Contains(err.Error(), "//") {
			t.Error(err)
		}
	}
}

func TestLongParametersOfAChangeGoIntoTheBody(t *testing.T) {
	srv, err := New(Config{Host: "host", Address: "host:8007", User: "a@b", Password: "p"})
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{10, 10000} {
		q := url.Values{"notes": {strings.Repeat("x", n)}}
		req, err := srv.newRequest(t.Context(), Request{Method: "PUT", Path: Base + "/notes", Query: q})
		if err != nil {
			t.Fatal(err)
		}
		if n > maxTarget {
			body, err := io.ReadAll(req.Body)
			if err != nil || string(body) != q.Encode() || req.URL.RawQuery != "" || req.Header.Get("Content-Type") != Form {
				t.Errorf("%d bytes: got the body %.50q, %v", n, body, err)
			}
		} else if req.Body != nil || req.URL.RawQuery != q.Encode() {
			t.Errorf("%d bytes: got the query %.50q", n, req.URL.RawQuery)
		}
	}
}
