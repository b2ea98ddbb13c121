package upgrade

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func request(query, kind, body string) *http.Request {
	r := httptest.NewRequest("POST", "/x?"+query, strings.NewReader(body))
	r.Header.Set("Content-Type", kind)
	return r
}

const (
	jsonKind = "application/json; charset=UTF-8"
	formKind = "application/x-www-form-urlencoded"
	zeros    = "0000000000000000000000000000000000000000000000000000000000000000"
)

func TestParams(t *testing.T) {
	read := func(p *Params) { p.Int("wid", 1, 256); p.Bool("on"); p.Digests("list") }
	for _, tt := range []struct{ name, query, kind, body, want string }{
		{"all in the query", "wid=1&on=1&list=" + zeros, formKind, "", ""},
		{"all in a form", "", formKind, "wid=256&on=YES&list=" + zeros, ""},
		{"all in JSON", "", jsonKind, `{"wid":1,"on":true,"list":["` + zeros + `"]}`, ""},
		{"numbers and booleans as text", "", jsonKind, `{"wid":"1","on":"off","list":[]}`, ""},
		{"the body counts more than the query", "wid=0", jsonKind, `{"wid":1,"list":[]}`, ""},
		{"null is as good as nothing", "wid=1&list=" + zeros, jsonKind, `{"on":null}`, ""},
		{"one is missing", "list=" + zeros, formKind, "", "parameter verification failed - 'wid': parameter is missing and it is not optional."},
		{"a number that is none", "wid=x&list=" + zeros, formKind, "", "parameter verification failed - 'wid': invalid digit found in string"},
		{"a number that is broken", "", jsonKind, `{"wid":1.5,"list":[]}`, "invalid digit found in string"},
		{"a number too low", "wid=0&list=" + zeros, formKind, "", "'wid': value must have a minimum value of 1 (got 0)"},
		{"a number too high", "wid=257&list=" + zeros, formKind, "", "'wid': value must have a maximum value of 256 (got 257)"},
		{"a boolean that is none", "wid=1&on=maybe&list=" + zeros, formKind, "", "'on': Unable to parse boolean option."},
		{"a bad digest in a list", "wid=1&list=" + zeros + "&list=x", formKind, "", "'list': [1]: "},
		{"more than one thing wrong", "", formKind, "", "parameter verification failed:\n- 'wid': parameter is missing and it is not optional.\n- 'list': parameter"},
		{"an object as a value", "", jsonKind, `{"wid":{}}`, "it is neither a text, a number nor a list of those"},
		{"a query that cannot be read", "wid=1&on=%zz&list=" + zeros, formKind, "", `invalid URL escape "%zz"`},
		{"another content type", "", "text/plain", "x", `unsupported content type "text/plain"`},
		{"a body that is too long", "", jsonKind, strings.Repeat(" ", maxParams+1), "Request body too large"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, err := AllParams(request(tt.query, tt.kind, tt.body))
			if err == nil {
				read(p)
				err = p.Err()
			}
			switch {
			case tt.want == "" && err != nil:
				t.Error(err)
			case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
				t.Errorf("%v, want %q", err, tt.want)
			case err != nil && StatusOf(err) != http.StatusBadRequest:
				t.Errorf("status %d", StatusOf(err))
			}
		})
	}
}

// FuzzParams: whatever comes, reading it neither panics nor returns a number
// out of its bounds without an error.
func FuzzParams(f *testing.F) {
	f.Add("wid=1&list="+zeros, formKind, "")
	f.Add("", jsonKind, `{"wid":7,"digest-list":["`+zeros+`"],"offset-list":[0,-1]}`)
	f.Add("", jsonKind, `{"wid":[],"offset-list":[[]]}`)
	f.Add("", jsonKind, `[null]`)
	f.Add("%zz", formKind, "a=%")
	f.Fuzz(func(t *testing.T, query, kind, body string) {
		r := request("", kind, body)
		r.URL.RawQuery = query
		p, err := AllParams(r)
		if err != nil {
			return
		}
		n := p.Int("wid", 1, 256)
		digests, offsets := p.Digests("digest-list"), p.Ints("offset-list")
		p.Snapshot()
		p.Namespace()
		p.Archive("archive-name")
		if bad := n < 1 || n > 256; bad && p.Err() == nil {
			t.Errorf("wid %d, %d digests, %d offsets, and no error", n, len(digests), len(offsets))
		}
	})
}
