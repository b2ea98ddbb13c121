package members

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-mesh/holdfast/consensus/authority"
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

// Two nodes that do not reach each other were recovered, and both began incarnation 2: they
// took each other for the same, and had different ledgers from then on. No two have the same
// number, and of two the later one counts.
func TestIncarnationsDiffer(t *testing.T) {
	w := newWorld(t)
	now := time.Unix(2e9, 0)
	a := api{Config{Cluster: w.cluster, Now: func() time.Time { return now }}}
	one, two := authority.Key{1}, authority.Key{2}
	first := a.next(1, one)
	if other := a.next(1, two); other == first || first < 2 || first > authority.MaxIncarnation {
		t.Errorf("at the same moment: %d and %d", first, other)
	}
	now = now.Add(time.Millisecond)
	if later := a.next(1, one); later <= first || later <= a.next(1, authority.Key{})-1000 {
		t.Errorf("%d behind %d", later, first)
	}
	if behind := a.next(first*2, one); behind != first*2+1 { // of a node whose clock was ahead
		t.Errorf("%d behind %d", behind, first*2)
	}
}
