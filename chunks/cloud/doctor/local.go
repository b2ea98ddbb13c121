package doctor

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/holdfast-mesh/holdfast/chunks/cloud/identity"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/layout"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/prices"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/seal"
	"github.com/holdfast-mesh/holdfast/chunks/pack/format"
)

// keepalive asks the kernel how soon a dead connection is noticed.
func keepalive(_ context.Context, x *exam) {
	k := x.conn.KeepAlive
	if !k.Known {
		x.skip("this system does not tell")
		return
	}
	if within := k.Within(); within == 0 || within > 5*time.Minute {
		found := "never"
		if within > 0 {
			found = "after " + within.String()
		}
		x.find(Warning, "a connection whose other end is gone is noticed "+found, "Uploads and restores hang until then.",
			"sysctl -w net.ipv4.tcp_keepalive_time=60 net.ipv4.tcp_keepalive_intvl=10 net.ipv4.tcp_keepalive_probes=6")
	}
}

// owner tells who else writes to the bucket.
func owner(ctx context.Context, x *exam) {
	stores, err := identity.Stores(ctx, x.b)
	if err != nil {
		x.skip(err.Error())
		return
	}
	if x.Store != "" {
		stores = slices.DeleteFunc(stores, func(id format.ID) bool { return id.String() != x.Store })
	}
	x.stores = stores[:min(len(stores), 20)]
	for _, id := range x.stores {
		o, etag, err := identity.ReadOwner(ctx, x.b.Sub(layout.Root+id.String()), id)
		if err != nil {
			x.find(Warning, "the owner's object of store "+id.String()+" cannot be read: "+err.Error(), "Nobody can become its owner.", "holdfast datastore take-over NAME --force, when no other node uses it")
			continue
		}
		if etag == "" {
			continue // nobody's
		}
		now := time.Now().Add(x.b.Account().Skew())
		switch left := o.Until.Sub(now); {
		case o.Node == x.Node && x.Node != "":
		case left > 0:
			x.find(Note, fmt.Sprintf("store %s is owned by node %s for another %s", id, o.Node, left.Round(time.Minute)), "Only that node writes; others can read it.", "")
		default:
			x.find(Note, fmt.Sprintf("store %s was owned by node %s, whose lease ended %s ago", id, o.Node, (-left).Round(time.Minute)), "Its garbage is not collected.", "holdfast datastore create NAME … --reuse-datastore takes it over")
		}
	}
}

// minimum tells what it costs to delete what is young.
func minimum(_ context.Context, x *exam) {
	if !x.known {
		x.skip("the provider's terms are not known")
		return
	}
	least := time.Duration(x.provider.MinimumDays) * 24 * time.Hour
	var bytes int64
	var left float64 // GB days that are billed anyway
	for _, d := range x.Doomed {
		if d.Age < least {
			bytes += d.Bytes
			left += float64(d.Bytes) / 1e9 * (least - d.Age).Hours() / 24
		}
	}
	if bytes == 0 {
		return
	}
	x.find(Note, fmt.Sprintf("%s of garbage is younger than the %d days for which %s bills every object", size(bytes), x.provider.MinimumDays, x.provider.Name),
		fmt.Sprintf("To delete it now saves nothing: %s are billed for it anyway. Garbage collection waits.", x.provider.Money(left*x.provider.Storage/30)),
		"keep what is young on the local disk: holdfast datastore update NAME --offload-after 28d")
}

// recovery looks for stores that are lost with one key.
func recovery(ctx context.Context, x *exam) {
	if x.Recipients == 0 {
		for _, id := range x.stores {
			f, err := identity.ReadFormat(ctx, x.b.Sub(layout.Root+id.String()), id)
			if errors.Is(err, identity.ErrNoStore) {
				continue // somebody is about to make it
			}
			if err != nil {
				x.skip(err.Error())
				return
			}
			if n := seal.Recipients(f.Wrapped); f.KeyID != "" && (x.Recipients == 0 || n < x.Recipients) {
				x.Recipients = n
			}
		}
	}
	if x.Recipients == 1 {
		x.find(Critical, "only one key opens the store", "If that key is lost, so is everything in the bucket.", "make a new datastore with --encrypt and a recovery key that is kept elsewhere, and pull the backups into it")
	}
}

// cacheOf is the command that bounds a cache, by whole MiB.
func cacheOf(bytes int64) string {
	return fmt.Sprintf("holdfast datastore update NAME --cache-size %dMiB", bytes>>20)
}

// CacheAt describes a cache of that bound in a directory, or where that will be; nil
// if it cannot be told.
func CacheAt(dir string, bound int64) *Cache {
	for at := dir; ; at = filepath.Dir(at) { // it may not be there yet: then its parent's file system is meant
		var st unix.Statfs_t
		if err := unix.Statfs(at, &st); err == nil {
			unit := int64(st.Bsize)
			c := &Cache{
				Dir: dir, Bound: bound, Inodes: -1, Total: int64(st.Blocks) * unit, Free: int64(st.Bavail) * unit,
				Reserved: int64(st.Bfree-uint64(st.Bavail)) * unit,
			}
			if st.Files > 0 {
				c.Inodes = int64(st.Ffree)
			}
			return c
		}
		if at == filepath.Dir(at) {
			return nil
		}
	}
}

// cache looks for a bound that the disk does not have.
func cache(_ context.Context, x *exam) {
	c := x.Cache
	if c == nil {
		x.skip("there is no cache")
		return
	}
	room := c.Free + c.Used
	fit := cacheOf(room * 3 / 4) // the rest is for backups that land there
	switch {
	case c.Bound <= 0:
		x.find(Critical, "the cache has no bound", "It grows until the disk is full, and backups stop.", fit)
	case c.Bound > c.Total:
		x.find(Critical, fmt.Sprintf("the cache may take %s of a disk of %s", size(c.Bound), size(c.Total)), "The disk will be full before the cache is, and backups stop.", fit)
	case c.Bound > room:
		x.find(Warning, fmt.Sprintf("the cache may take %s, and there is room for %s", size(c.Bound), size(room)), "The disk will be full before the cache is.", fit)
	}
	if c.Bound > 0 && c.Pinned > c.Bound/2 {
		x.find(Warning, fmt.Sprintf("%s of the cache's %s are metadata that must stay", size(c.Pinned), size(c.Bound)), "Little is left for what is read again.", cacheOf(4*c.Pinned))
	}
	if c.Total > 0 && c.Reserved*100 > 2*c.Total {
		x.find(Note, fmt.Sprintf("%s of the cache's disk (%.1f %%) are reserved for root", size(c.Reserved), 100*float64(c.Reserved)/float64(c.Total)), "The cache cannot use them.", "tune2fs -m 1 DEVICE (see: findmnt -T "+c.Dir+")")
	}
	if c.Inodes >= 0 && c.Inodes < 1000 {
		x.find(Warning, fmt.Sprintf("only %d files can be made on the cache's disk", c.Inodes), "The cache cannot grow.", "use a file system with more inodes")
	}
}

// requests tells what it costs to look after so many objects.
func requests(_ context.Context, x *exam) {
	var objects, bytes int64
	for _, c := range x.report.Classes {
		objects, bytes = objects+c.Objects, bytes+c.Bytes
	}
	if objects == 0 || x.GCs == 0 {
		x.skip("nothing to reckon with")
		return
	}
	lists := int64(x.GCs * float64((objects+999)/1000))
	use := prices.Use{Requests: map[string]int64{"list": lists}}
	if mean := bytes / objects; mean < 4<<20 && objects > 10_000 {
		x.find(Warning, fmt.Sprintf("%d objects of %s on average", objects, size(mean)), fmt.Sprintf("To list them takes %d requests a month at %.0f collections (%s); a store of packs has a fiftieth of that.", lists, x.GCs, x.provider.Money(x.provider.Once(use).Requests)),
			"collect garbage weekly: holdfast datastore update NAME --gc-schedule 'sat 02:00'; or move the backups into a datastore of packs")
	}
}

func size(n int64) string {
	const unit = 1024
	if n < unit {
		return fmt.Sprintf("%d B", n)
	}
	f, i := float64(n), -1
	for f >= unit && i < 4 {
		f, i = f/unit, i+1
	}
	return fmt.Sprintf("%.1f %ciB", f, "KMGTP"[i])
}
