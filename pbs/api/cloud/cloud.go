// Package cloud has the endpoints about S3 stores, and about datastores whose
// home is a bucket: /config/s3, /admin/s3 and /admin/datastore/{store}/s3-refresh
// as Proxmox Backup Server has them (PBS protocol notes §7.11), and our own below
// /holdfast: offload, audit, take-over, and how the bucket is.
package cloud

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/holdfast-mesh/holdfast/access"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/bucket"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/bucket/pin"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/doctor"
	"github.com/holdfast-mesh/holdfast/pbs/rest"
	"github.com/holdfast-mesh/holdfast/pbs/s3"
	"github.com/holdfast-mesh/holdfast/pbs/settings"
	"github.com/holdfast-mesh/holdfast/pbs/stores"
	"github.com/holdfast-mesh/holdfast/pbs/upgrade"
)

// Config says what the endpoints work on. Every field is required.
type Config struct {
	Settings settings.Store
	Clients  *s3.Clients
	Stores   *stores.Set
}

type api struct{ Config }

// Endpoints returns the endpoints.
func Endpoints(cfg Config) []rest.Endpoint {
	a := &api{cfg}
	get, post, put, del := http.MethodGet, http.MethodPost, http.MethodPut, http.MethodDelete
	sees, changes := rest.Any(access.PrivSysAudit, "/"), rest.Any(access.PrivSysModify, "/")
	const acl, own = "/datastore/{store}", "/holdfast/datastore/{store}"
	works := rest.Any(access.PrivDatastoreModify, acl)
	return []rest.Endpoint{
		{Method: get, Path: "/config/s3", Need: sees, Handle: a.list},
		{Method: post, Path: "/config/s3", Need: changes, Handle: a.add},
		{Method: get, Path: "/config/s3/{id}", Need: sees, Handle: a.show},
		{Method: put, Path: "/config/s3/{id}", Need: changes, Handle: a.change},
		{Method: del, Path: "/config/s3/{id}", Need: changes, Handle: a.remove},
		{Method: get, Path: "/admin/s3", Need: sees, Handle: a.list},
		{Method: put, Path: "/admin/s3/{id}/check", Need: changes, Handle: a.check},
		{Method: put, Path: "/admin/s3/{id}/reset-counters", Need: changes, Handle: a.resetCounters},
		{Method: get, Path: "/holdfast/s3", Need: sees, Handle: a.bills},
		{Method: get, Path: "/holdfast/s3/runs", Need: sees, Handle: a.runs},

		{Method: put, Path: "/admin/datastore/{store}/s3-refresh", Need: works, Handle: a.refresh},
		{Method: post, Path: own + "/offload", Need: works, Handle: a.offload},
		{Method: post, Path: own + "/audit", Need: works, Handle: a.audit},
		{Method: post, Path: own + "/take-over", Need: rest.Any(access.PrivDatastoreAllocate, acl), Handle: a.takeOver},
		{Method: post, Path: own + "/doctor", Need: works, Handle: a.examine},
		{Method: get, Path: own + "/doctor", Need: rest.Any(access.PrivDatastoreAudit, acl), Handle: a.report},
		{Method: get, Path: own + "/thaw", Need: works, Handle: a.planThaw},
		{Method: post, Path: own + "/thaw", Need: works, Handle: a.thaw},
		{Method: get, Path: own + "/migrate", Need: works, Handle: a.planMigrate},
		{Method: post, Path: own + "/migrate", Need: rest.Any(access.PrivDatastoreAllocate, acl), Handle: a.migrate},
		{Method: get, Path: own + "/cloud", Need: rest.Any(access.PrivDatastoreAudit, acl), Handle: a.cloud},
	}
}

func withDigest(data any, digest string) rest.Answer {
	return rest.Answer{Data: data, Beside: map[string]any{"digest": digest}}
}

func (a *api) list(context.Context, *rest.Call) (any, error) {
	all := a.Settings.State().S3Clients
	return withDigest(all, settings.Digest(all)), nil
}

func clientID(c *rest.Call) string { return upgrade.Parsed(c.Params, "id", upgrade.ParseStore) }

func noSuch(id string) error {
	return upgrade.Errorf(http.StatusBadRequest, "no such s3 client '%s'", id)
}

func (a *api) show(_ context.Context, c *rest.Call) (any, error) {
	id := clientID(c)
	if err := c.Err(); err != nil {
		return nil, err
	}
	state := a.Settings.State()
	client, ok := state.S3Client(id)
	if !ok {
		return nil, noSuch(id)
	}
	return withDigest(client, settings.Digest(state.S3Clients)), nil
}

// line reads text without control characters.
func line(text string) (string, error) {
	if text == "" || len(text) > 512 || strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r == 0x7f }) {
		return "", errors.New("value does not match the regex pattern")
	}
	return text, nil
}

// region reads the name of one: what becomes a part of a host must not become more.
func region(text string) (string, error) {
	if len(text) > 64 || strings.Trim(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_") != "" || text == "" {
		return "", errors.New("a region has letters, digits, - and _ only, at most 64: eu-central-1, or auto")
	}
	return text, nil
}

func size(text string) (string, error) {
	_, err := settings.ParseSize(text)
	return text, err
}

func endpoint(text string) (string, error) {
	text, err := line(text)
	return text, cmp.Or(err, settings.CheckEndpoint(text))
}

// optional reads a text that need not be there.
func optional(p *upgrade.Params, name string) string {
	if !p.Has(name) {
		return ""
	}
	return p.Text(name)
}

// place reads a prefix that need not be there.
func place(p *upgrade.Params, name string) string {
	if !p.Has(name) {
		return ""
	}
	return upgrade.Parsed(p, name, func(text string) (string, error) { return text, settings.CheckPrefix(text) })
}

// set sets what came, and takes back what is to be deleted.
func set(p *upgrade.Params, c *settings.S3Client) {
	for _, name := range p.Texts("delete") {
		if !reset(c, name) {
			p.Fail("delete", "value '%s' is not defined in the enumeration.", name)
		}
	}
	if p.Has("endpoint") {
		c.Endpoint = upgrade.Parsed(p, "endpoint", endpoint)
	}
	if p.Has("region") {
		c.Region = upgrade.Parsed(p, "region", region)
	}
	if p.Has("access-key") {
		c.AccessKey = upgrade.Parsed(p, "access-key", line)
	}
	for name, field := range map[string]*string{"rate-in": &c.RateIn, "rate-out": &c.RateOut} {
		if p.Has(name) {
			*field = upgrade.Parsed(p, name, size)
		}
	}
	for name, field := range map[string]*bool{"path-style": &c.PathStyle, "denied-means-slow": &c.DeniedMeansSlow} {
		if p.Has(name) {
			*field = p.Bool(name)
		}
	}
	money(p, c)
	if p.Has("fingerprint") {
		c.Fingerprint = upgrade.Parsed(p, "fingerprint", pin.Parse)
	}
	if p.Has("port") {
		c.Port = int(p.Int("port", 1, 65535))
	}
	if p.Has("put-rate-limit") {
		c.PutRateLimit = int(p.Int("put-rate-limit", 1, 100_000))
	}
	for _, name := range []string{"provider-quirks", "burst-in", "burst-out"} {
		if p.Has(name) && p.Text(name) != "" {
			p.Fail(name, "this is not offered: what a store can do is found out by trying")
		}
	}
}

func reset(c *settings.S3Client, name string) bool {
	switch name {
	case "port":
		c.Port = 0
	case "region":
		c.Region = ""
	case "path-style":
		c.PathStyle = false
	case "fingerprint":
		c.Fingerprint = ""
	case "denied-means-slow":
		c.DeniedMeansSlow = false
	case "put-rate-limit":
		c.PutRateLimit = 0
	case "provider":
		c.Provider = ""
	case "prices":
		c.Prices = ""
	case "budget":
		c.Budget = ""
	case "rate-in":
		c.RateIn = ""
	case "rate-out":
		c.RateOut = ""
	default:
		return false
	}
	return true
}

func (a *api) add(ctx context.Context, c *rest.Call) (any, error) {
	client := settings.S3Client{ID: clientID(c)}
	set(c.Params, &client)
	for name, value := range map[string]string{"endpoint": client.Endpoint, "access-key": client.AccessKey} {
		if value == "" && !c.Has(name) {
			c.Fail(name, "parameter is missing and it is not optional.")
		}
	}
	secret := upgrade.Parsed(c.Params, "secret-key", line)
	if err := c.Err(); err != nil {
		return nil, err
	}
	if _, there := a.Settings.State().S3Client(client.ID); there {
		return nil, upgrade.Errorf(http.StatusBadRequest, "s3 client '%s' already exists.", client.ID)
	}
	// The secret first: a client without one is of no use.
	if err := a.Clients.SetSecret(ctx, client.ID, secret); err != nil {
		return nil, err
	}
	return nil, a.Settings.Update(ctx, func(s *settings.State) error {
		if _, there := s.S3Client(client.ID); there {
			return upgrade.Errorf(http.StatusBadRequest, "s3 client '%s' already exists.", client.ID)
		}
		s.S3Clients = append(s.S3Clients, client)
		return nil
	})
}

func (a *api) change(ctx context.Context, c *rest.Call) (any, error) {
	id, secret := clientID(c), ""
	set(c.Params, &settings.S3Client{})
	if c.Has("secret-key") {
		secret = upgrade.Parsed(c.Params, "secret-key", line)
	}
	digest := optional(c.Params, "digest")
	if err := c.Err(); err != nil {
		return nil, err
	}
	err := a.Settings.Update(ctx, func(s *settings.State) error {
		if err := settings.CheckDigest(s.S3Clients, digest); err != nil {
			return err
		}
		for i := range s.S3Clients {
			if s.S3Clients[i].ID == id {
				set(c.Params, &s.S3Clients[i])
				return c.Err()
			}
		}
		return noSuch(id)
	})
	if err == nil && secret != "" {
		err = a.Clients.SetSecret(ctx, id, secret)
	}
	if err == nil {
		err = a.Stores.Sync(ctx)
	}
	return nil, err
}

func (a *api) remove(ctx context.Context, c *rest.Call) (any, error) {
	id, digest := clientID(c), optional(c.Params, "digest")
	if err := c.Err(); err != nil {
		return nil, err
	}
	err := a.Settings.Update(ctx, func(s *settings.State) error {
		if err := settings.CheckDigest(s.S3Clients, digest); err != nil {
			return err
		}
		if _, there := s.S3Client(id); !there {
			return noSuch(id)
		}
		for _, d := range s.Datastores {
			if d.Backend.Client == id {
				return upgrade.Errorf(http.StatusBadRequest, "s3 client '%s' is used by datastore '%s'", id, d.Name)
			}
		}
		s.S3Clients = slices.DeleteFunc(s.S3Clients, func(c settings.S3Client) bool { return c.ID == id })
		return nil
	})
	if err != nil {
		return nil, err
	}
	return nil, a.Clients.SetSecret(ctx, id, "")
}

// A checked is what a store was seen to do.
type checked struct {
	Bucket string              `json:"bucket"`
	Can    bucket.Capabilities `json:"can"`
	Usable bool                `json:"usable"`
	Fenced bool                `json:"fenced"` // it can keep two writers apart
	Why    string              `json:"why,omitempty"`
	Doctor *doctor.Report      `json:"doctor"`
}

// check tries out a bucket, and asks the doctor about it.
func (a *api) check(ctx context.Context, c *rest.Call) (any, error) {
	id, name, prefix := clientID(c), upgrade.Parsed(c.Params, "bucket", line), place(c.Params, "store-prefix")
	if err := c.Err(); err != nil {
		return nil, err
	}
	b, err := a.Clients.Bucket(id, name, prefix)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	ctx = bucket.Notify(ctx, func(text string) { cancel(fmt.Errorf("%w: %s", bucket.ErrSilent, text)) }) // somebody waits for us
	ctx, meter := bucket.Metered(ctx)
	report, err := doctor.Examine(ctx, doctor.Config{Bucket: b})
	if err != nil {
		return nil, err
	}
	can, err := b.Probe(ctx)
	report.Requests = meter.Requests() // of both
	r := checked{Bucket: b.String(), Doctor: report}
	if err != nil {
		r.Why = err.Error() // the doctor tells what is wrong
		return r, nil
	}
	r = checked{Doctor: report, Bucket: b.String(), Can: can, Usable: true, Fenced: can.Fenced()}
	if err := can.Usable(); err != nil {
		r.Usable, r.Why = false, err.Error()
	}
	return r, nil
}

func (a *api) start(c *rest.Call, begin func(store, auth string) (any, error)) (any, error) {
	store := c.Store()
	if err := c.Err(); err != nil {
		return nil, err
	}
	return begin(store, string(c.Who))
}

func (a *api) refresh(_ context.Context, c *rest.Call) (any, error) {
	return a.start(c, func(store, auth string) (any, error) { return a.Stores.StartRefresh(store, auth) })
}

func (a *api) offload(_ context.Context, c *rest.Call) (any, error) {
	return a.start(c, func(store, auth string) (any, error) { return a.Stores.StartOffload(store, auth) })
}

func (a *api) audit(_ context.Context, c *rest.Call) (any, error) {
	return a.start(c, func(store, auth string) (any, error) { return a.Stores.StartAudit(store, auth) })
}

func (a *api) takeOver(_ context.Context, c *rest.Call) (any, error) {
	force := c.Bool("force")
	return a.start(c, func(store, auth string) (any, error) { return a.Stores.StartTakeOver(store, auth, force) })
}

// cloud tells how a datastore's bucket is; null if it has none.
func (a *api) cloud(_ context.Context, c *rest.Call) (any, error) {
	return a.start(c, func(store, _ string) (any, error) {
		st, ok := a.Stores.Cloud(store)
		if !ok {
			return nil, nil
		}
		return st, nil
	})
}

// examine asks the doctor about a datastore's bucket.
func (a *api) examine(_ context.Context, c *rest.Call) (any, error) {
	return a.start(c, func(store, auth string) (any, error) { return a.Stores.StartDoctor(store, auth) })
}

// report is what the doctor said last; null if nobody asked.
func (a *api) report(_ context.Context, c *rest.Call) (any, error) {
	return a.start(c, func(store, _ string) (any, error) {
		r, err := a.Stores.Doctor(store)
		if err != nil || r == nil {
			return nil, err
		}
		return r, nil
	})
}
