package notifications

import (
	"context"
	"net/http"
	"slices"

	"github.com/holdfast-mesh/holdfast/pbs/rest"
	"github.com/holdfast-mesh/holdfast/pbs/settings"
	"github.com/holdfast-mesh/holdfast/pbs/upgrade"
)

// A shownMatcher is a matcher as PBS shows it.
type shownMatcher struct {
	settings.NotifyMatcher
	Origin string `json:"origin"`
}

func (a *api) matchers(context.Context, *rest.Call) (any, error) {
	state := a.Settings.State()
	list := []shownMatcher{}
	for _, m := range state.NotifyMatchers {
		list = append(list, shownMatcher{m, byUser})
	}
	return withDigest(list, digestOf(state)), nil
}

func noMatcher(name string) error {
	return upgrade.Errorf(http.StatusNotFound, "matcher '%s' does not exist", name)
}

func isMatcher(name string) func(settings.NotifyMatcher) bool {
	return func(m settings.NotifyMatcher) bool { return m.Name == name }
}

func (a *api) matcher(_ context.Context, c *rest.Call) (any, error) {
	name := nameOf(c)
	if err := c.Err(); err != nil {
		return nil, err
	}
	state := a.Settings.State()
	i := slices.IndexFunc(state.NotifyMatchers, isMatcher(name))
	if i < 0 {
		return nil, noMatcher(name)
	}
	return withDigest(shownMatcher{state.NotifyMatchers[i], byUser}, digestOf(state)), nil
}

// setMatcher sets what came, and takes back what is to be deleted.
func setMatcher(p *upgrade.Params, m *settings.NotifyMatcher) {
	lists := map[string]*[]string{"match-field": &m.Field, "match-severity": &m.Severity, "match-calendar": &m.Calendar, "target": &m.Target}
	texts := map[string]*string{"comment": &m.Comment, "mode": &m.Mode}
	flags := map[string]*bool{"disable": &m.Disable, "invert-match": &m.Invert}
	for _, name := range p.Texts("delete") {
		resetOne(p, name, texts, lists, flags, nil)
	}
	setAll(p, lists, texts, flags)
	if m.Mode != "" && m.Mode != "all" && m.Mode != "any" {
		p.Fail("mode", "value '%s' is not defined in the enumeration.", m.Mode)
	}
}

// setAll sets what came.
func setAll(p *upgrade.Params, lists map[string]*[]string, texts map[string]*string, flags map[string]*bool) {
	for name, field := range lists {
		if p.Has(name) {
			*field = slices.Clone(p.Texts(name))
			for _, text := range *field {
				if _, err := line(text); err != nil {
					p.Fail(name, "%v", err)
				}
			}
		}
	}
	for name, field := range texts {
		if p.Has(name) {
			*field = upgrade.Parsed(p, name, line)
		}
	}
	for name, field := range flags {
		if p.Has(name) {
			*field = p.Bool(name)
		}
	}
}

// resetOne takes back what is to be deleted. What must be there cannot be.
func resetOne(p *upgrade.Params, name string, texts map[string]*string, lists map[string]*[]string, flags map[string]*bool, must []string) {
	switch {
	case slices.Contains(must, name):
		p.Fail("delete", "value '%s' is not defined in the enumeration.", name)
	case lists[name] != nil:
		*lists[name] = nil
	case texts[name] != nil:
		*texts[name] = ""
	case flags[name] != nil:
		*flags[name] = false
	default:
		p.Fail("delete", "value '%s' is not defined in the enumeration.", name)
	}
}

// check says what is wrong with a matcher in a state.
func (a *api) check(s *settings.State, m settings.NotifyMatcher) error {
	for _, t := range m.Target {
		if _, there := s.NotifyTarget(t); !there {
			return upgrade.Errorf(http.StatusBadRequest, "could not find endpoint '%s'", t)
		}
	}
	if err := a.Teller.CheckMatcher(m); err != nil {
		return upgrade.Errorf(http.StatusBadRequest, "matcher '%s': %v", m.Name, err)
	}
	return nil
}

func (a *api) addMatcher(ctx context.Context, c *rest.Call) (any, error) {
	m, digest := settings.NotifyMatcher{Name: nameOf(c)}, optional(c.Params, "digest")
	setMatcher(c.Params, &m)
	if err := c.Err(); err != nil {
		return nil, err
	}
	return nil, a.Settings.Update(ctx, func(s *settings.State) error {
		if err := checkDigest(s, digest); err != nil {
			return err
		}
		if slices.ContainsFunc(s.NotifyMatchers, isMatcher(m.Name)) {
			return upgrade.Errorf(http.StatusBadRequest, "matcher '%s' already exists", m.Name)
		}
		s.NotifyMatchers = append(s.NotifyMatchers, m)
		return a.check(s, m)
	})
}

func (a *api) changeMatcher(ctx context.Context, c *rest.Call) (any, error) {
	name, digest := nameOf(c), optional(c.Params, "digest")
	setMatcher(c.Params, &settings.NotifyMatcher{})
	if err := c.Err(); err != nil {
		return nil, err
	}
	return nil, a.Settings.Update(ctx, func(s *settings.State) error {
		if err := checkDigest(s, digest); err != nil {
			return err
		}
		i := slices.IndexFunc(s.NotifyMatchers, isMatcher(name))
		if i < 0 {
			return noMatcher(name)
		}
		setMatcher(c.Params, &s.NotifyMatchers[i])
		if err := c.Err(); err != nil {
			return err
		}
		return a.check(s, s.NotifyMatchers[i])
	})
}

func (a *api) removeMatcher(ctx context.Context, c *rest.Call) (any, error) {
	name, digest := nameOf(c), optional(c.Params, "digest")
	if err := c.Err(); err != nil {
		return nil, err
	}
	return nil, a.Settings.Update(ctx, func(s *settings.State) error {
		if err := checkDigest(s, digest); err != nil {
			return err
		}
		if !removed(&s.NotifyMatchers, isMatcher(name)) {
			return noMatcher(name)
		}
		return nil
	})
}
