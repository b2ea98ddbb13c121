package client

import (
	"context"
	"fmt"
	"net/url"
	"strconv"

	"github.com/holdfast-mesh/holdfast/catalog/listing"
	"github.com/holdfast-mesh/holdfast/catalog/naming"
	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/pbs/client/wire"
)

// A Group is what a server says of all backups of one thing.
type Group struct {
	Type       naming.Type `json:"backup-type"`
	ID         string      `json:"backup-id"`
	LastBackup int64       `json:"last-backup"`  // seconds since 1970
	Count      int         `json:"backup-count"` // snapshots, unfinished ones too
	Files      []string    `json:"files"`        // of the last backup
	Owner      string      `json:"owner"`
	Comment    string      `json:"comment"` // first line of the notes
}

// Group returns the group's name.
func (g Group) Group() naming.Group { return naming.Group{Type: g.Type, ID: g.ID} }

// Groups lists the groups of one namespace that the user may see, in the order
// of the server.
func (c *Client) Groups(ctx context.Context, ns naming.Namespace) ([]Group, error) {
	all, err := wire.Call[[]Group](ctx, c.server, c.request("GET", "groups", within(ns)))
	if err == nil {
		err = c.checkNames(len(all), func(i int) error { return all[i].Group().Check() })
	}
	return all, during("list the groups of "+c.place(ns), err)
}

// Snapshots lists the snapshots of one namespace that the user may see, in the
// order of the server: all of them, or those of g if it has a type or an ID.
func (c *Client) Snapshots(ctx context.Context, ns naming.Namespace, g naming.Group) ([]listing.Info, error) {
	q := within(ns)
	if g.Type != "" {
		q.Set("backup-type", string(g.Type))
	}
	if g.ID != "" {
		q.Set("backup-id", g.ID)
	}
	all, err := wire.Call[[]listing.Info](ctx, c.server, c.request("GET", "snapshots", q))
	if err == nil {
		err = c.checkNames(len(all), func(i int) error { return all[i].Snapshot().Check() })
	}
	for i := range all {
		all[i].Namespace = ns
	}
	return all, during("list the snapshots of "+c.place(ns), err)
}

// checkNames refuses a list with a name that may not stand in a path.
func (c *Client) checkNames(n int, check func(i int) error) error {
	for i := range n {
		if err := check(i); err != nil {
			return &AnswerError{Server: c.server.String(), What: "a request for a list", Err: err}
		}
	}
	return nil
}

// Files lists the files of a snapshot.
func (c *Client) Files(ctx context.Context, ns naming.Namespace, s naming.Snapshot) ([]listing.File, error) {
	all, err := wire.Call[[]listing.File](ctx, c.server, c.request("GET", "files", of(ns, s)))
	return all, during(fmt.Sprintf("list the files of %s", s), err)
}

// Forget deletes a snapshot.
func (c *Client) Forget(ctx context.Context, ns naming.Namespace, s naming.Snapshot) error {
	return c.change(ctx, "DELETE", "snapshots", of(ns, s), fmt.Sprintf("forget %s", s))
}

// ForgetGroup deletes all snapshots of a group but protected ones. If there
// are any it fails in the end.
func (c *Client) ForgetGroup(ctx context.Context, ns naming.Namespace, g naming.Group) error {
	return c.change(ctx, "DELETE", "groups", ofGroup(ns, g), fmt.Sprintf("forget %s", g))
}

// Notes returns the notes of a snapshot, "" if it has none.
func (c *Client) Notes(ctx context.Context, ns naming.Namespace, s naming.Snapshot) (string, error) {
	text, err := wire.Call[string](ctx, c.server, c.request("GET", "notes", of(ns, s)))
	return text, during(fmt.Sprintf("read the notes of %s", s), err)
}

// SetNotes changes the notes of a snapshot; "" removes them.
func (c *Client) SetNotes(ctx context.Context, ns naming.Namespace, s naming.Snapshot, text string) error {
	q := of(ns, s)
	q.Set("notes", text)
	return c.change(ctx, "PUT", "notes", q, fmt.Sprintf("write the notes of %s", s))
}

// GroupNotes returns the notes of a group, "" if it has none.
func (c *Client) GroupNotes(ctx context.Context, ns naming.Namespace, g naming.Group) (string, error) {
	text, err := wire.Call[string](ctx, c.server, c.request("GET", "group-notes", ofGroup(ns, g)))
	return text, during(fmt.Sprintf("read the notes of %s", g), err)
}

// SetGroupNotes changes the notes of a group; "" removes them.
func (c *Client) SetGroupNotes(ctx context.Context, ns naming.Namespace, g naming.Group, text string) error {
	q := ofGroup(ns, g)
	q.Set("notes", text)
	return c.change(ctx, "PUT", "group-notes", q, fmt.Sprintf("write the notes of %s", g))
}

// Protected reports whether a snapshot is protected. PBS says that one is not
// which does not exist.
func (c *Client) Protected(ctx context.Context, ns naming.Namespace, s naming.Snapshot) (bool, error) {
	yes, err := wire.Call[bool](ctx, c.server, c.request("GET", "protected", of(ns, s)))
	return yes, during(fmt.Sprintf("ask whether %s is protected", s), err)
}

// SetProtected protects a snapshot from being deleted, or takes that off.
func (c *Client) SetProtected(ctx context.Context, ns naming.Namespace, s naming.Snapshot, protected bool) error {
	q := of(ns, s)
	q.Set("protected", strconv.FormatBool(protected))
	return c.change(ctx, "PUT", "protected", q, fmt.Sprintf("change the protection of %s", s))
}

// ChangeOwner gives a group to another user or API token.
func (c *Client) ChangeOwner(ctx context.Context, ns naming.Namespace, g naming.Group, owner string) error {
	if err := naming.CheckAuthID(owner); err != nil {
		return err
	}
	p := map[string]string{"backup-type": string(g.Type), "backup-id": g.ID, "new-owner": owner}
	if ns != "" {
		p["ns"] = string(ns)
	}
	r := c.request("POST", "change-owner", nil)
	r.Body, r.Kind = encode(p), wire.JSON
	_, err := wire.Call[any](ctx, c.server, r)
	return during(fmt.Sprintf("change the owner of %s", g), err)
}

// UploadLog adds the log of a backup to a snapshot that is finished. There is
// room for one. The blob is encrypted if the backup is.
func (c *Client) UploadLog(ctx context.Context, ns naming.Namespace, s naming.Snapshot, log chunks.Blob) error {
	r := c.request("POST", "upload-backup-log", of(ns, s))
	r.Body, r.Kind = log, wire.Raw
	_, err := wire.Call[any](ctx, c.server, r)
	return during(fmt.Sprintf("upload the log of %s", s), err)
}

// change makes a call that returns nothing of interest.
func (c *Client) change(ctx context.Context, method, what string, q url.Values, doing string) error {
	r := c.request(method, what, q)
	r.Patient = method == "DELETE"
	_, err := wire.Call[any](ctx, c.server, r)
	return during(doing, err)
}

// within, ofGroup and of are the parameters that name a namespace, a group and
// a snapshot. The root is not named (PBS protocol notes §1.5).
func within(ns naming.Namespace) url.Values {
	q := url.Values{}
	if ns != "" {
		q.Set("ns", string(ns))
	}
	return q
}

func ofGroup(ns naming.Namespace, g naming.Group) url.Values {
	q := within(ns)
	q.Set("backup-type", string(g.Type))
	q.Set("backup-id", g.ID)
	return q
}

func of(ns naming.Namespace, s naming.Snapshot) url.Values {
	q := ofGroup(ns, s.Group)
	q.Set("backup-time", strconv.FormatInt(s.Time, 10))
	return q
}

// place names a namespace of the datastore for messages.
func (c *Client) place(ns naming.Namespace) string {
	if ns == "" {
		return c.cfg.Repository.Store
	}
	return c.cfg.Repository.Store + " in " + string(ns)
}
