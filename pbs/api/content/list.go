package content

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/holdfast-mesh/holdfast/access"
	"github.com/holdfast-mesh/holdfast/catalog"
	"github.com/holdfast-mesh/holdfast/catalog/naming"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/usage"
	"github.com/holdfast-mesh/holdfast/pbs/rest"
	"github.com/holdfast-mesh/holdfast/pbs/upgrade"
)

// A storeItem is a datastore in the list of those that the caller may use.
type storeItem struct {
	Store       string  `json:"store"`
	Comment     *string `json:"comment"`
	Maintenance string  `json:"maintenance,omitempty"`
	MountStatus string  `json:"mount-status"`
	BackendType string  `json:"backend-type"`
}

// list returns the datastores in which the caller may see something. One that
// cannot be opened is there too, as if it were in maintenance, with the reason.
func (a *api) list(_ context.Context, c *rest.Call) (any, error) {
	list := []storeItem{}
	for _, d := range a.Stores.Describe() {
		if !c.MayBelow(anything, "datastore", d.Name) {
			continue
		}
		item := storeItem{Store: d.Name, Maintenance: Maintenance(d.Settings.Maintenance), MountStatus: a.Stores.MountStatus(d.Name), BackendType: "filesystem"}
		if d.Err != nil {
			item.Maintenance = Maintenance(catalog.Maintenance{Mode: catalog.Offline, Message: d.Err.Error()})
		}
		if d.Settings.Comment != "" && c.May(audit|backup, "datastore", d.Name) {
			item.Comment = &d.Settings.Comment
		}
		list = append(list, item)
	}
	return list, nil
}

// Maintenance returns a mode as a property string: "read-only,message=text".
func Maintenance(m catalog.Maintenance) string {
	text := string(m.Mode)
	if m.Mode == catalog.InService || m.Message == "" {
		return text
	}
	message := m.Message
	if strings.ContainsAny(message, `,="\`) {
		message = `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(message) + `"`
	}
	return text + ",message=" + message
}

// infos describes the snapshots that the caller may see, of the groups that
// the parameters choose.
func (a *api) infos(ctx context.Context, c *rest.Call) (*view, []catalog.Info, error) {
	store, ns := c.Store(), c.Namespace()
	filters, err := groupFilters(c.Params)
	if err := errors.Join(c.Err(), err); err != nil {
		return nil, nil, err
	}
	v, err := a.enter(c, store, ns, audit, backup, false)
	if err != nil {
		return nil, nil, err
	}
	if ok, err := v.HasNamespace(ns); err != nil || !ok {
		v.done()
		return nil, nil, cmp.Or(err, refuse(enoent))
	}
	all, err := v.List(ctx, catalog.ListOptions{Namespace: ns, Filters: filters})
	if err != nil {
		v.done()
		return nil, nil, err
	}
	if !v.all {
		all = slices.DeleteFunc(all, func(i catalog.Info) bool { return !v.sees(i.Owner) })
	}
	return v, all, nil
}

// groupFilters chooses groups by their type, their ID, or both.
func groupFilters(p *upgrade.Params) (catalog.Filters, error) {
	typ, id := upgrade.Maybe(p, "backup-type", func(string) naming.Type { return p.Type() }), upgrade.Maybe(p, "backup-id", func(string) string { return p.ID() })
	if p.Err() != nil {
		return nil, nil
	}
	var texts []string
	switch {
	case typ == nil && id == nil:
	case id == nil:
		texts = []string{"type:" + string(*typ)}
	case typ == nil:
		for _, t := range []naming.Type{naming.CT, naming.Host, naming.VM} {
			texts = append(texts, fmt.Sprintf("group:%s/%s", t, *id))
		}
	default:
		texts = []string{fmt.Sprintf("group:%s/%s", *typ, *id)}
	}
	var filters catalog.Filters
	for _, text := range texts {
		f, err := naming.ParseFilter(text)
		if err != nil {
			return nil, err
		}
		filters = append(filters, f)
	}
	return filters, nil
}

// snapshots lists snapshots, in JSON at once: there may be many.
func (a *api) snapshots(ctx context.Context, c *rest.Call) (any, error) {
	v, all, err := a.infos(ctx, c)
	if err != nil {
		return nil, err
	}
	defer v.done()
	b := make([]byte, 0, 2+768*len(all))
	b = append(b, '[')
	for i := range all {
		if i > 0 {
			b = append(b, ',')
		}
		info := &all[i]
		info.Namespace, info.Stats = "", nil // of the request; and not what PBS has
		b = info.AppendJSON(b)
	}
	return json.RawMessage(append(b, ']')), nil
}

// A groupItem is a group in the list of groups.
type groupItem struct {
	Type    naming.Type `json:"backup-type"`
	ID      string      `json:"backup-id"`
	Last    int64       `json:"last-backup"`
	Count   int         `json:"backup-count"`
	Files   []string    `json:"files"`
	Owner   string      `json:"owner,omitempty"`
	Comment string      `json:"comment,omitempty"`

	finished bool // what Last and Files are of
}

// groups lists groups that have snapshots, with what is known of the newest
// that is finished.
func (a *api) groups(ctx context.Context, c *rest.Call) (any, error) {
	v, all, err := a.infos(ctx, c)
	if err != nil {
		return nil, err
	}
	defer v.done()
	list := []*groupItem{}
	for i := range all { // by group, newest first
		info := &all[i]
		n := len(list)
		if n == 0 || list[n-1].ID != info.ID || list[n-1].Type != info.Type {
			list = append(list, v.groupItem(info))
			continue
		}
		g := list[n-1]
		g.Count++
		if !g.finished && info.Finished() {
			g.describe(info)
		}
	}
	return list, nil
}

func (v *view) groupItem(i *catalog.Info) *groupItem {
	g := &groupItem{Type: i.Type, ID: i.ID, Count: 1, Owner: i.Owner}
	notes, _ := v.GroupNotes(v.ns, i.Snapshot().Group) // without them the list is still of use
	g.Comment, _, _ = strings.Cut(notes, "\n")
	g.describe(i)
	return g
}

func (g *groupItem) describe(i *catalog.Info) {
	g.Last, g.finished = i.Time, i.Finished()
	g.Files = make([]string, len(i.Files))
	for k, f := range i.Files {
		g.Files[k] = f.Name
	}
}

// files lists the files of a finished snapshot.
func (a *api) files(_ context.Context, c *rest.Call) (any, error) {
	store, ns, s := c.Store(), c.Namespace(), c.Snapshot()
	v, err := a.enterGroup(c, store, ns, s.Group, audit|read, backup, false)
	if err != nil {
		return nil, err
	}
	defer v.done()
	info, err := v.Describe(ns, s)
	if err != nil {
		return nil, missing(err)
	}
	if !info.Finished() {
		return nil, fmt.Errorf("unable to load blob '%q' - %s", v.dir(s)+"/index.json.blob", osError)
	}
	return info.Files, nil
}

// A nsItem is a namespace in the list of those that the caller may see.
type nsItem struct {
	NS string `json:"ns"`
}

// namespaces lists a namespace and those below it. One that is not there is
// listed, as a real server does.
func (a *api) namespaces(ctx context.Context, c *rest.Call) (any, error) {
	store, parent := c.Store(), c.NamespaceIn("parent")
	depth := int64(naming.MaxDepth)
	if c.Has("max-depth") {
		depth = c.Int("max-depth", 0, naming.MaxDepth)
	}
	if err := c.Err(); err != nil {
		return nil, err
	}
	if !c.MayBelow(anything, "datastore", store, string(parent)) {
		return nil, forbidden()
	}
	d, done, err := a.Stores.Use(store, false)
	if err != nil {
		return nil, err
	}
	defer done()
	all, err := d.Namespaces(ctx, parent, int(depth))
	if err != nil {
		if there, err := d.HasNamespace(parent); err != nil || there {
			return nil, err
		}
		all = []catalog.Namespace{parent}
	}
	list := []nsItem{}
	for _, ns := range all {
		if c.May(anything, "datastore", store, string(ns)) {
			list = append(list, nsItem{string(ns)})
		}
	}
	if len(list) == 0 {
		return nil, forbidden()
	}
	return list, nil
}

func forbidden() error { return upgrade.Errorf(http.StatusForbidden, "permission check failed") }

// counts is how many groups and snapshots there are of a type.
type counts struct {
	Groups    int `json:"groups"`
	Snapshots int `json:"snapshots"`
}

// status tells how full the disk is, and with verbose what is on it.
func (a *api) status(ctx context.Context, c *rest.Call) (any, error) {
	store, verbose := c.Store(), c.Bool("verbose")
	if err := c.Err(); err != nil {
		return nil, err
	}
	if !c.MayBelow(anything, "datastore", store) {
		return nil, forbidden()
	}
	d, done, err := a.Stores.Use(store, false)
	if err != nil {
		return nil, err
	}
	defer done()
	answer := map[string]any{"total": 0, "used": 0, "avail": 0, "backend-type": "filesystem"}
	if !c.May(audit|backup, "datastore", store) {
		return answer, nil
	}
	if _, ok := a.Stores.Cloud(store); ok {
		answer["backend-type"], answer["s3-statistics"] = "s3", newS3Statistics(a.Stores.Counted(store))
	}
	space, err := a.Stores.Room(store)
	if err != nil {
		return nil, err
	}
	answer["total"], answer["used"], answer["avail"] = space.TotalBytes, space.Used(), space.FreeBytes
	if !verbose {
		return answer, nil
	}
	if answer["gc-status"], err = a.Stores.GCStatus(store); err != nil {
		return nil, err
	}
	answer["counts"], err = countAll(ctx, c, store, d)
	return answer, err
}

// s3Statistics are the counters of an S3 client as PBS 4.2 has them: by method.
type s3Statistics struct {
	Get        int64 `json:"get"` // listings too
	Put        int64 `json:"put"`
	Post       int64 `json:"post"` // we count deletions of many objects below Delete
	Delete     int64 `json:"delete"`
	Head       int64 `json:"head"`
	Uploaded   int64 `json:"uploaded"` // bytes
	Downloaded int64 `json:"downloaded"`
}

func newS3Statistics(c usage.Count) s3Statistics {
	r := c.Requests
	return s3Statistics{Get: r["get"] + r["list"], Put: r["put"], Delete: r["delete"], Head: r["head"], Uploaded: c.Out, Downloaded: c.In}
}

// countAll counts what the caller may see in all namespaces.
func countAll(ctx context.Context, c *rest.Call, store string, d *catalog.Datastore) (map[string]*counts, error) {
	all, err := d.List(ctx, catalog.ListOptions{Depth: -1})
	if err != nil {
		return nil, err
	}
	byType := map[string]*counts{"ct": nil, "host": nil, "vm": nil, "other": nil}
	whole := map[catalog.Namespace]bool{}
	var last catalog.Info
	for i, info := range all {
		seesAll, known := whole[info.Namespace]
		if !known {
			seesAll = c.May(audit, "datastore", store, string(info.Namespace))
			whole[info.Namespace] = seesAll
		}
		if !seesAll && !c.Who.Owns(access.AuthID(info.Owner)) {
			continue
		}
		n := byType[string(info.Type)]
		if n == nil {
			n = &counts{}
			byType[string(info.Type)] = n
		}
		if i == 0 || info.Snapshot().Group != last.Snapshot().Group || info.Namespace != last.Namespace {
			n.Groups++
		}
		n.Snapshots++
		last = info
	}
	return byType, nil
}

// active tells how many work on the datastore.
func (a *api) active(_ context.Context, c *rest.Call) (any, error) {
	store := c.Store()
	if err := c.Err(); err != nil {
		return nil, err
	}
	reads, writes, err := a.Stores.Active(store)
	return map[string]int{"read": reads, "write": writes}, err
}
