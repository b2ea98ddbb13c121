package push

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/holdfast-mesh/holdfast/notify"
)

var message = notify.Message{ID: "abc", Subject: "3 errors", Text: "all is lost", Severity: notify.Error}

// A receiver is a real HTTP server that keeps the last request.
type receiver struct {
	*httptest.Server
	got    *http.Request
	body   string
	status int
}

func receive(t *testing.T) *receiver {
	r := &receiver{status: http.StatusOK}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		text, _ := io.ReadAll(req.Body)
		r.got, r.body = req, string(text)
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(r.status)
		io.WriteString(w, `{"id":1,"error":"no","errorCode":403,"errorDescription":"refused"}`)
	}))
	t.Cleanup(r.Close)
	return r
}

func TestGotify(t *testing.T) {
	const token = "AbcdefghijklmnO"
	r := receive(t)
	target, err := Gotify(r.URL+"/sub", token)
	if err != nil {
		t.Fatal(err)
	}
	if err := target.Send(t.Context(), message); err != nil {
		t.Fatal(err)
	}
	if r.got.URL.Path != "/sub/message" || r.got.Header.Get("X-Gotify-Key") != token || !strings.Contains(r.body, `"title":"3 errors"`) || !strings.Contains(r.body, "all is lost") || !strings.Contains(r.body, `"priority":8`) {
		t.Errorf("%s %v %s", r.got.URL, r.got.Header, r.body)
	}
	if strings.Contains(r.got.URL.String(), token) {
		t.Error("the token is in the URL, which servers log")
	}
	r.status = http.StatusForbidden
	if err := target.Send(t.Context(), message); err == nil || strings.Contains(err.Error(), token) {
		t.Errorf("a refusal: %v", err)
	}
	r.Close()
	if err := target.Send(t.Context(), message); err == nil || strings.Contains(err.Error(), token) {
		t.Errorf("away: %v", err)
	}
}

func TestNtfy(t *testing.T) {
	r := receive(t)
	target, err := Ntfy(r.URL, "backups", "", "tk_hush")
	if err != nil {
		t.Fatal(err)
	}
	if err := target.Send(t.Context(), message); err != nil {
		t.Fatal(err)
	}
	_, password, _ := r.got.BasicAuth()
	if r.got.URL.Path != "/backups" || password != "tk_hush" || r.got.Header.Get("Title") != "3 errors" || !strings.Contains(r.body, "all is lost") || r.got.Header.Get("Priority") == "" {
		t.Errorf("%s %v %s", r.got.URL, r.got.Header, r.body)
	}
	r.status = http.StatusForbidden
	if err := target.Send(t.Context(), message); err == nil || strings.Contains(err.Error(), "tk_hush") {
		t.Errorf("a refusal: %v", err)
	}
}

func TestNewRefuses(t *testing.T) {
	for _, address := range []string{"", "logger://", "smtp://x/", "generic://x/", "nope://x", "http://x", "ntfy://h"} {
		if _, err := New(address); err == nil {
			t.Errorf("%q is accepted", address)
		}
	}
	if _, err := New("slack://hush-hush-hush"); err == nil || strings.Contains(err.Error(), "hush") {
		t.Errorf("the error shows the address: %v", err)
	}
	if _, err := Ntfy("http://x", "a/b", "", ""); err == nil {
		t.Error("a topic with a slash is accepted")
	}
}

// No text makes the reader of addresses fail, nor what it says show all of it.
func FuzzNew(f *testing.F) {
	f.Add("ntfy://user:password@host/topic?scheme=http")
	f.Add("slack://hook:a-b-c@webhook")
	f.Add("gotify://host/AbcdefghijklmnO")
	f.Fuzz(func(t *testing.T, address string) {
		_, err := New(address)
		if err != nil && len(address) > 20 && strings.Contains(err.Error(), address) {
			t.Errorf("the error shows the address: %v", err)
		}
	})
}
