package pbstest

import (
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/holdfast-mesh/holdfast/pbs/upgrade"
)

// takes are the parameters in the URL of each request that a PBS takes (PBS protocol
// notes §1.5, §3.4, §4.2, §6): it refuses a request with any other.
var takes = map[string]string{
	"GET version":        "",
	"GET backup":         "store ns backup-type backup-id backup-time debug benchmark",
	"GET reader":         "store ns backup-type backup-id backup-time debug",
	"GET namespace":      "parent max-depth",
	"POST namespace":     "",
	"DELETE namespace":   "ns delete-groups error-on-protected",
	"GET groups":         "ns",
	"DELETE groups":      "ns backup-type backup-id error-on-protected",
	"GET snapshots":      "ns backup-type backup-id",
	"DELETE snapshots":   "ns backup-type backup-id backup-time",
	"GET files":          "ns backup-type backup-id backup-time",
	"POST access/ticket": "",

	"GET /previous_backup_time": "",
	"GET /previous":             "archive-name",
	"POST /blob":                "file-name encoded-size",
	"POST /fixed_index":         "archive-name size reuse-csum",
	"POST /dynamic_index":       "archive-name",
	"POST /fixed_chunk":         "wid digest size encoded-size",
	"POST /dynamic_chunk":       "wid digest size encoded-size",
	"PUT /fixed_index":          "wid digest-list offset-list",
	"PUT /dynamic_index":        "wid digest-list offset-list",
	"POST /fixed_close":         "wid chunk-count size csum",
	"POST /dynamic_close":       "wid chunk-count size csum",
	"POST /finish":              "",
	"GET /download":             "file-name",
	"GET /chunk":                "digest",
}

// Release is a version of PBS, as "3.2.11".
type Release struct{ Major, Minor, Patch int }

// ParseRelease reads one.
func ParseRelease(text string) (r Release, err error) {
	_, err = fmt.Sscanf(text, "%d.%d.%d", &r.Major, &r.Minor, &r.Patch)
	return r, err
}

// Before tells whether one release came before another.
func (r Release) Before(o Release) bool {
	return slices.Compare([]int{r.Major, r.Minor, r.Patch}, []int{o.Major, o.Minor, o.Patch}) < 0
}

// ActAs makes a server a double of a PBS of some release, before its first request:
// what that release did not know it refuses as that did, and notes all that it was
// asked.
func (s *Server) ActAs(release string) error {
	r, err := ParseRelease(release)
	if err != nil {
		return err
	}
	s.Version, s.Release = fmt.Sprintf("%d.%d", r.Major, r.Minor), fmt.Sprint(r.Patch)
	before := s.Before
	s.Before = func(req *http.Request) error {
		s.mu.Lock()
		s.asked = append(s.asked, strings.TrimPrefix(req.Method+" "+req.URL.RequestURI(), "?"))
		s.mu.Unlock()
		if err := r.refuses(req); err != nil {
			return err
		}
		if before != nil {
			return before(req)
		}
		return nil
	}
	return nil
}

// Asked returns what a double was asked: "GET /api2/json/version".
func (s *Server) Asked() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.asked)
}

// refuses says why a release does not take a request.
func (r Release) refuses(req *http.Request) error {
	what := req.URL.Path
	if api, is := strings.CutPrefix(what, "/api2/json/"); is {
		what = strings.TrimPrefix(api, "admin/datastore/"+Store+"/")
	}
	known, is := takes[req.Method+" "+what]
	spaces := Release{2, 2, 0} // the first that has namespaces
	if !is || what == "namespace" && r.Before(spaces) {
		return upgrade.Errorf(http.StatusNotFound, "Path '%s' not found.", req.URL.Path)
	}
	for name := range req.URL.Query() {
		may := slices.Contains(strings.Fields(known), name)
		switch name {
		case "ns":
			may = may && !r.Before(spaces)
		case "error-on-protected":
			may = may && !r.Before(Release{3, 2, 11})
		}
		if !may {
			return upgrade.Errorf(http.StatusBadRequest, "parameter verification failed - '%s': schema does not allow additional properties.", name)
		}
	}
	return nil
}
