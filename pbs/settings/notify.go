package settings

import "slices"

// The kinds of notification targets: the first three are those of PBS.
const (
	TargetSMTP    = "smtp"
	TargetGotify  = "gotify"
	TargetWebhook = "webhook"
	TargetNtfy    = "ntfy"
	TargetService = "service" // any that the URL in its secret names
)

// A NotifyTarget says where notifications go. Passwords and tokens are not here,
// but in a file of their own (package secrets).
type NotifyTarget struct {
	Name     string `json:"name"`
	Type     string `json:"type"` // one of the kinds
	Comment  string `json:"comment,omitempty"`
	Disable  bool   `json:"disable,omitempty"`
	Interval string `json:"interval,omitempty"` // ours: least time between messages without errors: "12h"

	Server   string   `json:"server,omitempty"` // a host for mail, a URL for Gotify and ntfy
	Port     int      `json:"port,omitempty"`
	Mode     string   `json:"mode,omitempty"` // tls, starttls, insecure
	Username string   `json:"username,omitempty"`
	MailTo   []string `json:"mailto,omitempty"`
	From     string   `json:"from-address,omitempty"`
	Author   string   `json:"author,omitempty"`

	URL    string   `json:"url,omitempty"`
	Method string   `json:"method,omitempty"`
	Header []string `json:"header,omitempty"` // "name=NAME,value=BASE64"
	Body   string   `json:"body,omitempty"`   // Base64
	Secret []string `json:"secret,omitempty"` // "name=NAME"

	Topic string `json:"topic,omitempty"`
}

// A NotifyMatcher says who hears of what. The texts are those of PBS.
type NotifyMatcher struct {
	Name     string   `json:"name"`
	Comment  string   `json:"comment,omitempty"`
	Disable  bool     `json:"disable,omitempty"`
	Mode     string   `json:"mode,omitempty"` // all, any; default all
	Invert   bool     `json:"invert-match,omitempty"`
	Field    []string `json:"match-field,omitempty"`    // "exact:type=gc,sync", "regex:job-id=^home"
	Severity []string `json:"match-severity,omitempty"` // "warning,error"
	Calendar []string `json:"match-calendar,omitempty"` // "mon..fri 8-17"
	Target   []string `json:"target,omitempty"`
}

// NotifyTarget returns the target of that name.
func (s *State) NotifyTarget(name string) (NotifyTarget, bool) {
	i := slices.IndexFunc(s.NotifyTargets, func(t NotifyTarget) bool { return t.Name == name })
	if i < 0 {
		return NotifyTarget{}, false
	}
	return s.NotifyTargets[i], true
}
