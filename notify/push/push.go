// Package push sends notifications to ntfy, Gotify, and the chats and services
// that shoutrrr knows, each named by a URL.
package push

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/nicholas-fedor/shoutrrr/pkg/router"
	"github.com/nicholas-fedor/shoutrrr/pkg/services/push/gotify"
	"github.com/nicholas-fedor/shoutrrr/pkg/types"

	"github.com/holdfast-mesh/holdfast/notify"
)

// services are those of the library that end by themselves when a server does
// not answer: it can cancel nothing.
var services = []string{
	"bark", "discord", "gotify", "lark", "matrix", "mattermost", "ntfy", "opsgenie", "pagerduty", "pushbullet", "pushover", "rocketchat", "signal", "slack", "wecom",
}

// titled are those that take a title apart from the text.
var titled = []string{"bark", "discord", "gotify", "matrix", "mattermost", "ntfy", "opsgenie", "pushbullet", "pushover", "slack"}

// Services returns the names of the services that there are.
func Services() []string { return slices.Clone(services) }

// A Target sends to one service.
type Target struct {
	address string
	scheme  string
	secrets []string // parts of the address that no error shows
}

// New returns the target that a URL names: "ntfy://host/topic". It connects to
// nobody.
func New(address string) (*Target, error) {
	u, err := url.Parse(address)
	if err != nil {
		return nil, errors.New("push: the address is no URL") // which may have a secret in it
	}
	t := &Target{address: address, scheme: strings.ToLower(u.Scheme)}
	if !slices.Contains(services, t.scheme) {
		return nil, fmt.Errorf("push: there is no service %q, but %s", u.Scheme, strings.Join(services, ", "))
	}
	if u.User != nil {
		if word, set := u.User.Password(); set {
			t.secrets = append(t.secrets, word)
		}
		t.secrets = append(t.secrets, u.User.Username())
	}
	for word := range strings.SplitSeq(u.Path, "/") {
		if len(word) >= 8 { // tokens are long, names of topics need not be secret
			t.secrets = append(t.secrets, word)
		}
	}
	_, err = t.open()
	return t, err
}

// Gotify returns a target at the server with a URL, for an application's token.
func Gotify(server, token string) (*Target, error) {
	u, err := url.Parse(server)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, fmt.Errorf("gotify: the server is %q, want a URL with http:// or https://", server)
	}
	if token == "" {
		return nil, errors.New("gotify: no token")
	}
	query := url.Values{"useheader": {"yes"}}
	if u.Scheme == "http" {
		query.Set("disabletls", "yes")
	}
	at := url.URL{Scheme: "gotify", Host: u.Host, Path: strings.TrimSuffix(u.Path, "/") + "/" + token, RawQuery: query.Encode()}
	return New(at.String())
}

// Ntfy returns a target for a topic at the server with a URL. The user may be "";
// an access token is a password without a user.
func Ntfy(server, topic, user, password string) (*Target, error) {
	u, err := url.Parse(server)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, fmt.Errorf("ntfy: the server is %q, want a URL with http:// or https://", server)
	}
	if topic == "" || strings.ContainsAny(topic, "/ ?#") {
		return nil, fmt.Errorf("ntfy: %q is no topic", topic)
	}
	at := url.URL{Scheme: "ntfy", Host: u.Host, Path: "/" + topic, RawQuery: url.Values{"scheme": {u.Scheme}}.Encode()}
	if user != "" || password != "" {
		at.User = url.UserPassword(user, password)
	}
	return New(at.String())
}

// open makes a service, which remembers what it sends, so each message has one.
func (t *Target) open() (types.Service, error) {
	r := &router.ServiceRouter{}
	service, err := r.Locate(t.address)
	if err != nil {
		return nil, t.clean(err)
	}
	if g, is := service.(*gotify.Service); is { // the library doubles the slash behind it
		g.Config.Path = strings.TrimSuffix(g.Config.Path, "/")
	}
	return service, nil
}

// Send sends m. When ctx ends before the service has answered, the request goes
// on until the time limit of the library, half a minute at most, and is not
// waited for.
func (t *Target) Send(ctx context.Context, m notify.Message) error {
	service, err := t.open()
	if err != nil {
		return err
	}
	text, params := m.Text, types.Params{}
	if slices.Contains(titled, t.scheme) {
		params.SetTitle(m.Subject)
	} else {
		text = m.Subject + "\n\n" + text
	}
	if p := priority(t.scheme, m.Severity); p != "" {
		params["priority"] = p
	}
	if len(text) > maxText {
		text = strings.ToValidUTF8(text[:maxText], "") + "…"
	}
	done := make(chan error, 1)
	go func() {
		defer func() {
			if p := recover(); p != nil {
				done <- fmt.Errorf("the library has a bug: %v", p)
			}
		}()
		done <- service.Send(text, &params)
	}()
	select {
	case err = <-done:
	case <-ctx.Done():
		err = ctx.Err()
	}
	if err != nil {
		return t.clean(err)
	}
	return nil
}

// maxText is what the services take, in bytes; ntfy makes a file of more.
const maxText = 3900

// priority is what makes a telephone ring, where a service has that.
func priority(scheme string, s notify.Severity) string {
	urgent := s == notify.Error
	switch {
	case scheme == "gotify" && urgent:
		return "8"
	case scheme == "gotify":
		return "4"
	case scheme == "ntfy" && urgent:
		return "high"
	}
	return ""
}

// clean returns an error without secrets.
func (t *Target) clean(err error) error {
	text := err.Error()
	for _, s := range append([]string{t.address}, t.secrets...) {
		if s != "" {
			text = strings.ReplaceAll(strings.ReplaceAll(text, url.PathEscape(s), "***"), s, "***")
		}
	}
	return fmt.Errorf("%s: %s", t.scheme, text)
}
