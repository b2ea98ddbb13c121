package webhook

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-mesh/holdfast/notify"
)

var message = notify.Message{
	ID: "abc", Subject: `disk "main" is full`, Text: "90 %\nused", Severity: notify.Warning, Time: time.Unix(1767225600, 0), Fields: map[string]string{"datastore": "main"}, Count: 1,
}

func TestSend(t *testing.T) {
	var got *http.Request
	var body string
	status := http.StatusNoContent
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		text, _ := io.ReadAll(r.Body)
		got, body = r, string(text)
		if status == http.StatusFound {
			w.Header().Set("Location", "http://elsewhere.invalid/")
		}
		w.WriteHeader(status)
		io.WriteString(w, "because of hush-hush")
	}))
	defer s.Close()
	target, err := New(Config{
		URL: s.URL + "/alert/{{ secrets.token }}?what={{ url-encode title }}", Method: "put",
		Headers: map[string]string{"Authorization": "Bearer {{ secrets.token }}", "X-Title": "{{ message }}"},
		Body:    `{"text": {{ json message }}, "more": "{{ escape title }}", "store": "{{ fields.datastore }}", "none": "{{ fields.nope }}", "at": {{ timestamp }}, "all": {{ json fields }}, "s": "{{{ severity }}}"}`,
		Secrets: map[string]string{"token": "hush-hush"},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := target.Send(t.Context(), message); err != nil {
		t.Fatal(err)
	}
	var fields map[string]any
	if err := json.Unmarshal([]byte(body), &fields); err != nil {
		t.Fatalf("%v: %s", err, body)
	}
	if got.Method != "PUT" || got.URL.Query().Get("what") != message.Subject || got.Header.Get("Authorization") != "Bearer hush-hush" || got.Header.Get("X-Title") != "90 % used" {
		t.Errorf("%s %s %v", got.Method, got.URL, got.Header)
	}
	if fields["text"] != message.Text || fields["more"] != message.Subject || fields["store"] != "main" || fields["none"] != "" || fields["at"] != 1767225600.0 || fields["s"] != "warning" {
		t.Errorf("body %v", fields)
	}
	for _, status = range []int{http.StatusForbidden, http.StatusFound, http.StatusInternalServerError} {
		err := target.Send(t.Context(), message)
		if err == nil || strings.Contains(err.Error(), "hush-hush") || !strings.Contains(err.Error(), http.StatusText(status)) {
			t.Errorf("%d: %v", status, err)
		}
	}
	s.Close()
	if err := target.Send(t.Context(), message); err == nil || strings.Contains(err.Error(), "hush") || strings.Contains(err.Error(), "alert") {
		t.Errorf("a server that is away: %v", err)
	}
}

func TestNewRefuses(t *testing.T) {
	for _, c := range []Config{
		{URL: ""}, {URL: "ftp://x/"}, {URL: "http://"}, {URL: "http://x/", Method: "DELETE"},
		{URL: "http://x/", Body: "{{ nope }}"}, {URL: "http://x/", Body: "{{ upper title }}"}, {URL: "http://x/", Body: "{{ title"},
		{URL: "http://x/{{ secrets.gone }}"}, {URL: "http://x/", Headers: map[string]string{"a b": "c"}},
	} {
		if _, err := New(c); err == nil {
			t.Errorf("%+v is accepted", c)
		}
	}
}

// A text without places is itself, and no template makes the reader fail.
func FuzzTemplate(f *testing.F) {
	for _, s := range []string{"{{ title }}", "{{{ json fields }}}", "{{", "}}{{}}", "a {{ escape message }} b"} {
		f.Add(s)
	}
	data := Data(message, nil)
	f.Fuzz(func(t *testing.T, s string) {
		p, err := Parse(s)
		if err != nil {
			return
		}
		out, err := p.Fill(data)
		if !strings.Contains(s, "{{") && (err != nil || out != s) {
			t.Errorf("%q becomes %q, %v", s, out, err)
		}
	})
}
