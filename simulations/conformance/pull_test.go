package conformance

import (
	"cmp"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/holdfast-mesh/holdfast/catalog/manifest"
	"github.com/holdfast-mesh/holdfast/catalog/naming"
	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/pbs/pbstest"
)

// A puller is a PBS that pulls from us: it asks what §6.2 and the recordings 80
// to 88 have it ask, in that order, and believes as little.
type puller struct {
	w       *wire
	workers int // groups at once: 1 as in PBS 3, more as 4 can

	mu sync.Mutex

	files  map[string][]byte // by "NS SNAPSHOT/NAME"
	chunks map[chunks.Digest]chunks.Blob

	// Of the last pull.
	log     []string // as in its task
	fetched int      // chunks
}

// A listed is a group or a snapshot, as far as a puller reads it.
type listed struct {
	Type  naming.Type `json:"backup-type"`
	ID    string      `json:"backup-id"`
	Time  int64       `json:"backup-time"`
	Size  *uint64     `json:"size"`
	Owner string      `json:"owner"`
}

func (l listed) query() string {
	return fmt.Sprintf("backup-id=%s&backup-type=%s", l.ID, l.Type)
}

func (l listed) String() string {
	return naming.Snapshot{Group: naming.Group{Type: l.Type, ID: l.ID}, Time: l.Time}.String()
}

const admin1 = "/api2/json/admin/datastore/store1/"

// pull syncs all namespaces.
func (p *puller) pull() {
	p.log, p.fetched = nil, 0
	var namespaces []struct{ NS string }
	p.w.api("GET", admin1+"namespace?", &namespaces, p.w.admin())
	slices.SortFunc(namespaces, func(a, b struct{ NS string }) int { return cmp.Compare(len(a.NS), len(b.NS)) })
	for _, n := range namespaces {
		var groups []listed
		p.w.api("GET", admin1+"groups"+with("?", n.NS), &groups, p.w.admin())
		slices.SortFunc(groups, func(a, b listed) int {
			return cmp.Or(cmp.Compare(a.Type, b.Type), cmp.Compare(a.ID, b.ID)) // ct, host, vm
		})
		logs := make([][]string, len(groups))
		var g errgroup.Group
		g.SetLimit(p.workers)
		for i, group := range groups {
			g.Go(func() error {
				logs[i] = p.group(n.NS, group)
				return nil
			})
		}
		g.Wait()
		p.log = append(p.log, slices.Concat(logs...)...)
	}
}

// with adds a namespace to a query, but that of the root.
func with(before, ns string) string {
	if ns == "" {
		return ""
	}
	return before + "ns=" + url.QueryEscape(ns)
}

// group syncs the snapshots of a group that are no older than the newest here.
func (p *puller) group(ns string, group listed) (log []string) {
	var all []listed
	p.w.api("GET", admin1+"snapshots?"+group.query()+with("&", ns), &all, p.w.admin())
	slices.SortFunc(all, func(a, b listed) int { return cmp.Compare(a.Time, b.Time) })
	last := slices.IndexFunc(all, func(s listed) bool { return p.has(ns, s) })
	for i, s := range all {
		if p.has(ns, s) {
			last = i
		}
	}
	for i, s := range all {
		switch {
		case s.Size == nil: // in progress
		case i < last:
			log = append(log, "skipped: "+s.String())
		default:
			log = append(log, p.snapshot(ns, s)...)
		}
	}
	return log
}

func (p *puller) has(ns string, s listed) bool {
	_, ok := p.file(ns, s, manifest.Name)
	return ok
}

// file returns what is here of a file.
func (p *puller) file(ns string, s listed, name string) ([]byte, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	b, ok := p.files[ns+" "+s.String()+"/"+name]
	return b, ok
}

// snapshot syncs one snapshot over a connection of its own.
func (p *puller) snapshot(ns string, s listed) []string {
	what := fmt.Sprintf("reader %s/%s %d %s", s.Type, s.ID, s.Time, with("&", ns))
	c := p.w.open(what)
	defer c.Close()
	text, found := p.download(c, manifest.Name)
	if !found {
		return []string{"vanished: " + s.String()}
	}
	was, resync := p.file(ns, s, manifest.Name)
	if resync && string(was) == string(text) {
		p.clientLog(c, ns, s)
		return []string{"re-sync " + s.String(), "no data changes"}
	}
	m, err := manifest.ParseBlob(text)
	if err != nil {
		p.w.t.Errorf("%s: %v", s, err)
		return nil
	}
	for _, f := range m.Files {
		if have, ok := p.file(ns, s, f.Name); ok && sum(f.Name, have) == f.Csum {
			continue
		}
		content, found := p.download(c, f.Name)
		if !found || sum(f.Name, content) != f.Csum {
			p.w.t.Errorf("%s: %s is not what the manifest says", s, f.Name)
		}
		p.contents(c, f, content)
		p.keep(ns, s, f.Name, content)
	}
	p.keep(ns, s, manifest.Name, text)
	p.clientLog(c, ns, s)
	if resync {
		return []string{"re-sync " + s.String()}
	}
	return []string{"sync " + s.String()}
}

// clientLog fetches the log of the client, if it is not here: every time.
func (p *puller) clientLog(c *pbstest.Client, ns string, s listed) {
	if _, ok := p.file(ns, s, manifest.LogName); ok {
		return
	}
	if content, found := p.download(c, manifest.LogName); found {
		p.keep(ns, s, manifest.LogName, content)
	}
}

func (p *puller) keep(ns string, s listed, name string, content []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.files[ns+" "+s.String()+"/"+name] = content
}

// download fetches a file; that there is none is no error.
func (p *puller) download(c *pbstest.Client, name string) (content []byte, found bool) {
	a, err := c.Do("GET", "/download?file-name="+name, "", nil)
	if err != nil {
		p.w.t.Errorf("download %s: %v", name, err)
		return nil, false
	}
	if a.Status != 200 && a.Status != 404 {
		p.w.t.Errorf("download %s: %d %s", name, a.Status, a.Body)
	}
	return a.Body, a.Status == 200
}

// contents fetches the chunks of an index that are not here, 20 at a time, and
// checks them.
func (p *puller) contents(c *pbstest.Client, f manifest.File, file []byte) {
	x, err := chunks.ParseIndex(file)
	if err != nil {
		return // a blob
	}
	missing := map[chunks.Digest]int64{}
	p.mu.Lock()
	for i, d := range x.All() {
		if begin, end := x.Range(i); p.chunks[d] == nil {
			missing[d] = end - begin
		}
	}
	p.mu.Unlock()
	got := make([]chunks.Blob, len(missing))
	var g errgroup.Group
	g.SetLimit(20)
	want := slices.Collect(maps.Keys(missing))
	for i, d := range want {
		g.Go(func() error {
			a, err := c.Do("GET", "/chunk?digest="+d.String(), "", nil)
			if err != nil || a.Status != 200 {
				return fmt.Errorf("chunk %s: %d %s, %v", d.Short(), a.Status, a.Body, err)
			}
			got[i] = a.Body
			if f.CryptMode == manifest.Encrypt {
				return nil // its digest has the key in it
			}
			plain, err := chunks.Blob(a.Body).Decode(nil, nil)
			if err == nil && (chunks.Sum(plain) != d || int64(len(plain)) != missing[d]) {
				err = fmt.Errorf("chunk %s: another content", d.Short())
			}
			return err
		})
	}
	if err := g.Wait(); err != nil {
		p.w.t.Error(err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, d := range want {
		p.chunks[d] = got[i]
	}
	p.fetched += len(want)
}

// sum is what a manifest states of a file.
func sum(name string, content []byte) chunks.Digest {
	if x, err := chunks.ParseIndex(content); err == nil && !strings.HasSuffix(name, ".blob") {
		return x.Csum()
	}
	return chunks.Sum(content)
}

// §12.4, check 13: who pulls twice gets everything, and then nothing; only the
// newest snapshot of each group is looked at again.
func TestCheck13PullTwice(t *testing.T) {
	t.Parallel()
	for name, workers := range map[string]int{"PBS 3": 1, "PBS 4": 4} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHome(t)
			h.api("POST", admin1+"namespace?name=a", nil, h.admin())
			h.archive("backup host/g1 1000", "one")
			h.archive("backup host/g1 2000", "two")
			h.archive("backup vm/100 1000", "three")
			h.archive("backup host/n1 1000 &ns=a", "four")
			open := h.open("backup ct/200 1000") // not finished: nobody pulls it
			defer open.Close()

			p := &puller{w: &h.wire, workers: workers, files: map[string][]byte{}, chunks: map[chunks.Digest]chunks.Blob{}}
			p.pull()
			p.want("first", 4, "sync host/g1/1970-01-01T00:16:40Z", "sync host/g1/1970-01-01T00:33:20Z",
				"sync vm/100/1970-01-01T00:16:40Z", "sync host/n1/1970-01-01T00:16:40Z")
			p.pull()
			p.want("second", 0, "skipped: host/g1/1970-01-01T00:16:40Z", "re-sync host/g1/1970-01-01T00:33:20Z", "no data changes",
				"re-sync vm/100/1970-01-01T00:16:40Z", "no data changes", "re-sync host/n1/1970-01-01T00:16:40Z", "no data changes")

			h.api("PUT", admin1+"notes?backup-type=vm&backup-id=100&backup-time=1000&notes=new", nil, h.admin())
			h.archive("backup host/g1 3000", "two") // all of which is there
			p.pull()
			p.want("third", 0, "skipped: host/g1/1970-01-01T00:16:40Z", "re-sync host/g1/1970-01-01T00:33:20Z", "no data changes",
				"sync host/g1/1970-01-01T00:50:00Z", "re-sync vm/100/1970-01-01T00:16:40Z", "re-sync host/n1/1970-01-01T00:16:40Z", "no data changes")
			text, _ := p.file("", listed{Type: naming.VM, ID: "100", Time: 1000}, manifest.Name)
			if m, err := manifest.ParseBlob(text); err != nil || m.Notes() != "new" {
				t.Errorf("the notes did not come along: %v", err)
			}
		})
	}
}

// want compares what the last pull did.
func (p *puller) want(which string, fetched int, log ...string) {
	p.w.t.Helper()
	if !slices.Equal(p.log, log) {
		p.w.t.Errorf("%s pull:\n got  %q\n want %q", which, p.log, log)
	}
	if p.fetched != fetched {
		p.w.t.Errorf("%s pull: %d chunks fetched, want %d", which, p.fetched, fetched)
	}
}

// archive makes a snapshot of a session "backup host/h1 1000", with an archive
// of one chunk.
func (w *wire) archive(session, content string) {
	w.t.Helper()
	f := strings.Fields(session)
	c := w.openSoon(session)
	b := []byte(content)
	w.want(c, "POST /dynamic_index?archive-name=root.pxar.didx", `200 {"data":1}`)
	w.put(c, "dynamic", "wid=1", b)
	w.want(c, "PUT /dynamic_index "+pairs(1, 0, chunks.Sum(b)), "200 ")
	csum := chunks.Sum(slices.Concat(le64(uint64(len(b))), digest(b)))
	w.want(c, fmt.Sprintf("POST /dynamic_close?wid=1&chunk-count=1&size=%d&csum=%s", len(b), csum), "200 ")
	w.finish(c, f[1], f[2], fmt.Sprintf(`{"filename":"root.pxar.didx","crypt-mode":"none","size":%d,"csum":%q}`, len(b), csum))
	c.Close()
}
