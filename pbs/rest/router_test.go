package rest

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-mesh/holdfast/access"
	"github.com/holdfast-mesh/holdfast/pbs/upgrade"
)

// gate knows who an Authorization header names, and lets "admin@pbs" do all.
type gate struct{}

func (gate) Check(_ context.Context, c access.Credentials) (access.AuthID, error) {
	if c.Authorization == "" {
		return "", &access.Error{Kind: access.ErrUnauthenticated, Text: "authentication failed - no authentication credentials provided."}
	}
	return access.AuthID(c.Authorization), nil
}

func (gate) Privileges(id access.AuthID, _ ...string) access.Privilege {
	if id == "admin@pbs" {
		return access.AllPrivileges
	}
	return 0
}

func (g gate) AnyBelow(id access.AuthID, path ...string) access.Privilege {
	return g.Privileges(id, path...)
}

func (g gate) Require(id access.AuthID, any access.Privilege, path ...string) error {
	if g.Privileges(id).HasAny(any) {
		return nil
	}
	return &access.Error{Kind: access.ErrForbidden, Text: "permission check failed - missing " + any.String() + " on /" + strings.Join(path, "/")}
}

func newRouter(t *testing.T) *Router {
	t.Helper()
	echo := func(_ context.Context, c *Call) (any, error) {
		name, n := c.Text("name"), c.Int("n", 1, 9)
		return map[string]any{"name": name, "n": n}, c.Err()
	}
	r, err := New(Config{
		Gate: gate{},
		Endpoints: []Endpoint{
			{Method: "GET", Path: "/ping", Need: World, Handle: func(context.Context, *Call) (any, error) { return map[string]bool{"pong": true}, nil }},
			{Method: "GET", Path: "/a/{name}/echo", Handle: echo},
			{Method: "POST", Path: "/a/{name}/echo", Handle: echo},
			{Method: "GET", Path: "/a/fixed/echo", Handle: func(context.Context, *Call) (any, error) { return "fixed", nil }},
			{Method: "GET", Path: "/users/{userid}", Need: Any(access.PrivSysAudit, "/access/users").OrSelf("userid"), Handle: func(_ context.Context, c *Call) (any, error) { return c.Who, nil }},
			{Method: "GET", Path: "/list", Handle: func(context.Context, *Call) (any, error) {
				return Answer{[]int{}, map[string]any{"total": 0}}, nil
			}},
			{Method: "GET", Path: "/fails", Handle: func(context.Context, *Call) (any, error) { return nil, errors.New("disk on fire") }},
			{Method: "GET", Path: "/octets", Handle: func(_ context.Context, c *Call) (any, error) {
				return Written, upgrade.Octets(c.Writer, []byte("raw"))
			}},
			{Method: "PUT", Path: "/file", Upload: true, Handle: func(_ context.Context, c *Call) (any, error) {
				b, err := io.ReadAll(c.Request.Body)
				return len(b), err
			}},
			{Method: "GET", Path: "/inside", Handle: func(_ context.Context, c *Call) (any, error) {
				return nil, c.Require(access.PrivDatastoreAudit, "datastore", "s1")
			}},
		},
		Absent: map[string]string{"/tape": "tapes are not offered here", "/a/{name}/tape": "no tapes of a"},
	})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestRouter(t *testing.T) {
	const typ = "application/json;charset=UTF-8"
	tests := []struct {
		name, who, method, target, kind, body string
		status                                int
		want                                  string // of the body
		contentType                           string
	}{
		{"the world may ask", "", "GET", "/api2/json/ping", "", "", 200, `{"data":{"pong":true}}`, typ},
		{"empty components do not count", "u@pbs", "GET", "//api2//json/a/x/echo/?n=3", "", "", 200, `{"data":{"n":3,"name":"x"}}`, typ},
		{"escaped components are unescaped", "u@pbs", "GET", "/api2/json/a/x%3Ay/echo?n=3", "", "", 200, `{"data":{"n":3,"name":"x:y"}}`, typ},
		{"a name goes before a parameter", "u@pbs", "GET", "/api2/json/a/fixed/echo", "", "", 200, `{"data":"fixed"}`, typ},
		{"a form", "u@pbs", "POST", "/api2/json/a/x/echo", "application/x-www-form-urlencoded", "n=4", 200, `{"data":{"n":4,"name":"x"}}`, typ},
		{"an object, with a charset", "u@pbs", "POST", "/api2/json/a/x/echo", "application/json; charset=UTF-8", `{"n":5,"name":"y"}`, 200, `{"data":{"n":5,"name":"x"}}`, typ},
		{"another type of body", "u@pbs", "POST", "/api2/json/a/x/echo", "text/xml", `<n>`, 400, `unsupported content type "text/xml"`, typ},
		{"a wrong parameter", "u@pbs", "GET", "/api2/json/a/x/echo?n=10", "", "", 400, "parameter verification failed - 'n': value must have a maximum value of 9 (got 10)", typ},
		{"a missing one", "u@pbs", "GET", "/api2/json/a/x/echo", "", "", 400, "parameter verification failed - 'n': parameter is missing and it is not optional.", typ},
		{"an escape that is none", "u@pbs", "GET", "/api2/json/a/x/echo?n=3&m=%zz", "", "", 400, `read the parameters in the URL: invalid URL escape "%zz"`, typ},
		{"a semicolon, of an endpoint without parameters", "u@pbs", "GET", "/api2/json/list?a=1;b", "", "", 400, "read the parameters in the URL: invalid semicolon separator in query", typ},
		{"siblings of data", "u@pbs", "GET", "/api2/json/list", "", "", 200, `{"data":[],"total":0}`, typ},
		{"an error is text", "u@pbs", "GET", "/api2/json/fails", "", "", 400, "disk on fire", typ},
		{"extjs: an error is an object", "u@pbs", "GET", "/api2/extjs/a/x/echo?n=10", "", "", 200, `{"errors":{"n":"value must have a maximum value of 9 (got 10)"},"message":"parameter verification failed - 'n': value must have a maximum value of 9 (got 10)","status":400,"success":false}`, typ},
		{"extjs: success", "u@pbs", "GET", "/api2/extjs/ping", "", "", 200, `{"data":{"pong":true},"status":200,"success":true}`, typ},
		{"a file", "u@pbs", "GET", "/api2/json/octets", "", "", 200, "raw", "application/octet-stream"},
		{"an upload", "u@pbs", "PUT", "/api2/json/file?x=1", "application/octet-stream", "12345", 200, `{"data":5}`, typ},
		{"an unknown path", "u@pbs", "GET", "/api2/json/nope", "", "", 404, "Path '/api2/json/nope' not found.", typ},
		{"a wrong method is an unknown path", "u@pbs", "DELETE", "/api2/json/ping", "", "", 404, "Path '/api2/json/ping' not found.", typ},
		{"another format", "u@pbs", "GET", "/api2/nope/ping", "", "", 400, "Unsupported output format 'nope'.", ""},
		{"outside the API", "", "GET", "//nope//x", "", "", 404, "no such file: 'nope/x'", ""},
		{"components with a dot", "u@pbs", "GET", "/api2/json/../ping", "", "", 400, "path contains illegal components", ""},
		{"an escaped slash", "u@pbs", "GET", "/api2/json/a/x%2Fy/echo?n=1", "", "", 400, "path contains illegal components", ""},
		{"too long", "u@pbs", "GET", "/api2/json/ping?" + strings.Repeat("x", 3072), "", "", 414, "", ""},
		{"not offered", "u@pbs", "GET", "/api2/json/tape/drive/x", "", "", 501, "tapes are not offered here", typ},
		{"not offered, below a parameter", "u@pbs", "POST", "/api2/json/a/x/tape", "", "", 501, "no tapes of a", typ},
		{"a directory", "u@pbs", "GET", "/api2/json/a", "", "", 200, `{"data":[{"subdir":"fixed"}]}`, typ},
		{"the root", "u@pbs", "GET", "/api2/json", "", "", 200, `{"data":[{"subdir":"a"},{"subdir":"fails"},{"subdir":"file"},{"subdir":"inside"},{"subdir":"list"},{"subdir":"octets"},{"subdir":"ping"},{"subdir":"users"}]}`, typ},
		{"without the privilege", "u@pbs", "GET", "/api2/json/users/v@pbs", "", "", 403, "permission check failed", typ},
		{"with it", "admin@pbs", "GET", "/api2/json/users/v@pbs", "", "", 200, `{"data":"admin@pbs"}`, typ},
		{"about oneself", "u@pbs", "GET", "/api2/json/users/u@pbs", "", "", 200, `{"data":"u@pbs"}`, typ},
		{"a token is not its user", "u@pbs!t", "GET", "/api2/json/users/u@pbs", "", "", 403, "permission check failed", typ},
		{"a refusal from inside", "u@pbs", "GET", "/api2/json/inside", "", "", 403, "permission check failed - missing Datastore.Audit on /datastore/s1", typ},
		{"nobody is told what there is", "", "GET", "/api2/json/nope", "", "", 401, "authentication failed - no authentication credentials provided.", ""},
	}
	r := newRouter(t)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel() // refusals wait
			req := httptest.NewRequest(tt.method, "http://x/", strings.NewReader(tt.body))
			req.RequestURI = tt.target
			if u, err := req.URL.Parse("http://x/" + strings.TrimPrefix(tt.target, "/")); err == nil {
				req.URL.Path, req.URL.RawPath, req.URL.RawQuery = u.Path, u.RawPath, u.RawQuery
			}
			path, _, _ := strings.Cut(tt.target, "?")
			if strings.Contains(path, "..") { // which Parse resolves
				req.URL.Path = path
			}
			req.Header.Set("Authorization", tt.who)
			req.Header.Set("Content-Type", tt.kind)
			w, start := httptest.NewRecorder(), time.Now()
			r.ServeHTTP(w, req)
			if got := w.Body.String(); w.Code != tt.status || got != tt.want || w.Header().Get("Content-Type") != tt.contentType {
				t.Errorf("%d %s %q, want %d %s %q", w.Code, w.Header().Get("Content-Type"), got, tt.status, tt.contentType, tt.want)
			}
			took := time.Since(start)
			switch {
			case tt.status == 401 && took < access.RefusalDelay:
				t.Errorf("refused after %v", took)
			case w.Body.String() == "permission check failed" && took < access.ForbiddenDelay:
				t.Errorf("forbidden after %v", took)
			}
		})
	}
}

// A new endpoint that stands where another does is a mistake of the program.
func TestRouterRefusesTheSameTwice(t *testing.T) {
	e := Endpoint{Method: "GET", Path: "/x"}
	if _, err := New(Config{Gate: gate{}, Endpoints: []Endpoint{e, e}}); err == nil || !strings.Contains(err.Error(), "twice") {
		t.Errorf("error %v", err)
	}
}

func TestRouterTellsWhatItAnswered(t *testing.T) {
	var seen []string
	r, err := New(Config{
		Gate:      gate{},
		Endpoints: []Endpoint{{Method: "GET", Path: "/a/{x}", Handle: func(context.Context, *Call) (any, error) { return 1, nil }}},
		Observe: func(method, path string, status int, _ time.Duration) {
			seen = append(seen, method+" "+path+" "+http.StatusText(status))
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, target := range []string{"/api2/json/a/1", "/api2/json/b"} {
		req := httptest.NewRequest("GET", target, nil)
		req.Header.Set("Authorization", "u@pbs")
		r.ServeHTTP(httptest.NewRecorder(), req)
	}
	if got := strings.Join(seen, ", "); got != "GET /a/{x} OK, GET other Not Found" {
		t.Error(got)
	}
}

// Whatever path and query come, the router answers, and never with success for
// a path that there is not.
func FuzzRouterAnswers(f *testing.F) {
	for _, s := range []string{"/api2/json/a/x/echo?n=1", "//api2//json/%2e%2e/ping", "/api2/json/a/%00/echo", "/api2/json/tape", "?", "/api2/extjs/users/u@pbs?a=%zz"} {
		f.Add(s)
	}
	r, err := New(Config{Gate: gate{}, Endpoints: []Endpoint{{Method: "GET", Path: "/a/{name}", Handle: func(_ context.Context, c *Call) (any, error) { return c.Text("name"), c.Err() }}}})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, target string) {
		req, err := http.NewRequest("GET", "http://h/"+target, nil)
		if err != nil {
			return
		}
		req.RequestURI = target
		req.Header.Set("Authorization", "u@pbs")
		w := httptest.NewRecorder()
		r.ServeHTTP(w, req)
		path, err := cleanPath(req.URL)
		if w.Code == http.StatusOK && (err != nil || len(path) < 2 || path[0] != "api2" || len(path) > 4) && path[1] != "extjs" {
			t.Errorf("%q is answered with %s", target, w.Body)
		}
	})
}
