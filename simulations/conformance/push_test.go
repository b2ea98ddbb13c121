package conformance

import (
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-mesh/holdfast/catalog/naming"
	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/pbs/pbstest"
)

// A pusher is a PBS that pushes to us (§6.5). What it has are archives of one
// chunk, by "NS GROUP" and time.
type pusher struct {
	w       *wire
	as      string // the API token it comes with
	has     map[string]map[int64]string
	removes bool // remove-vanished

	log []string // of the last push
}

// push makes the target have what the source has.
func (p *pusher) push() {
	p.log = nil
	var version struct{ Version, Release string }
	p.w.api("GET", "/api2/json/version", &version, p.auth())
	var major, minor, release int
	if _, err := fmt.Sscanf(version.Version+" "+version.Release, "%d.%d %d", &major, &minor, &release); err != nil || major < 2 || major == 2 && minor < 2 {
		p.w.t.Fatalf("version %+v: %v", version, err)
	}
	deletes := "" // newer servers tell what was deleted
	if major > 3 || major == 3 && (minor > 2 || minor == 2 && release >= 11) {
		deletes = "&error-on-protected=false"
	}
	p.namespaces()
	byNS := map[string][]string{"": nil}
	for _, key := range slices.Sorted(maps.Keys(p.has)) {
		ns, group, _ := strings.Cut(key, " ")
		byNS[ns] = append(byNS[ns], group)
	}
	for _, ns := range slices.Sorted(maps.Keys(byNS)) {
		p.groups(ns, byNS[ns], deletes)
	}
}

func (p *pusher) auth() string { return "Authorization: PBSAPIToken " + p.as }

// namespaces makes those that the target lacks, one component after the other.
func (p *pusher) namespaces() {
	var have []struct{ NS string }
	p.w.api("GET", admin1+"namespace", &have, p.auth())
	for _, key := range slices.Sorted(maps.Keys(p.has)) {
		ns, _, _ := strings.Cut(key, " ")
		parent := ""
		for name := range strings.SplitSeq(ns, "/") {
			full := strings.TrimPrefix(parent+"/"+name, "/")
			if name != "" && !slices.Contains(have, struct{ NS string }{full}) {
				body := fmt.Sprintf(`{"name":%q,"parent":%q}`, name, parent)
				if parent == "" {
					body = fmt.Sprintf(`{"name":%q}`, name)
				}
				if got := p.w.http("POST", admin1+"namespace", "application/json", body, p.auth()); got != fmt.Sprintf(`200 {"data":%q}`, full) {
					p.w.t.Errorf("namespace %s: %s", full, got)
				}
				have = append(have, struct{ NS string }{full})
				p.log = append(p.log, "namespace "+full)
			}
			parent = full
		}
	}
}

// groups pushes the groups of a namespace.
func (p *pusher) groups(ns string, groups []string, deletes string) {
	var have []listed
	p.w.api("GET", admin1+"groups?ns="+url.QueryEscape(ns), &have, p.auth())
	owners := map[string]string{}
	for _, g := range have {
		owners[string(g.Type)+"/"+g.ID] = g.Owner
	}
	me, _, _ := strings.Cut(p.as, ":")
	for _, group := range groups {
		if owner, exists := owners[group]; exists && owner != me {
			p.log = append(p.log, "skipped "+group+", which is "+owner+"'s")
			continue
		}
		p.group(ns, group, deletes)
	}
	for group, owner := range owners {
		if p.removes && owner == me && !slices.Contains(groups, group) {
			typ, id, _ := strings.Cut(group, "/")
			p.remove(group, fmt.Sprintf("groups?backup-type=%s&backup-id=%s%s", typ, id, with("&", ns)+deletes))
		}
	}
}

// group pushes the snapshots that are newer than the newest of the target.
func (p *pusher) group(ns, group, deletes string) {
	typ, id, _ := strings.Cut(group, "/")
	which := listed{Type: naming.Type(typ), ID: id}
	var have []struct {
		listed
		Protected bool
	}
	p.w.api("GET", admin1+"snapshots?"+which.query()+with("&", ns), &have, p.auth())
	newest := int64(0)
	for _, s := range have {
		newest = max(newest, s.Time)
	}
	mine := p.has[ns+" "+group]
	for _, at := range slices.Sorted(maps.Keys(mine)) {
		if at > newest {
			p.snapshot(ns, group, at, mine[at], newest > 0)
			newest = at
		}
	}
	for _, s := range have {
		if _, ok := mine[s.Time]; p.removes && !ok && !s.Protected {
			p.remove(s.String(), fmt.Sprintf("snapshots?%s&backup-time=%d%s", which.query(), s.Time, with("&", ns)+deletes))
		}
	}
}

func (p *pusher) remove(what, target string) {
	p.w.api("DELETE", admin1+target, nil, p.auth())
	p.log = append(p.log, "removed "+what)
}

// snapshot pushes one, over a connection of its own. Chunks that the last one
// of the group has are not sent.
func (p *pusher) snapshot(ns, group string, at int64, content string, again bool) {
	c := p.session(fmt.Sprintf("backup %s %d &debug=false&benchmark=false%s", group, at, with("&", ns)))
	defer p.w.end(c)
	d, size, sent := chunks.Sum([]byte(content)), len(content), true
	if again {
		p.w.want(c, "GET /previous?archive-name=index.json.blob", "200 ")
		_, file, _ := strings.Cut(p.w.say(c, "GET /previous?archive-name=root.pxar.didx"), " ")
		if x, err := chunks.ParseIndex([]byte(file)); err != nil || x.Len() != 1 {
			p.w.t.Errorf("%s %d: the previous index: %v", group, at, err)
		} else {
			sent = x.Digest(0) != d
		}
	}
	p.w.want(c, "POST /dynamic_index?archive-name=root.pxar.didx", `200 {"data":1}`)
	if sent {
		p.w.put(c, "dynamic", "wid=1", []byte(content))
	}
	p.w.want(c, "PUT /dynamic_index "+pairs(1, 0, d), "200 ")
	csum := chunks.Sum(slices.Concat(le64(uint64(size)), d[:]))
	p.w.want(c, fmt.Sprintf("POST /dynamic_close?wid=1&chunk-count=1&size=%d&csum=%s", size, csum), "200 ")
	log, err := chunks.Encode(nil, []byte("the log of "+group), chunks.EncodeOptions{})
	if err != nil {
		p.w.t.Fatal(err)
	}
	p.w.wantBlob(c, "client.log.blob", log)
	p.w.finish(c, group, fmt.Sprint(at), fmt.Sprintf(`{"filename":"root.pxar.didx","crypt-mode":"none","size":%d,"csum":%q}`, size, csum))
	p.log = append(p.log, fmt.Sprintf("pushed %s%s/%d, sent %v", strings.TrimPrefix(ns+" ", " "), group, at, sent))
}

func (p *pusher) session(what string) *pbstest.Client {
	as := *p.w
	as.as = p.as
	return as.openSoon(what)
}

// §12.4, check 14: who pushes twice pushes everything, and then nothing. A group
// of somebody else is left alone, and a protected snapshot stays where those are
// removed that the source has not got.
func TestCheck14PushTwice(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	h.user("push@pbs", "/datastore/store1 DatastoreAdmin")
	id := "push@pbs!site"
	p := &pusher{w: &h.wire, as: id + ":" + h.token(id, "/datastore/store1 DatastoreAdmin"), has: map[string]map[int64]string{
		" host/g1":     {1000: "one", 2000: "two", 3000: "two"},
		" vm/100":      {1000: "three"},
		" ct/7":        {1000: "somebody else's"},
		"a/b host/n1":  {1000: "four"},
		"a/b host/low": {1000: "five"},
	}}
	h.archive("backup ct/7 1000", "mine")
	p.push()
	p.want("first", "namespace a", "namespace a/b", "skipped ct/7, which is admin@pbs!tok's",
		"pushed host/g1/1000, sent true", "pushed host/g1/2000, sent true", "pushed host/g1/3000, sent false", "pushed vm/100/1000, sent true",
		"pushed a/b host/low/1000, sent true", "pushed a/b host/n1/1000, sent true")
	p.push()
	p.want("second", "skipped ct/7, which is admin@pbs!tok's")

	h.api("PUT", admin1+"protected?backup-type=host&backup-id=g1&backup-time=1000&protected=1", nil, p.auth())
	delete(p.has[" host/g1"], 1000) // protected there
	delete(p.has[" host/g1"], 2000)
	delete(p.has, "a/b host/low")
	p.removes = true
	p.push()
	p.want("third", "skipped ct/7, which is admin@pbs!tok's", "removed host/g1/1970-01-01T00:33:20Z", "removed host/low")
	var left []listed
	h.api("GET", admin1+"snapshots?backup-id=g1", &left, h.admin())
	if len(left) != 2 || left[0].Owner != id {
		t.Errorf("of host/g1 there are %v", left)
	}
	h.task("POST", "/admin/datastore/store1/verify", nil)
}

func (p *pusher) want(which string, log ...string) {
	p.w.t.Helper()
	if !slices.Equal(p.log, log) {
		p.w.t.Errorf("%s push:\n got  %q\n want %q", which, p.log, log)
	}
}
