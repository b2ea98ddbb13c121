package doctor

import (
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/holdfast-mesh/holdfast/chunks/cloud/bucket"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/bucket/pin"
)

// A certificate of a private authority, and a port without TLS, were both told as "check
// DNS and the firewall".
func TestUntrustedAndPlain(t *testing.T) {
	secure := httptest.NewUnstartedServer(http.NotFoundHandler())
	secure.Config.ErrorLog = log.New(io.Discard, "", 0) // it says that we do not trust it
	secure.StartTLS()
	defer secure.Close()
	plain := httptest.NewServer(http.NotFoundHandler())
	defer plain.Close()
	for url, want := range map[string]string{
		secure.URL: "--fingerprint " + pin.Of(secure.Certificate()),
		strings.Replace(plain.URL, "http:", "https:", 1): "speaks no TLS",
	} {
		r, _ := examine(t, scene{bucket: func(c *bucket.Config) { c.Endpoint = url }})
		if f := r.Findings[0]; f.Check != "endpoint" || f.Severity != Critical || !strings.Contains(f.Cure, want) {
			t.Errorf("%s: %+v", url, f)
		}
	}
}
