package setup

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"path"
	"slices"
	"strings"

	"github.com/holdfast-mesh/holdfast/catalog"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/lock"
	"github.com/holdfast-mesh/holdfast/pbs/api/content"
	"github.com/holdfast-mesh/holdfast/pbs/rest"
	"github.com/holdfast-mesh/holdfast/pbs/settings"
	"github.com/holdfast-mesh/holdfast/pbs/stores"
	"github.com/holdfast-mesh/holdfast/pbs/upgrade"
)

// A storeItem is a datastore as it is set up.
type storeItem struct {
	settings.Datastore
	Comment     string `json:"comment,omitempty"`
	VerifyNew   bool   `json:"verify-new,omitempty"`
	Maintenance string `json:"maintenance-mode,omitempty"`

	TrashDelay *catalog.Duration `json:"trash-delay,omitempty"` // ours; left out: the default
}

func newStoreItem(d stores.Described) storeItem {
	return storeItem{d.Datastore, d.Settings.Comment, d.Settings.VerifyNew, content.Maintenance(d.Settings.Maintenance), d.Settings.TrashDelay}
}

// datastores lists the datastores that the caller may audit.
func (a *api) datastores(_ context.Context, c *rest.Call) (any, error) {
	all := a.Stores.Describe()
	list := []storeItem{}
	for _, d := range all {
		if c.May(audit, "datastore", d.Name) {
			list = append(list, newStoreItem(d))
		}
	}
	return withDigest(list, settings.Digest(all)), nil
}

func storeName(c *rest.Call) string { return upgrade.Parsed(c.Params, "name", upgrade.ParseStore) }

func (a *api) datastore(_ context.Context, c *rest.Call) (any, error) {
	name := storeName(c)
	if err := c.Err(); err != nil {
		return nil, err
	}
	all := a.Stores.Describe()
	i := slices.IndexFunc(all, func(d stores.Described) bool { return d.Name == name })
	if i < 0 {
		return nil, noSuch("datastore", name)
	}
	return withDigest(newStoreItem(all[i]), settings.Digest(all)), nil
}

// addDatastore begins to make a datastore.
func (a *api) addDatastore(ctx context.Context, c *rest.Call) (any, error) {
	create := stores.Create{Reuse: c.Bool("reuse-datastore")}
	create.Name = storeName(c)
	a.place(ctx, c, &create.Datastore)
	d := stores.Described{Datastore: create.Datastore}
	change(c.Params, &d)
	create.Datastore, create.Settings = d.Datastore, d.Settings
	a.newCloud(c, &create)
	if _, there := a.Settings.State().Datastore(create.Name); there && c.Err() == nil {
		c.Fail("name", "datastore '%s' already exists.", create.Name)
	}
	if err := c.Err(); err != nil {
		return nil, err
	}
	u, err := a.Stores.StartCreate(ctx, string(c.Who), create)
	return u, err
}

// place reads where a datastore lies. That of one on a removable disk is a path
// within its file system, or an absolute one while that is mounted.
func (a *api) place(ctx context.Context, c *rest.Call, d *settings.Datastore) {
	if !c.Has("backing-device") || c.Text("backing-device") == "" {
		d.Path = upgrade.Parsed(c.Params, "path", absolute)
		return
	}
	d.BackingDevice = c.Text("backing-device")
	d.Path = upgrade.Parsed(c.Params, "path", func(text string) (string, error) {
		within, err := absolute("/" + text)
		if !strings.HasPrefix(text, "/") {
			within = strings.TrimPrefix(within, "/")
		}
		return within, err
	})
	switch {
	case c.Err() != nil:
	case a.Place == nil:
		c.Fail("backing-device", "this node has no removable disks")
	case c.Has("backend"):
		c.Fail("backing-device", "the local part of a datastore with a bucket must be there at all times")
	default:
		if err := a.Place(ctx, d); err != nil {
			c.Fail("backing-device", "%v", err)
		}
	}
}

// newCloud reads what a datastore with a bucket needs beside.
func (a *api) newCloud(c *rest.Call, create *stores.Create) {
	if create.Backend.IsZero() {
		return
	}
	if _, ok := a.Settings.State().S3Client(create.Backend.Client); !ok {
		c.Fail("backend", "no such s3 client '%s'", create.Backend.Client)
	}
	create.Cloud = stores.NewCloud{Encrypt: c.Bool("encrypt"), TakeOver: c.Bool("overwrite-in-use"), Override: c.Texts("override")}
	if c.Has("recovery-key") {
		create.Cloud.Recovery = c.Text("recovery-key")
	}
	if create.Cloud.Recovery == "" && !create.Reuse {
		c.Fail("recovery-key", "the one who asks makes it, and keeps it where no site keeps its own: AGE-SECRET-KEY-1...")
	}
}

// backend reads a property string, or several properties of one.
func backend(p *upgrade.Params, d *stores.Described) {
	d.Backend = upgrade.Parsed(p, "backend", func(text string) (b settings.Backend, err error) {
		err = b.UnmarshalText([]byte(text))
		return b, cmp.Or(err, b.CheckCache(), settings.CheckPrefix(b.Prefix))
	})
}

// parts are properties of the backend that can be changed alone; ours.
var parts = []string{"max-cache-size", "offload-after", "offload-schedule", "audit-schedule", "read-only", "single-writer", "object-lock"}

func backendParts(p *upgrade.Params, d *stores.Described) {
	for _, name := range parts {
		if !p.Has(name) {
			continue
		}
		if d.Name != "" && d.Backend.IsZero() {
			p.Fail(name, "datastore '%s' has no bucket", d.Name)
			continue
		}
		_ = upgrade.Parsed(p, name, func(text string) (struct{}, error) {
			err := d.Backend.Set(name, text)
			if err == nil && name == "max-cache-size" {
				err = d.Backend.CheckCache()
			}
			return struct{}{}, err
		})
	}
}

// confirm is the parameter without which no lock is made that nobody can undo.
const confirm = "confirm-compliance"

// absolute reads the path of a directory.
func absolute(text string) (string, error) {
	switch {
	case !strings.HasPrefix(text, "/") || strings.ContainsAny(text, "\x00\n"):
		return "", errors.New("value does not match the regex pattern")
	case slices.Contains(strings.Split(text, "/"), ".."):
		return "", errors.New("the path must not have .. in it")
	case path.Clean(text) == "/":
		return "", errors.New("the root of the file system is no place for a datastore")
	}
	return path.Clean(text), nil
}

// change sets what came, and takes back what is to be deleted.
func change(p *upgrade.Params, d *stores.Described) {
	for _, name := range p.Texts("delete") {
		if !reset(d, name) {
			p.Fail("delete", "value '%s' is not defined in the enumeration.", name)
		}
	}
	if p.Has("comment") {
		d.Settings.Comment = comment(p, "comment")
	}
	if p.Has("verify-new") {
		d.Settings.VerifyNew = p.Bool("verify-new")
	}
	if p.Has("trash-delay") { // ours
		delay := catalog.Duration(upgrade.Parsed(p, "trash-delay", settings.ParseAge))
		d.Settings.TrashDelay = &delay
	}
	if p.Has("maintenance-mode") {
		d.Settings.Maintenance = upgrade.Parsed(p, "maintenance-mode", parseMaintenance)
	}
	locked := d.Backend.Lock
	if p.Has("backend") {
		backend(p, d)
	}
	backendParts(p, d)
	if now := d.Backend.Lock; now.Mode == lock.Compliance && now != locked && (!p.Has(confirm) || p.Text(confirm) != p.Text("name")) {
		p.Fail(confirm, "nobody can delete what is written then, for %d days, neither you nor the provider: say the name of the datastore to confirm that", now.Days)
	}
	if p.Has("gc-schedule") {
		d.GCSchedule = event(p, "gc-schedule")
	}
	for name, field := range kept(d) {
		if p.Has(name) {
			*field = comment(p, name)
		}
	}
	if p.Has("expected-age") { // ours
		d.ExpectedAge = upgrade.Parsed(p, "expected-age", func(text string) (string, error) {
			_, err := settings.ParseAge(text)
			return text, err
		})
	}
	if m := d.NotificationMode; m != "" && m != "legacy-sendmail" && m != "notification-system" {
		p.Fail("notification-mode", "value '%s' is not defined in the enumeration.", m)
	}
	for part := range strings.SplitSeq(d.Tuning, ",") {
		name, value, _ := strings.Cut(part, "=")
		if words := tuning[name]; words != nil && !slices.Contains(words, value) {
			p.Fail("tuning", "property '%s': value '%s' is not defined in the enumeration.", name, value)
		}
	}
}

// tuning are the properties of a datastore's tuning that are words (§7.3). What
// they say is kept, and not needed here.
var tuning = map[string][]string{
	"chunk-order": {"none", "inode"},
	"sync-level":  {"none", "file", "filesystem"},
}

// kept are properties that are kept for clients as they come.
func kept(d *stores.Described) map[string]*string {
	return map[string]*string{
		"notification-mode": &d.NotificationMode, "notify": &d.Notify, "notify-user": &d.NotifyUser, "tuning": &d.Tuning,
	}
}

// reset gives a property its default, and reports whether there is one of that
// name.
func reset(d *stores.Described, name string) bool {
	switch name {
	case "comment":
		d.Settings.Comment = ""
	case "verify-new":
		d.Settings.VerifyNew = false
	case "trash-delay":
		d.Settings.TrashDelay = nil
	case "maintenance-mode":
		d.Settings.Maintenance = catalog.Maintenance{}
	case "gc-schedule":
		d.GCSchedule = ""
	case "expected-age":
		d.ExpectedAge = ""
	default:
		field := kept(d)[name]
		if field == nil {
			return false
		}
		*field = ""
	}
	return true
}

// parseMaintenance reads a property string: "[type=]read-only,message=text".
func parseMaintenance(text string) (m catalog.Maintenance, err error) {
	mode, rest, _ := strings.Cut(text, ",")
	m.Mode = catalog.Mode(strings.TrimPrefix(mode, "type="))
	if m.Mode == catalog.InService || m.Mode == catalog.S3Refresh || m.Check() != nil {
		return m, upgrade.Errorf(http.StatusBadRequest, "value '%s' is not defined in the enumeration.", m.Mode)
	}
	if rest == "" {
		return m, nil
	}
	message, ok := strings.CutPrefix(rest, "message=")
	if !ok {
		return m, upgrade.Errorf(http.StatusBadRequest, "schema does not allow additional properties.")
	}
	if quoted, ok := strings.CutPrefix(message, `"`); ok && strings.HasSuffix(quoted, `"`) {
		message = strings.NewReplacer(`\\`, `\`, `\"`, `"`).Replace(strings.TrimSuffix(quoted, `"`))
	}
	if len(message) > 128*4 || strings.ContainsFunc(message, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return m, errors.New("value does not match the regex pattern")
	}
	m.Message = message
	return m, nil
}

// changeDatastore changes what is set up for a datastore.
func (a *api) changeDatastore(ctx context.Context, c *rest.Call) (any, error) {
	name, digest := storeName(c), digestParam(c.Params)
	change(c.Params, &stores.Described{})
	if err := c.Err(); err != nil {
		return nil, err
	}
	return nil, a.Stores.Update(ctx, name, digest, func(d *stores.Described) error {
		change(c.Params, d)
		return c.Err()
	})
}

// removeDatastore begins to remove a datastore, without its data.
func (a *api) removeDatastore(ctx context.Context, c *rest.Call) (any, error) {
	r := stores.Remove{Name: storeName(c), KeepJobs: c.Bool("keep-job-configs"), Destroy: c.Bool("destroy-data")}
	digest := digestParam(c.Params)
	if err := c.Err(); err != nil {
		return nil, err
	}
	if _, there := a.Settings.State().Datastore(r.Name); !there {
		return nil, upgrade.Errorf(http.StatusNotFound, "datastore '%s' does not exist.", r.Name)
	}
	if err := settings.CheckDigest(a.Stores.Describe(), digest); err != nil {
		return nil, err
	}
	u, err := a.Stores.StartRemove(ctx, string(c.Who), r)
	return u, err
}

// gc tells how the garbage collections stand.
func (a *api) gc(_ context.Context, c *rest.Call) (any, error) {
	only := ""
	if c.Has("store") {
		only = c.Store()
	}
	if err := c.Err(); err != nil {
		return nil, err
	}
	list := []content.GC{}
	for _, name := range a.Stores.Names() {
		if only != "" && name != only || !c.May(audit|backup, "datastore", name) {
			continue
		}
		g, err := content.GCOf(a.Stores, name)
		if err != nil {
			continue // it is not open
		}
		list = append(list, g)
	}
	return list, nil
}
