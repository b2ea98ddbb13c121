package upgrade

import (
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
)

// A Handler answers a request, or returns the error to answer with.
type Handler func(w http.ResponseWriter, r *http.Request) error

// A Mux has the handlers of a session by method and path, "GET /previous".
type Mux map[string]Handler

// maxDrained is how much of a refused request's body is read. It is more than
// any client sends: the largest chunk has 16 MiB.
const maxDrained = 64 << 20

// ServeHTTP calls the handler of r's path, in which empty components do not
// count (§0.1). Before it answers with an error it reads what is left of the
// body: clients take an early answer for a failure of the stream (§3.2).
func (m Mux) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	err := m.handle(w, r)
	if err == nil || Sent(err) {
		return
	}
	Refuse(w, r, err)
}

// Refuse reads what is left of the request's body and then answers with err.
func Refuse(w http.ResponseWriter, r *http.Request, err error) {
	if _, drained := io.Copy(io.Discard, io.LimitReader(r.Body, maxDrained)); drained != nil {
		return // the client has gone, or the connection
	}
	Fail(w, err)
}

func (m Mux) handle(w http.ResponseWriter, r *http.Request) error {
	components := strings.FieldsFunc(r.URL.Path, func(c rune) bool { return c == '/' })
	path := "/" + strings.Join(components, "/")
	if h, ok := m[r.Method+" "+path]; ok {
		return h(w, r)
	}
	if path == "/" && r.Method == http.MethodGet {
		return Data(w, m.subdirs())
	}
	return Errorf(http.StatusNotFound, "Path '%s' not found.", path)
}

type subdir struct {
	Subdir string `json:"subdir"`
}

func (m Mux) subdirs() []subdir {
	names := map[string]bool{}
	for pattern := range m {
		_, path, _ := strings.Cut(pattern, " /")
		names[path] = true
	}
	dirs := make([]subdir, 0, len(names))
	for _, name := range slices.Sorted(maps.Keys(names)) {
		dirs = append(dirs, subdir{name})
	}
	return dirs
}
