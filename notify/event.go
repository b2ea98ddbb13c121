// Package notify tells people what happened to their backups: that a job has
// failed, that a disk fills up, that a site is gone.
//
// An [Event] is one thing that happened. Matchers say which targets hear of it;
// a target is a mailbox, a web hook or a push service (the packages below this
// one). What is to be told waits in a file, so that a restart loses nothing, and
// what happens while a target waits becomes one message: a [Message] is a digest
// of all that its target has not heard yet. Whoever reports an event never waits
// for a target.
//
//	notify/mail     mail over SMTP, with TLS and a login
//	notify/webhook  an HTTP request of one's own making
//	notify/push     ntfy, Gotify, and chats
package notify

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// Severity says how bad an event is.
type Severity string

// The severities, in the words of PBS.
const (
	Info    Severity = "info"
	Notice  Severity = "notice"
	Warning Severity = "warning"
	Error   Severity = "error"
	Unknown Severity = "unknown"
)

// severities has all, the worst last.
var severities = [...]Severity{Info, Notice, Unknown, Warning, Error}

// ParseSeverity reads the name of a severity.
func ParseSeverity(s string) (Severity, error) {
	if rank(Severity(s)) < 0 {
		return "", fmt.Errorf("%.40q is no severity, want info, notice, warning, error or unknown", s)
	}
	return Severity(s), nil
}

func rank(s Severity) int { return slices.Index(severities[:], s) }

// worse returns the worse of two.
func worse(a, b Severity) Severity {
	if rank(b) > rank(a) {
		return b
	}
	return a
}

// An Event is one thing that happened.
type Event struct {
	Type     string            `json:"type"` // "sync", "capacity": what matchers call it
	Severity Severity          `json:"severity"`
	Time     time.Time         `json:"time"`
	Title    string            `json:"title"` // one line
	Text     string            `json:"text,omitempty"`
	Fields   map[string]string `json:"fields,omitempty"` // "hostname", "datastore", "job-id"

	// An event with a Key is told once in Hold: what happens again meanwhile is
	// the same event. The default of Hold is a day.
	Key  string        `json:"key,omitempty"`
	Hold time.Duration `json:"hold,omitempty"`

	// Shared is an event that several nodes see, so that only the one tells that
	// has claimed its Key.
	Shared bool `json:"shared,omitempty"`
}

// What of an event is kept, in bytes.
const (
	maxTitle = 300
	maxText  = 8 << 10
	maxKey   = 200
)

// holdDefault is how long an event with a key is not told again.
const holdDefault = 24 * time.Hour

// tidy completes an event, and cuts what is too long.
func (e Event) tidy(now time.Time) Event {
	if rank(e.Severity) < 0 {
		e.Severity = Unknown
	}
	if e.Time.IsZero() || e.Time.After(now) {
		e.Time = now
	}
	if e.Hold <= 0 {
		e.Hold = holdDefault
	}
	e.Time = e.Time.UTC().Truncate(time.Second)
	e.Title = clip(strings.Join(strings.Fields(e.Title), " "), maxTitle)
	e.Text = clip(strings.TrimSpace(e.Text), maxText)
	e.Key = clip(e.Key, maxKey)
	e.Fields = maps.Clone(e.Fields)
	return e
}

// clip cuts a text where a character ends, and makes it one.
func clip(s string, bytes int) string {
	s = strings.ToValidUTF8(s, "?")
	if len(s) <= bytes {
		return s
	}
	for bytes > 0 && !utf8.RuneStart(s[bytes]) {
		bytes--
	}
	return s[:bytes] + "…"
}

// Field returns a field, of which "type" is one.
func (e Event) Field(name string) (string, bool) {
	if name == "type" {
		return e.Type, true
	}
	v, ok := e.Fields[name]
	return v, ok
}
