package reply

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
)

// What is no whole document that begins as it should is no answer, and what is can be
// read after it was looked at.
func TestCheck(t *testing.T) {
	const want = "VersioningConfiguration"
	for body, ok := range map[string]bool{
		`<?xml version="1.0"?><!-- hm --><VersioningConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/"/>`: true,
		"<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>":                                true,
		"":                                     false,
		" ":                                    false,
		`{"Status":"Enabled"}`:                 false,
		"<html><br></html>":                    false,
		"<ListBucketResult/>":                  false,
		"<VersioningConfiguration><Status>Ena": false,
		"<VersioningConfiguration/>then</x>":   false,
		"<x><VersioningConfiguration></VersioningConfiguration></x>": false,
	} {
		for status, judged := range map[int]bool{200: true, 404: false} {
			r, err := http.NewRequestWithContext(Expect(t.Context(), want), http.MethodGet, "http://127.0.0.1/", nil)
			if err != nil {
				t.Fatal(err)
			}
			resp := &http.Response{StatusCode: status, Body: io.NopCloser(strings.NewReader(body))}
			if err := Check(r, resp); judged && (err == nil) != ok || !judged && err != nil || err != nil && !errors.Is(err, ErrOther) {
				t.Errorf("%d %q: %v", status, body, err)
			}
			if left, err := io.ReadAll(resp.Body); err != nil || string(left) != body {
				t.Errorf("%d %q: %q is left, %v", status, body, left, err)
			}
		}
	}
	r, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://127.0.0.1/", nil)
	if err := Check(r, &http.Response{StatusCode: 200, Body: io.NopCloser(strings.NewReader("x"))}); err != nil {
		t.Errorf("nothing was expected: %v", err)
	}
}

// FuzzRoot: whatever a store answers has a name, or is refused.
func FuzzRoot(f *testing.F) {
	f.Add([]byte("<a><b/></a>"))
	f.Add([]byte("\xef\xbb\xbf<a"))
	f.Fuzz(func(t *testing.T, body []byte) {
		if name, err := root(body); err == nil && name == "" {
			t.Errorf("%q has no name", body)
		}
	})
}
