package bucket

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/holdfast-mesh/holdfast/chunks/cloud/bucket/pin"
)

// at is a bucket of a server.
func at(t *testing.T, url, fingerprint string) *Bucket {
	t.Helper()
	acc, err := NewAccount(AccountConfig{Key: "k", Secret: "s", Fingerprint: fingerprint})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(acc.Close)
	b, err := New(Config{Endpoint: url, Region: "us-east-1", Bucket: "b", PathStyle: true, Account: acc})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// To a store whose certificate no authority had signed there was no way at all, and
// nobody was told of its fingerprint.
func TestStoreOfItsOwnAuthority(t *testing.T) {
	srv := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusNotFound)
	}))
	defer srv.Close()
	want := pin.Of(srv.Certificate())
	reach := func(fingerprint string) (Connection, error) {
		t.Helper()
		return at(t, srv.URL, fingerprint).Reach(t.Context())
	}
	if conn, err := reach(""); conn.Status != 0 || pin.Refused(err) != want {
		t.Errorf("without a fingerprint: %v %v", conn, err)
	}
	if conn, _ := reach(want); conn.Status != http.StatusNotFound {
		t.Errorf("with its fingerprint: %v", conn)
	}
	other := strings.Repeat("00:", 31) + "00"
	if conn, err := reach(other); conn.Status != 0 || err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("with another fingerprint: %v %v", conn, err)
	}
	if _, err := NewAccount(AccountConfig{Key: "k", Secret: "s", Fingerprint: "no"}); err == nil {
		t.Error("a fingerprint that is none is taken")
	}
}

// 27 requests to a closed port were counted, and a store that was down for a week ate
// the budget of a month.
func TestWhatIsNotSentIsNotCounted(t *testing.T) {
	srv := httptest.NewServer(http.NotFoundHandler())
	b := at(t, srv.URL, "")
	acc := b.Account()
	ctx, m := Metered(t.Context())
	_, _ = b.Once().Head(ctx, "x")
	if got := acc.Stats().Total(); got != 1 || m.Requests()["head"] != 1 {
		t.Errorf("one request is counted as %d, %v", got, m.Requests())
	}
	srv.Close()
	acc.Close() // a connection that is idle would be tried, and counted
	if _, err := b.Once().Head(ctx, "x"); err == nil {
		t.Fatal("a closed port answers")
	}
	if got := acc.Stats().Total(); got != 1 || m.Requests()["head"] != 1 {
		t.Errorf("a request to a closed port is counted: %d, %v", got, m.Requests())
	}
}
