package traffic

import (
	"context"
	"net/http"
	"slices"
	"strings"

	"github.com/holdfast-mesh/holdfast/access"
	"github.com/holdfast-mesh/holdfast/pbs/rest"
	"github.com/holdfast-mesh/holdfast/pbs/settings"
	"github.com/holdfast-mesh/holdfast/pbs/upgrade"
)

// Endpoints returns the endpoints about the rules that s has, which are put in
// force in l when one is changed.
func Endpoints(s settings.Store, l *Limiter) []rest.Endpoint {
	a := api{s, l}
	const list, one = "/config/traffic-control", "/config/traffic-control/{name}"
	audit, modify := rest.Any(access.PrivSysAudit, "/"), rest.Any(access.PrivSysModify, "/")
	return []rest.Endpoint{
		{Method: http.MethodGet, Path: list, Need: audit, Handle: a.list},
		{Method: http.MethodPost, Path: list, Need: modify, Handle: a.add},
		{Method: http.MethodGet, Path: one, Need: audit, Handle: a.show},
		{Method: http.MethodPut, Path: one, Need: modify, Handle: a.change},
		{Method: http.MethodDelete, Path: one, Need: modify, Handle: a.remove},
		{Method: http.MethodGet, Path: "/admin/traffic-control", Need: audit, Handle: a.rates},
	}
}

type api struct {
	settings.Store
	limiter *Limiter
}

func (a api) withDigest(data any) rest.Answer {
	return rest.Answer{Data: data, Beside: map[string]any{"digest": settings.Digest(a.State().TrafficRules)}}
}

func (a api) list(context.Context, *rest.Call) (any, error) {
	return a.withDigest(append([]settings.TrafficRule{}, a.State().TrafficRules...)), nil
}

// A current is a rule with what goes through it, in bytes per second.
type current struct {
	settings.TrafficRule
	In  int64 `json:"cur-rate-in"`
	Out int64 `json:"cur-rate-out"`
}

func (a api) rates(context.Context, *rest.Call) (any, error) {
	list := []current{}
	for _, r := range a.limiter.Rates() {
		list = append(list, current(r))
	}
	return list, nil
}

func (a api) show(_ context.Context, c *rest.Call) (any, error) {
	rules := a.State().TrafficRules
	i := named(rules, c.Text("name"))
	if i < 0 {
		return nil, noRule(c.Text("name"))
	}
	return a.withDigest(rules[i]), nil
}

func named(rules []settings.TrafficRule, name string) int {
	return slices.IndexFunc(rules, func(r settings.TrafficRule) bool { return r.Name == name })
}

func noRule(name string) error {
	return upgrade.Errorf(http.StatusBadRequest, "no such traffic control rule '%s'", name)
}

// read changes what parameters say of a rule.
func read(c *rest.Call, r *settings.TrafficRule) {
	texts := map[string]*string{"rate-in": &r.RateIn, "burst-in": &r.BurstIn, "rate-out": &r.RateOut, "burst-out": &r.BurstOut, "comment": &r.Comment}
	lists := map[string]*[]string{"network": &r.Networks, "timeframe": &r.Timeframe, "users": &r.Users}
	for _, name := range c.Texts("delete") {
		switch {
		case texts[name] != nil:
			*texts[name] = ""
		case name == "timeframe", name == "users":
			*lists[name] = nil
		default:
			c.Fail("delete", "value '%s' is not defined in the enumeration.", name)
		}
		if of, ok := strings.CutPrefix(name, "rate-"); ok {
			*texts["burst-"+of] = "" // which is none without a rate
		}
	}
	for name, to := range texts {
		if c.Has(name) {
			*to = c.Text(name)
		}
	}
	for name, to := range lists {
		if c.Has(name) {
			*to = slices.Clone(c.Texts(name))
		}
	}
}

func (a api) add(ctx context.Context, c *rest.Call) (any, error) {
	r := settings.TrafficRule{Name: upgrade.Parsed(c.Params, "name", upgrade.ParseStore)} // a safe id, like a store's
	read(c, &r)
	if err := c.Err(); err != nil {
		return nil, err
	}
	return nil, a.update(ctx, "", func(rules *[]settings.TrafficRule) error {
		if named(*rules, r.Name) >= 0 {
			return upgrade.Errorf(http.StatusBadRequest, "traffic control rule '%s' already exists.", r.Name)
		}
		*rules = append(*rules, r)
		return Check(r)
	})
}

func digest(c *rest.Call) string {
	if !c.Has("digest") {
		return ""
	}
	return c.Text("digest")
}

func (a api) change(ctx context.Context, c *rest.Call) (any, error) {
	name := c.Text("name")
	if err := c.Err(); err != nil {
		return nil, err
	}
	return nil, a.update(ctx, digest(c), func(rules *[]settings.TrafficRule) error {
		i := named(*rules, name)
		if i < 0 {
			return noRule(name)
		}
		read(c, &(*rules)[i])
		if err := c.Err(); err != nil {
			return err
		}
		return Check((*rules)[i])
	})
}

func (a api) remove(ctx context.Context, c *rest.Call) (any, error) {
	name := c.Text("name")
	if err := c.Err(); err != nil {
		return nil, err
	}
	return nil, a.update(ctx, digest(c), func(rules *[]settings.TrafficRule) error {
		i := named(*rules, name)
		if i < 0 {
			return noRule(name)
		}
		*rules = slices.Delete(*rules, i, i+1)
		return nil
	})
}

// update changes the rules and puts them in force.
func (a api) update(ctx context.Context, want string, change func(*[]settings.TrafficRule) error) error {
	err := a.Update(ctx, func(s *settings.State) error {
		if err := settings.CheckDigest(s.TrafficRules, want); err != nil {
			return err
		}
		return change(&s.TrafficRules)
	})
	if err != nil {
		return err
	}
	return a.limiter.Follow(a.Store)
}
