package notifications

import (
	"context"
	"encoding/base64"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/holdfast-mesh/holdfast/pbs/rest"
	"github.com/holdfast-mesh/holdfast/pbs/settings"
	"github.com/holdfast-mesh/holdfast/pbs/upgrade"
)

// A kind is a kind of targets: what can be said of one, and what has to be.
type kind struct {
	name    string
	must    []string
	secret  string // the parameter that is one; "": none, or those with names
	need    bool   // there has to be a secret
	texts   func(t *settings.NotifyTarget) map[string]*string
	lists   func(t *settings.NotifyTarget) map[string]*[]string
	refused map[string]string // what PBS has and this has not
}

var (
	smtp = &kind{
		name: settings.TargetSMTP, must: []string{"server", "mailto", "from-address"}, secret: "password",
		texts: func(t *settings.NotifyTarget) map[string]*string {
			return map[string]*string{"server": &t.Server, "mode": &t.Mode, "username": &t.Username, "from-address": &t.From, "author": &t.Author}
		},
		lists: func(t *settings.NotifyTarget) map[string]*[]string {
			return map[string]*[]string{"mailto": &t.MailTo}
		},
		refused: map[string]string{"mailto-user": "this is not offered: give the address in mailto"},
	}
	gotify = &kind{
		name: settings.TargetGotify, must: []string{"server"}, secret: "token", need: true,
		texts: func(t *settings.NotifyTarget) map[string]*string { return map[string]*string{"server": &t.Server} },
	}
	webhook = &kind{
		name: settings.TargetWebhook, must: []string{"url"},
		texts: func(t *settings.NotifyTarget) map[string]*string {
			return map[string]*string{"url": &t.URL, "method": &t.Method, "body": &t.Body}
		},
		lists: func(t *settings.NotifyTarget) map[string]*[]string {
			return map[string]*[]string{"header": &t.Header}
		},
	}
	ntfy = &kind{
		name: settings.TargetNtfy, must: []string{"server", "topic"}, secret: "password",
		texts: func(t *settings.NotifyTarget) map[string]*string {
			return map[string]*string{"server": &t.Server, "topic": &t.Topic, "username": &t.Username}
		},
	}
	service = &kind{name: settings.TargetService, secret: "url", need: true}
)

func (k *kind) fields(t *settings.NotifyTarget) (texts map[string]*string, lists map[string]*[]string) {
	texts = map[string]*string{"comment": &t.Comment, "interval": &t.Interval}
	if k.texts != nil {
		maps.Copy(texts, k.texts(t))
	}
	if k.lists != nil {
		lists = k.lists(t)
	}
	return texts, lists
}

// set sets what came, and takes back what is to be deleted.
func (k *kind) set(p *upgrade.Params, t *settings.NotifyTarget) {
	texts, lists := k.fields(t)
	flags := map[string]*bool{"disable": &t.Disable}
	for _, name := range p.Texts("delete") {
		switch {
		case name == "port" && k == smtp:
			t.Port = 0
		case name == "secret" && k == webhook:
			t.Secret = nil
		case name == k.secret && !k.need && k.secret != "": // see secretsOf
		default:
			resetOne(p, name, texts, lists, flags, k.must)
		}
	}
	body := p.Has("body") && k == webhook // which may be long
	if body {
		delete(texts, "body")
		t.Body = upgrade.Parsed(p, "body", base64Text)
	}
	setAll(p, lists, texts, flags)
	if p.Has("port") && k == smtp {
		t.Port = int(p.Int("port", 1, 65535))
	}
	if k == webhook && p.Has("secret") {
		t.Secret = nil
		for _, text := range p.Texts("secret") {
			name, _, err := property(text)
			if err != nil {
				p.Fail("secret", "%v", err)
			}
			t.Secret = append(t.Secret, "name="+name)
		}
	}
	for name, why := range k.refused {
		if p.Has(name) && p.Text(name) != "" {
			p.Fail(name, "%s", why)
		}
	}
}

func base64Text(text string) (string, error) {
	if _, err := base64.StdEncoding.DecodeString(text); err != nil || len(text) > 64<<10 {
		return "", fmt.Errorf("it is no base64, or too long")
	}
	return text, nil
}

// property reads "name=NAME[,value=BASE64]".
func property(text string) (name, value string, err error) {
	for part := range strings.SplitSeq(text, ",") {
		key, v, _ := strings.Cut(part, "=")
		switch key {
		case "name":
			name = v
		case "value":
			raw, err := base64.StdEncoding.DecodeString(v)
			if err != nil {
				return "", "", fmt.Errorf("the value of %q is no base64", name)
			}
			value = string(raw)
		default:
			return "", "", fmt.Errorf("there is no property %q", key)
		}
	}
	if name == "" || strings.ContainsAny(name, "/ \r\n") {
		return "", "", fmt.Errorf("%q has no name", text)
	}
	return name, value, nil
}

// Property reads a header or a secret of a web hook: "name=NAME,value=BASE64".
func Property(text string) (name, value string, err error) { return property(text) }

// secretsOf returns the secrets that came, by where they are kept. "" forgets.
func (k *kind) secretsOf(p *upgrade.Params, target string) map[string]string {
	came := map[string]string{}
	if k.secret != "" {
		if p.Has(k.secret) {
			came[SecretOf(target)] = upgrade.Parsed(p, k.secret, line)
		}
		if slices.Contains(p.Texts("delete"), k.secret) {
			came[SecretOf(target)] = ""
		}
	}
	if k == webhook {
		for _, text := range p.Texts("secret") {
			if name, value, err := property(text); err == nil && value != "" {
				came[SecretOf(target)+"/"+name] = value
			}
		}
	}
	return came
}

// targets are the endpoints of one kind.
type targets struct {
	*api
	kind *kind
}

// A shownTarget is a target as PBS shows it: without its secrets.
type shownTarget struct {
	settings.NotifyTarget
	Type   string `json:"type,omitempty"` // not here: the path has it
	Origin string `json:"origin"`
}

func (t *targets) list(context.Context, *rest.Call) (any, error) {
	state := t.Settings.State()
	list := []shownTarget{}
	for _, one := range state.NotifyTargets {
		if one.Type == t.kind.name {
			list = append(list, shownTarget{NotifyTarget: one, Origin: byUser})
		}
	}
	return withDigest(list, digestOf(state)), nil
}

func (t *targets) none(name string) error {
	return upgrade.Errorf(http.StatusNotFound, "endpoint '%s' does not exist", name)
}

func (t *targets) is(name string) func(settings.NotifyTarget) bool {
	return func(o settings.NotifyTarget) bool { return o.Name == name && o.Type == t.kind.name }
}

func (t *targets) show(_ context.Context, c *rest.Call) (any, error) {
	name := nameOf(c)
	if err := c.Err(); err != nil {
		return nil, err
	}
	state := t.Settings.State()
	i := slices.IndexFunc(state.NotifyTargets, t.is(name))
	if i < 0 {
		return nil, t.none(name)
	}
	return withDigest(shownTarget{NotifyTarget: state.NotifyTargets[i], Origin: byUser}, digestOf(state)), nil
}

// verdict says what is wrong with a target and the secrets that it will have.
func (t *targets) verdict(target settings.NotifyTarget, came map[string]string) error {
	have := map[string]string{"": t.Secrets.Get(SecretOf(target.Name))}
	maps.Copy(have, t.Secrets.Below(SecretOf(target.Name)+"/"))
	for place, secret := range came {
		rest := strings.TrimPrefix(strings.TrimPrefix(place, SecretOf(target.Name)), "/")
		have[rest] = secret
	}
	if err := t.Teller.CheckTarget(target, have); err != nil {
		return upgrade.Errorf(http.StatusBadRequest, "endpoint '%s': %v", target.Name, err)
	}
	return nil
}

func (t *targets) add(ctx context.Context, c *rest.Call) (any, error) {
	target, digest := settings.NotifyTarget{Name: nameOf(c), Type: t.kind.name}, optional(c.Params, "digest")
	t.kind.set(c.Params, &target)
	came := t.kind.secretsOf(c.Params, target.Name)
	must := slices.Clone(t.kind.must)
	if t.kind.need {
		must = append(must, t.kind.secret)
	}
	for _, name := range must {
		if !c.Has(name) {
			c.Fail(name, "parameter is missing and it is not optional.")
		}
	}
	if err := c.Err(); err != nil {
		return nil, err
	}
	state := t.Settings.State()
	if err := checkDigest(state, digest); err != nil {
		return nil, err
	}
	exists := upgrade.Errorf(http.StatusBadRequest, "endpoint '%s' already exists", target.Name)
	if _, there := state.NotifyTarget(target.Name); there {
		return nil, exists
	}
	if err := t.verdict(target, came); err != nil {
		return nil, err
	}
	if err := t.Secrets.Set(ctx, came); err != nil { // first: without, a target is of no use
		return nil, err
	}
	return nil, t.Settings.Update(ctx, func(s *settings.State) error {
		if _, there := s.NotifyTarget(target.Name); there {
			return exists
		}
		s.NotifyTargets = append(s.NotifyTargets, target)
		return nil
	})
}

func (t *targets) change(ctx context.Context, c *rest.Call) (any, error) {
	name, digest := nameOf(c), optional(c.Params, "digest")
	t.kind.set(c.Params, &settings.NotifyTarget{})
	came := t.kind.secretsOf(c.Params, name)
	if err := c.Err(); err != nil {
		return nil, err
	}
	err := t.Settings.Update(ctx, func(s *settings.State) error {
		if err := checkDigest(s, digest); err != nil {
			return err
		}
		i := slices.IndexFunc(s.NotifyTargets, t.is(name))
		if i < 0 {
			return t.none(name)
		}
		t.kind.set(c.Params, &s.NotifyTargets[i])
		if err := c.Err(); err != nil {
			return err
		}
		return t.verdict(s.NotifyTargets[i], came)
	})
	if err != nil || len(came) == 0 {
		return nil, err
	}
	return nil, t.Secrets.Set(ctx, came)
}

func (t *targets) remove(ctx context.Context, c *rest.Call) (any, error) {
	name, digest := nameOf(c), optional(c.Params, "digest")
	if err := c.Err(); err != nil {
		return nil, err
	}
	err := t.Settings.Update(ctx, func(s *settings.State) error {
		if err := checkDigest(s, digest); err != nil {
			return err
		}
		for _, m := range s.NotifyMatchers {
			if slices.Contains(m.Target, name) && slices.ContainsFunc(s.NotifyTargets, t.is(name)) {
				return upgrade.Errorf(http.StatusBadRequest, "cannot delete '%s', referenced by: %s", name, m.Name)
			}
		}
		if !removed(&s.NotifyTargets, t.is(name)) {
			return t.none(name)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return nil, t.Secrets.Set(ctx, map[string]string{SecretOf(name): ""})
}
