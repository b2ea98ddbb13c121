package members

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-mesh/holdfast/pbs/rest"
)

// While a sole voter asks the others how far they are, a recovery was signed, and then
// refused as "consensus is stopped on this node", without a hint. Nothing is signed before
// the node knows whether it leads by itself.
func TestRecoveryWaits(t *testing.T) {
	w := newStopped(t)
	ask := func(ctx context.Context, method string) *httptest.ResponseRecorder {
		rec := httptest.NewRecorder()
		w.router.ServeHTTP(rec, httptest.NewRequestWithContext(ctx, method, "/api2/json/holdfast/recover", nil))
		return rec
	}
	for _, method := range []string{"GET", "POST"} {
		soon, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		rec := ask(soon, method)
		cancel()
		if rec.Code == http.StatusOK || !strings.Contains(rec.Body.String(), "nothing is signed") || !strings.Contains(rec.Header().Get(rest.HintHeader), "same command again") {
			t.Errorf("%s of what has not begun: %d %s, hint %q", method, rec.Code, rec.Body, rec.Header().Get(rest.HintHeader))
		}
	}
	answer := make(chan *httptest.ResponseRecorder, 1)
	go func() { answer <- ask(t.Context(), "POST") }()
	w.run()
	if rec := <-answer; rec.Code == http.StatusOK || !strings.Contains(rec.Body.String(), "the cluster has a quorum: home leads it") {
		t.Errorf("of one that leads by itself in a moment: %d %s", rec.Code, rec.Body)
	}
	if rec := ask(t.Context(), "GET"); rec.Code != http.StatusOK || !strings.Contains(rec.Body.String(), `"leads":true`) || strings.Contains(rec.Body.String(), "best") {
		t.Errorf("the plan: %d %s", rec.Code, rec.Body)
	}
}
