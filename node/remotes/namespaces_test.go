package remotes

import (
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"

	"github.com/holdfast-mesh/holdfast/catalog/naming"
	"github.com/holdfast-mesh/holdfast/pbs/settings"
)

// A server from before there were namespaces is asked for its root alone; what
// would need them is refused with a cure (rows 48 to 51 of the list of features).
func TestServerWithoutNamespaces(t *testing.T) {
	t.Parallel()
	srv := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasSuffix(r.URL.Path, "/namespace"):
			http.NotFound(w, r)
		case strings.HasSuffix(r.URL.Path, "/groups"):
			_, _ = w.Write([]byte(`{"data":[{"backup-type":"vm","backup-id":"100","last-backup":10,"backup-count":1,"owner":"root@pam","files":[]}]}`))
		case strings.HasSuffix(r.URL.Path, "/snapshots"):
			_, _ = w.Write([]byte(`{"data":[{"backup-type":"vm","backup-id":"100","backup-time":10,"size":5,"files":[]}]}`))
		default:
			_, _ = w.Write([]byte(`{"data":null}`))
		}
	}))
	defer srv.Close()
	host, port, _ := strings.Cut(strings.TrimPrefix(srv.URL, "https://"), ":")
	n, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	var print []string
	for _, b := range sha256.Sum256(srv.Certificate().Raw) {
		print = append(print, hex.EncodeToString([]byte{b}))
	}
	remote := settings.Remote{Name: "old", Host: host, Port: n, AuthID: "sync@pbs!tok", Fingerprint: strings.Join(print, ":")}
	s, err := New(Config{Remote: remote, Password: "x", Store: "main"})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for _, tt := range []struct {
		ns    naming.Namespace
		depth int
		ok    bool
	}{{"", -1, true}, {"", 0, true}, {"", 2, false}, {"a", -1, false}} {
		side, err := s.Catalog(t.Context(), tt.ns, tt.depth)
		if (err == nil) != tt.ok {
			t.Errorf("%q to depth %d: %v", tt.ns, tt.depth, err)
		}
		if tt.ok && (len(side.Groups) != 1 || len(side.Namespaces) != 1 || len(side.Groups[0].Snapshots) != 1) {
			t.Errorf("%q to depth %d: %+v", tt.ns, tt.depth, side)
		}
	}
}
