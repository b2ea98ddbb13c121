// Package notifications has the endpoints about who hears of what:
// /config/notifications as Proxmox Backup Server has it (PBS protocol notes
// §7.7), and below /holdfast what it has not: targets for ntfy and for the
// services that a URL names, and how deliveries stand.
package notifications

import (
	"context"
	"net/http"
	"slices"
	"strings"

	"github.com/holdfast-mesh/holdfast/access"
	"github.com/holdfast-mesh/holdfast/pbs/rest"
	"github.com/holdfast-mesh/holdfast/pbs/secrets"
	"github.com/holdfast-mesh/holdfast/pbs/settings"
	"github.com/holdfast-mesh/holdfast/pbs/upgrade"
)

// A Teller tells people.
type Teller interface {
	// CheckTarget and CheckMatcher say what is wrong with one. A target's
	// secrets are by name, that of its type is "".
	CheckTarget(t settings.NotifyTarget, secrets map[string]string) error
	CheckMatcher(m settings.NotifyMatcher) error

	Test(ctx context.Context, target string) error // sends a message at once
	Deliveries() any                               // how all targets stand
	Types() []string                               // of events
}

// Config says what the endpoints work on. Every field is required.
type Config struct {
	Settings settings.Store
	Secrets  *secrets.Secrets
	Teller   Teller
}

type api struct{ Config }

// SecretOf returns where the secret of a target is kept, and, with a slash behind
// it, those that have names.
func SecretOf(target string) string { return "notify/" + target }

const (
	base = "/config/notifications"
	ours = "/holdfast/notifications"
	acl  = "/system/notifications"
)

// Endpoints returns the endpoints.
func Endpoints(cfg Config) []rest.Endpoint {
	a := &api{cfg}
	get, post, put, del := http.MethodGet, http.MethodPost, http.MethodPut, http.MethodDelete
	sees, changes := rest.Any(access.PrivSysAudit, acl), rest.Any(access.PrivSysModify, acl)
	all := []rest.Endpoint{
		{Method: get, Path: base + "/matchers", Need: sees, Handle: a.matchers},
		{Method: post, Path: base + "/matchers", Need: changes, Handle: a.addMatcher},
		{Method: get, Path: base + "/matchers/{name}", Need: sees, Handle: a.matcher},
		{Method: put, Path: base + "/matchers/{name}", Need: changes, Handle: a.changeMatcher},
		{Method: del, Path: base + "/matchers/{name}", Need: changes, Handle: a.removeMatcher},
		{Method: get, Path: base + "/matcher-fields", Need: sees, Handle: a.fields},
		{Method: get, Path: base + "/matcher-field-values", Need: sees, Handle: a.fieldValues},
		{Method: get, Path: base + "/targets", Need: sees, Handle: a.targets},
		{Method: post, Path: base + "/targets/{name}/test", Need: changes, Handle: a.test},
		{Method: get, Path: ours + "/deliveries", Need: sees, Handle: a.deliveries},
	}
	for path, k := range map[string]*kind{
		base + "/endpoints/smtp": smtp, base + "/endpoints/gotify": gotify, base + "/endpoints/webhook": webhook,
		ours + "/ntfy": ntfy, ours + "/service": service,
	} {
		t := &targets{a, k}
		all = append(all,
			rest.Endpoint{Method: get, Path: path, Need: sees, Handle: t.list},
			rest.Endpoint{Method: post, Path: path, Need: changes, Handle: t.add},
			rest.Endpoint{Method: get, Path: path + "/{name}", Need: sees, Handle: t.show},
			rest.Endpoint{Method: put, Path: path + "/{name}", Need: changes, Handle: t.change},
			rest.Endpoint{Method: del, Path: path + "/{name}", Need: changes, Handle: t.remove},
		)
	}
	return all
}

// Absent returns what PBS has in these places and this one has not, for
// [rest.Config].
func Absent() map[string]string {
	return map[string]string{
		base + "/endpoints/sendmail": "There is no sendmail: make a target of the type smtp, with the server localhost and the mode insecure if one listens there",
	}
}

func withDigest(data any, digest string) rest.Answer {
	return rest.Answer{Data: data, Beside: map[string]any{"digest": digest}}
}

func optional(p *upgrade.Params, name string) string {
	if !p.Has(name) {
		return ""
	}
	return p.Text(name)
}

func nameOf(c *rest.Call) string { return upgrade.Parsed(c.Params, "name", upgrade.ParseStore) }

// digestOf is of all that is said of notifications.
func digestOf(s *settings.State) string {
	return settings.Digest([]any{s.NotifyTargets, s.NotifyMatchers})
}

func checkDigest(s *settings.State, want string) error {
	return settings.CheckDigest([]any{s.NotifyTargets, s.NotifyMatchers}, want)
}

// line reads one line of text.
func line(text string) (string, error) {
	if len(text) > 1024 || strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return "", upgrade.Errorf(http.StatusBadRequest, "value does not match the regex pattern")
	}
	return text, nil
}

// A shown is a target in the list of all.
type shown struct {
	Name    string `json:"name"`
	Type    string `json:"type"`
	Comment string `json:"comment,omitempty"`
	Disable bool   `json:"disable,omitempty"`
	Origin  string `json:"origin"`
}

const byUser = "user-created"

func (a *api) targets(context.Context, *rest.Call) (any, error) {
	list := []shown{}
	for _, t := range a.Settings.State().NotifyTargets {
		list = append(list, shown{t.Name, t.Type, t.Comment, t.Disable, byUser})
	}
	return list, nil
}

func (a *api) test(ctx context.Context, c *rest.Call) (any, error) {
	name := nameOf(c)
	if err := c.Err(); err != nil {
		return nil, err
	}
	if _, there := a.Settings.State().NotifyTarget(name); !there {
		return nil, upgrade.Errorf(http.StatusNotFound, "could not find endpoint '%s'", name)
	}
	return nil, a.Teller.Test(ctx, name)
}

func (a *api) deliveries(context.Context, *rest.Call) (any, error) { return a.Teller.Deliveries(), nil }

type fieldName struct {
	Name string `json:"name"`
}

// fieldNames are what events have; not each has all.
var fieldNames = []string{"datastore", "hostname", "job-id", "site", "type"}

func (a *api) fields(context.Context, *rest.Call) (any, error) {
	list := []fieldName{}
	for _, n := range fieldNames {
		list = append(list, fieldName{n})
	}
	return list, nil
}

type fieldValue struct {
	Field   string `json:"field"`
	Value   string `json:"value"`
	Comment string `json:"comment,omitempty"`
}

func (a *api) fieldValues(context.Context, *rest.Call) (any, error) {
	list := []fieldValue{}
	for _, t := range a.Teller.Types() {
		list = append(list, fieldValue{Field: "type", Value: t})
	}
	state := a.Settings.State()
	for _, d := range state.Datastores {
		list = append(list, fieldValue{Field: "datastore", Value: d.Name})
	}
	add := func(id, comment string) { list = append(list, fieldValue{"job-id", id, comment}) }
	for _, j := range state.PruneJobs {
		add(j.ID, j.Comment)
	}
	for _, j := range state.VerifyJobs {
		add(j.ID, j.Comment)
	}
	for _, j := range state.SyncJobs {
		add(j.ID, j.Comment)
	}
	for _, j := range state.OffloadJobs {
		add(j.ID, j.Comment)
	}
	for _, j := range state.ExportJobs {
		add(j.ID, j.Comment)
	}
	return list, nil
}

// removed removes the items of a kind from a list, and tells whether it was there.
func removed[T any](list *[]T, is func(T) bool) bool {
	before := len(*list)
	*list = slices.DeleteFunc(*list, is)
	return len(*list) < before
}
