package rest

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-mesh/holdfast/access"
	"github.com/holdfast-mesh/holdfast/pbs/upgrade"
)

// maxTarget is the longest path with its query, in bytes (§0.1).
const maxTarget = 3072

// Config says what a Router answers.
type Config struct {
	Gate      Gate // required
	Endpoints []Endpoint

	// Absent are paths of PBS that this server does not offer, with a sentence
	// that says so. They hold for all that is below them, and are answered with
	// 501.
	Absent map[string]string

	// Static answers what is not below /api2; default: 404.
	Static http.Handler

	// Observe, if given, is told of each request that was answered: which
	// endpoint, as its path is written, with which status, in which time.
	Observe func(method, path string, status int, took time.Duration)

	// Known, if given, is told whose request it is, once that is known.
	Known func(ctx context.Context, who access.AuthID)

	Log *slog.Logger // default: discard
}

// A Router answers requests. It is an [http.Handler].
type Router struct {
	cfg  Config
	root *place
}

// A place is one component of the paths.
type place struct {
	name     string // in the paths of endpoints, "{store}" for a parameter
	children []*place
	methods  map[string]*Endpoint
	absent   string
}

// New returns a Router. It fails if two endpoints are the same.
func New(cfg Config) (*Router, error) {
	if cfg.Gate == nil {
		return nil, errors.New("rest: no gate")
	}
	cfg.Log = cmp.Or(cfg.Log, slog.New(slog.DiscardHandler))
	if cfg.Static == nil {
		cfg.Static = http.HandlerFunc(noSuchFile)
	}
	r := &Router{cfg: cfg, root: &place{}}
	for i := range cfg.Endpoints {
		e := &cfg.Endpoints[i]
		p := r.root.make(components(e.Path))
		if p.methods[e.Method] != nil {
			return nil, fmt.Errorf("rest: %s %s is there twice", e.Method, e.Path)
		}
		if p.methods == nil {
			p.methods = map[string]*Endpoint{}
		}
		p.methods[e.Method] = e
	}
	for path, sentence := range cfg.Absent {
		r.root.make(components(path)).absent = sentence
	}
	return r, nil
}

// Endpoints returns all endpoints, by path and method.
func (r *Router) Endpoints() []Endpoint {
	return slices.SortedFunc(slices.Values(r.cfg.Endpoints), func(a, b Endpoint) int {
		return cmp.Or(cmp.Compare(a.Path, b.Path), cmp.Compare(a.Method, b.Method))
	})
}

func (p *place) make(path []string) *place {
	for _, name := range path {
		i := slices.IndexFunc(p.children, func(c *place) bool { return c.name == name })
		if i < 0 {
			i = len(p.children)
			p.children = append(p.children, &place{name: name})
		}
		p = p.children[i]
	}
	return p
}

// find walks down a path. It returns the place, nil if there is none, what the
// parameters in it are, and the sentence of what is absent.
func (p *place) find(path []string) (found *place, params map[string]string, absent string) {
	params = map[string]string{}
	for _, name := range path {
		var next *place
		for _, c := range p.children {
			if c.name == name {
				next = c
				break
			}
			if strings.HasPrefix(c.name, "{") {
				next = c
			}
		}
		if next == nil {
			return nil, nil, absent
		}
		if strings.HasPrefix(next.name, "{") {
			params[strings.Trim(next.name, "{}")] = name
		}
		p, absent = next, cmp.Or(next.absent, absent)
	}
	return p, params, absent
}

// A recorder notes the status of an answer.
type recorder struct {
	http.ResponseWriter
	status int
}

func (r *recorder) WriteHeader(status int) {
	if r.status == 0 {
		r.status = status
	}
	r.ResponseWriter.WriteHeader(status)
}

// Hijack notes that the connection was taken over, which is what an upgrade
// does, with 101.
func (r *recorder) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(r.ResponseWriter).Hijack()
	if err == nil && r.status == 0 { // else an answer is broken off
		r.status = http.StatusSwitchingProtocols
	}
	return conn, rw, err
}

// Unwrap lets [http.ResponseController] find the connection.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }

// ServeHTTP answers one request.
func (r *Router) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	rec, start := &recorder{ResponseWriter: w}, time.Now()
	route, who, err := r.serve(rec, req, start)
	took := time.Since(start)
	if r.cfg.Observe != nil {
		r.cfg.Observe(req.Method, route, cmp.Or(rec.status, http.StatusOK), took)
	}
	if err != nil {
		r.cfg.Log.Info("request refused", "method", req.Method, "path", req.URL.Path, "user", who, "from", req.RemoteAddr, "status", rec.status, "err", err)
	}
}

// serve answers, and returns which endpoint it was, who called, and what went
// wrong, which the caller has been told.
func (r *Router) serve(w *recorder, req *http.Request, start time.Time) (route string, who access.AuthID, err error) {
	if len(req.RequestURI) > maxTarget {
		w.WriteHeader(http.StatusRequestURITooLong)
		return "", "", nil
	}
	path, err := cleanPath(req.URL)
	if err != nil {
		return "", "", r.fail(w, req, start, plain, err)
	}
	if len(path) == 0 || path[0] != "api2" {
		r.cfg.Static.ServeHTTP(w, req)
		return "static", "", nil
	}
	if len(path) == 1 {
		return "", "", r.fail(w, req, start, plain, upgrade.Errorf(http.StatusNotFound, "Path '/api2' not found."))
	}
	form, ok := formats[path[1]]
	if !ok {
		return "", "", r.fail(w, req, start, plain, upgrade.Errorf(http.StatusBadRequest, "Unsupported output format '%s'.", path[1]))
	}
	found, params, absent := r.root.find(path[2:])
	var e *Endpoint
	if found != nil {
		e = found.methods[req.Method]
	}
	route = "other"
	if e != nil {
		route = e.Path
	}
	if e == nil || !e.Need.World {
		if who, err = r.cfg.Gate.Check(req.Context(), credentials(req)); err != nil {
			w.Header()["Content-Type"] = nil // a real server sends none here
			return route, who, r.fail(w, req, start, form, err)
		}
		if r.cfg.Known != nil {
			r.cfg.Known(req.Context(), who)
		}
	}
	data, err := r.answer(w, req, start, who, e, found, params, absent)
	if err == nil {
		err = form.data(w, data)
	}
	if err != nil && !upgrade.Sent(err) {
		r.fail(w, req, start, form, err)
	}
	return route, who, err
}

// answer calls the endpoint.
func (r *Router) answer(w *recorder, req *http.Request, start time.Time, who access.AuthID, e *Endpoint, found *place, params map[string]string, absent string) (any, error) {
	switch {
	case e == nil && absent != "":
		return nil, upgrade.Errorf(http.StatusNotImplemented, "%s", absent)
	case e == nil && found != nil && req.Method == http.MethodGet && len(found.children) > 0:
		return found.subdirs(), nil
	case e == nil:
		path, _ := cleanPath(req.URL)
		return nil, upgrade.Errorf(http.StatusNotFound, "Path '/%s' not found.", strings.Join(path, "/"))
	}
	if !r.lets(e.Need, who, params) {
		access.Hold(req.Context(), start, access.ForbiddenDelay)
		return nil, errForbidden
	}
	p, err := parameters(req, e, params)
	if err != nil {
		return nil, err
	}
	return e.Handle(req.Context(), &Call{p, who, req, w, r.cfg.Gate})
}

var errForbidden = upgrade.Errorf(http.StatusForbidden, "permission check failed")

// lets tells whether who has what an endpoint needs.
func (r *Router) lets(n Need, who access.AuthID, params map[string]string) bool {
	return n.Any == 0 || n.Self != "" && params[n.Self] == string(who) ||
		r.cfg.Gate.Privileges(who, on(n.On, params)...).HasAny(n.Any)
}

func parameters(req *http.Request, e *Endpoint, params map[string]string) (p *upgrade.Params, err error) {
	if p = upgrade.QueryParams(req); !e.Upload {
		if p, err = upgrade.AllParams(req); err != nil {
			return nil, err
		}
	}
	for name, value := range params {
		p.Set(name, value)
	}
	return p, p.Err()
}

// on fills the parameters of a path into the path that privileges are on.
func on(pattern string, params map[string]string) []string {
	path := components(pattern)
	for i, name := range path {
		if strings.HasPrefix(name, "{") {
			path[i] = params[strings.Trim(name, "{}")]
		}
	}
	return path
}

// cleanPath returns the components of a path, with what is escaped in them
// unescaped: a task's name comes with every ":" as "%3A".
func cleanPath(u *url.URL) ([]string, error) {
	path := components(u.EscapedPath())
	for i, name := range path {
		text, err := url.PathUnescape(name)
		if err != nil || strings.HasPrefix(text, ".") || strings.ContainsAny(text, "/\x00") {
			return nil, upgrade.Errorf(http.StatusBadRequest, "path contains illegal components")
		}
		path[i] = text
	}
	return path, nil
}

func credentials(req *http.Request) access.Credentials {
	return access.Credentials{
		Method:        req.Method,
		Cookie:        strings.Join(req.Header.Values("Cookie"), "; "),
		CSRF:          req.Header.Get("CSRFPreventionToken"),
		Authorization: req.Header.Get("Authorization"),
	}
}

// fail tells the client, and returns err. Whoever is not known waits, whatever
// it was that was wrong (§0.4).
func (r *Router) fail(w http.ResponseWriter, req *http.Request, start time.Time, f format, err error) error {
	if statusOf(err) == http.StatusUnauthorized {
		access.Hold(req.Context(), start, access.RefusalDelay)
	}
	f.fail(w, err)
	return err
}

func noSuchFile(w http.ResponseWriter, req *http.Request) {
	plain.fail(w, upgrade.Errorf(http.StatusNotFound, "no such file: '%s'", strings.Join(components(req.URL.Path), "/")))
}

type subdir struct {
	Subdir string `json:"subdir"`
}

// subdirs lists what is below a place.
func (p *place) subdirs() []subdir {
	dirs := []subdir{}
	for _, c := range p.children {
		if !strings.HasPrefix(c.name, "{") && c.absent == "" {
			dirs = append(dirs, subdir{c.name})
		}
	}
	slices.SortFunc(dirs, func(a, b subdir) int { return cmp.Compare(a.Subdir, b.Subdir) })
	return dirs
}

// Do calls an endpoint from inside the process, for someone who is known, and
// returns what it answers with.
func (r *Router) Do(ctx context.Context, who access.AuthID, method, path string, params url.Values) (any, error) {
	found, in, _ := r.root.find(components(path))
	if found == nil || found.methods[method] == nil {
		return nil, upgrade.Errorf(http.StatusNotFound, "Path '%s' not found.", path)
	}
	e := found.methods[method]
	if !r.lets(e.Need, who, in) {
		return nil, errForbidden
	}
	req, err := http.NewRequestWithContext(ctx, method, "/api2/json"+path+"?"+params.Encode(), http.NoBody)
	if err != nil {
		return nil, err
	}
	p, err := parameters(req, e, in)
	if err != nil {
		return nil, err
	}
	return e.Handle(ctx, &Call{p, who, req, nil, r.cfg.Gate})
}
