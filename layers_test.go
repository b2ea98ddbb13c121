// Package holdfast has no code. Its tests are the policy of the project: who
// may import whom, and how large things may grow.
package holdfast

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/holdfast-mesh/holdfast"

// layers is the import policy of the project, bottom first. A folder may
// import itself, the folders on its line, and nothing else of ours; a line
// may only name folders above it, so the list is also a proof of no cycles.
var layers = []rule{
	{"chunks", ""},
	{"access", ""},
	{"notify", ""},
	{"tunnel", ""},
	{"mesh", ""},
	{"catalog", "chunks"},
	{"jobs", "catalog"}, // catalog/upid only
	{"consensus", "access jobs catalog"},
	{"replication", "chunks catalog"},
	{"pbs", "chunks access jobs catalog"},
	{"dashboard", "access jobs catalog"},
	{"node", "chunks access jobs notify tunnel mesh catalog consensus replication pbs dashboard"},
	{"cmd", "chunks access jobs catalog pbs node"},
	{"simulations", "chunks access jobs notify tunnel mesh catalog consensus replication pbs dashboard node"},
	{"bench", "chunks access jobs tunnel catalog replication pbs node"},
}

// insideChunks is the same for the packages of that folder.
var insideChunks = []rule{
	{"chunks", ""},
	{"chunks/disk", ""},
	{"chunks/keys", "chunks"},
	{"chunks/pack/index", "chunks chunks/disk"},
	{"chunks/pack/format", "chunks chunks/disk"},
	{"chunks/pack/state", "chunks chunks/disk chunks/pack/format chunks/pack/index"},
	{"chunks/pack/identity", "chunks chunks/disk chunks/pack/format"},
	{"chunks/pack/writer", "chunks chunks/disk chunks/pack/index chunks/pack/format chunks/pack/state"},
	{"chunks/pack", "chunks chunks/disk chunks/pack/index chunks/pack/format chunks/pack/state chunks/pack/identity chunks/pack/writer"},
	{"chunks/gc", "chunks chunks/disk chunks/pack"},
	{"chunks/cloud/lock", ""},
	{"chunks/cloud/bucket/limit", ""},
	{"chunks/cloud/bucket/pin", "chunks"},
	{"chunks/cloud/bucket/reply", ""},
	{"chunks/cloud/bucket/rules", ""},
	{"chunks/cloud/bucket", "chunks/cloud/bucket/limit chunks/cloud/bucket/pin chunks/cloud/bucket/reply chunks/cloud/bucket/rules chunks/cloud/lock"},
	{"chunks/cloud/refs", "chunks/pack"},
	{"chunks/cloud/seal", ""},
	{"chunks/cloud/layout", "chunks chunks/disk chunks/pack/format chunks/cloud/seal"},
	{"chunks/cloud/cache", "chunks chunks/disk"},
	{"chunks/cloud/prices", ""},
	{"chunks/cloud/bitmap", ""},
	{"chunks/cloud/ahead", "chunks chunks/pack/format chunks/cloud/bucket chunks/cloud/seal chunks/cloud/layout"},
	{"chunks/cloud/notes", "chunks/disk chunks/pack/format"},
	{"chunks/cloud/files", "chunks/disk"},
	{"chunks/cloud/identity", "chunks/disk chunks/pack/format chunks/cloud/bucket chunks/cloud/seal chunks/cloud/layout"},
	{"chunks/cloud/doctor", "chunks chunks/disk chunks/pack/format chunks/cloud/bucket chunks/cloud/bucket/pin chunks/cloud/bucket/reply chunks/cloud/bucket/rules chunks/cloud/lock chunks/cloud/seal chunks/cloud/layout chunks/cloud/identity chunks/cloud/prices"},
	{"chunks/cloud/thaw", "chunks chunks/disk chunks/pack/format chunks/cloud/bucket chunks/cloud/seal chunks/cloud/layout chunks/cloud/prices"},
	{"chunks/cloud/migrate", "chunks chunks/disk chunks/pack/format chunks/cloud/bucket chunks/cloud/seal chunks/cloud/layout chunks/cloud/prices chunks/cloud/identity"},
	{"chunks/cloud/usage", "chunks/disk chunks/cloud/bucket chunks/cloud/prices"},
	{"chunks/cloud/stats", "chunks/cloud/bucket chunks/cloud/cache"},
	{"chunks/cloud/footers", "chunks/pack/format chunks/cloud/bucket chunks/cloud/layout"},
	{"chunks/cloud/exhume", "chunks chunks/pack/format chunks/cloud/ahead chunks/cloud/footers chunks/cloud/bucket chunks/cloud/seal chunks/cloud/layout"},
	{"chunks/cloud/meta", "chunks/disk chunks/pack/format chunks/cloud/bucket chunks/cloud/seal chunks/cloud/layout chunks/cloud/footers"},
	{"chunks/cloud/queue", "chunks/disk chunks/pack/format chunks/cloud/bucket chunks/cloud/layout"},
	{"chunks/cloud/staging", "chunks chunks/disk chunks/cloud/bitmap chunks/cloud/cache chunks/pack chunks/pack/format chunks/pack/identity chunks/cloud/layout chunks/cloud/queue chunks/cloud/seal"},
	{"chunks/cloud/audit", "chunks/pack/format chunks/cloud/bucket chunks/cloud/seal chunks/cloud/layout chunks/cloud/prices"},
	{"chunks/cloud", "chunks chunks/disk chunks/pack chunks/pack/format chunks/pack/index chunks/cloud/audit chunks/cloud/bucket chunks/cloud/lock chunks/cloud/seal chunks/cloud/layout chunks/cloud/cache chunks/cloud/prices chunks/cloud/bitmap chunks/cloud/ahead chunks/cloud/notes chunks/cloud/files chunks/cloud/identity chunks/cloud/stats chunks/cloud/footers chunks/cloud/exhume chunks/cloud/meta chunks/cloud/queue chunks/cloud/staging chunks/cloud/refs"},
}

// insideCatalog is the same for the packages of that folder.
var insideCatalog = []rule{
	{"catalog/naming", ""},
	{"catalog/upid", ""},
	{"catalog/manifest", "catalog/naming"},
	{"catalog/retention", "catalog/naming"},
	{"catalog/pxar/match", ""},
	{"catalog/pxar/goodbye", ""},
	{"catalog/pxar/pcat1", ""},
	{"catalog/pxar", "catalog/pxar/goodbye catalog/pxar/pcat1"},
	{"catalog/pxar/tree/inode", "catalog/pxar"},
	{"catalog/pxar/tree", "catalog/pxar catalog/pxar/match catalog/pxar/tree/inode"},
	{"catalog/compare", "catalog/pxar"},
	{"catalog/roots", ""},
	{"catalog/trylock", ""},
	{"catalog/listing", "catalog/naming catalog/manifest"},
	{"catalog/held", "catalog/naming catalog/retention"},
	{"catalog/archive/content", "catalog/manifest"},
	{"catalog/archive", "catalog/archive/content catalog/naming catalog/manifest catalog/pxar catalog/pxar/match catalog/pxar/tree"},
	{"catalog/elapsed", ""},
	{"catalog", "catalog/held catalog/naming catalog/manifest catalog/retention catalog/listing catalog/roots catalog/trylock catalog/elapsed"},
	{"catalog/verify", "catalog catalog/naming catalog/manifest catalog/upid"},
	{"catalog/tier/order", "catalog"},
	{"catalog/tier/filename", "catalog catalog/naming"},
	{"catalog/tier/told", ""},
	{"catalog/tier/forgotten", "catalog catalog/tier/filename"},
	{"catalog/tier/mirror", "catalog catalog/tier/filename catalog/tier/forgotten catalog/tier/told"},
	{"catalog/tier", "catalog catalog/naming catalog/tier/filename catalog/tier/forgotten catalog/tier/mirror catalog/tier/order catalog/tier/told"},
	{"catalog/tier/sample", "catalog catalog/roots"},
	{"catalog/mount", "catalog/archive catalog/pxar"},
	{"catalog/export", "catalog catalog/naming catalog/manifest"},
	{"catalog/export/plain", "catalog catalog/naming catalog/manifest catalog/pxar catalog/archive"},
}

// insidePBS is the same for the packages of that folder.
var insidePBS = []rule{
	{"pbs/h2", ""},
	{"pbs/bulk", ""},
	{"pbs/upgrade", "pbs/h2 pbs/bulk"},
	{"pbs/settings", ""},
	{"pbs/secrets", ""},
	{"pbs/backup", "pbs/upgrade"},
	{"pbs/reader", "pbs/upgrade"},
	{"pbs/client/wire", "pbs/bulk pbs/h2"},
	{"pbs/client", "pbs/client/wire pbs/h2"},
	{"pbs/rest", "pbs/upgrade"},
	{"pbs/s3", "pbs/settings pbs/upgrade"},
	{"pbs/stores/away", ""},
	{"pbs/stores/bills", ""},
	{"pbs/stores/fit", ""},
	{"pbs/stores/logs", ""},
	{"pbs/stores/meter", "pbs/settings pbs/stores/logs"},
	{"pbs/stores", "pbs/rest pbs/s3 pbs/settings pbs/upgrade pbs/stores/away pbs/stores/bills pbs/stores/fit pbs/stores/logs pbs/stores/meter"}, // rest: its twin only
	{"pbs/removable", "pbs/rest pbs/settings pbs/stores pbs/upgrade"},
	{"pbs/api/accounts", "pbs/rest pbs/upgrade"},
	{"pbs/api/sessions", "pbs/rest pbs/upgrade pbs/backup pbs/reader"},
	{"pbs/api/trash", "pbs/rest pbs/upgrade"},
	{"pbs/api/remotes", "pbs/rest pbs/upgrade pbs/settings pbs/secrets pbs/client"},
	{"pbs/api/notifications", "pbs/rest pbs/upgrade pbs/settings pbs/secrets"},
	{"pbs/history", ""},
	{"pbs/traffic", "pbs/rest pbs/upgrade pbs/settings"},
	{"pbs/api/sync", "pbs/rest pbs/upgrade pbs/settings pbs/traffic"},
	{"pbs/api/offload", "pbs/rest pbs/upgrade pbs/settings"},
	{"pbs/api/rules", "pbs/rest pbs/upgrade pbs/settings"},
	{"pbs/api/keys", "pbs/rest pbs/upgrade"},
	{"pbs/api/export", "pbs/rest pbs/upgrade pbs/settings"},
	{"pbs/api/host", "pbs/rest pbs/upgrade pbs/history"},
	{"pbs/api/cloud", "pbs/rest pbs/upgrade pbs/settings pbs/s3 pbs/stores"},
	{"pbs/api/content", "pbs/rest pbs/upgrade pbs/stores"},
	{"pbs/api/setup", "pbs/rest pbs/upgrade pbs/settings pbs/stores pbs/api/content"},
	{"pbs", "pbs/bulk pbs/upgrade pbs/backup pbs/reader pbs/rest pbs/api/sessions"}, // no package, but two twins of all
}

// insideConsensus is the same for consensus: the group knows no state machine.
var insideConsensus = []rule{
	{"consensus/canon", ""},
	{"consensus/actor", ""},
	{"consensus/feature", ""},
	{"consensus/logstore", ""},
	{"consensus/placement", ""},
	{"consensus/wire", "consensus/canon"},
	{"consensus/gate", "consensus/canon consensus/wire"},
	{"consensus/early", ""},
	{"consensus/raftlog", ""},
	{"consensus/ballot", "consensus/early consensus/wire"},
	{"consensus/brittle", ""},
	{"consensus/follow", "consensus/canon"},
	{"consensus/authority", "consensus/canon"},
	{"consensus/guard", "consensus/canon consensus/authority"},
	{"consensus/ledger", "consensus/actor consensus/canon consensus/feature consensus/authority"},
	{"consensus/claims", "consensus/authority consensus/ledger"},
	{"consensus/drafts", "consensus/actor consensus/authority consensus/canon consensus/ledger"},
	{"consensus/switchover", ""},
	{"consensus/tail", "consensus/canon"},
	{"consensus", "consensus/canon consensus/ballot consensus/brittle consensus/follow consensus/gate consensus/logstore consensus/placement consensus/raftlog consensus/switchover consensus/tail consensus/wire"},
}

// insideReplication is the same for the packages of that folder.
var insideReplication = []rule{
	{"replication/plan", ""},
	{"replication/rate", ""},
	{"replication/partial", ""},
	{"replication/swarm", "replication/partial"},
	{"replication/vouch", ""},
	{"replication/vanish", ""},
	{"replication/crypt", ""},
	{"replication/wire", "replication/partial replication/plan replication/rate replication/swarm replication/vouch"},
	{"replication/offload", "replication/plan replication/wire"},
	{"replication", "replication/crypt replication/partial replication/plan replication/swarm replication/vouch replication/vanish replication/wire"},
}

// insideNotify is the same for the packages of that folder.
var insideNotify = []rule{
	{"notify", ""},
	{"notify/mail", "notify"},
	{"notify/webhook", "notify"},
	{"notify/push", "notify"},
}

// insideMesh is the same for the packages of that folder.
var insideMesh = []rule{
	{"mesh/frame", ""},
	{"mesh/feed", ""},
	{"mesh/invite", ""},
	{"mesh/record", "mesh/frame"},
	{"mesh/host", "mesh/frame mesh/record"},
	{"mesh/join", "mesh/frame mesh/invite mesh/record"},
	{"mesh/roster", "mesh/frame mesh/record"},
	{"mesh/strays", "mesh/frame"},
	{"mesh/network", ""},
	{"mesh/facts", "mesh/feed mesh/record"},
	{"mesh/gossip", "mesh/network"},
	{"mesh/health", ""},
	{"mesh/exchange", "mesh/network mesh/feed"},
	{"mesh", "mesh/network"},
}

// insideTunnel is the same for the packages of that folder.
var insideTunnel = []rule{
	{"tunnel/probe", ""},
	{"tunnel/path", ""},
	{"tunnel/udp", ""},
	{"tunnel/stack", ""},
	{"tunnel/portmap", ""},
	{"tunnel/bind", "tunnel/probe tunnel/path tunnel/udp"},
	{"tunnel", "tunnel/probe tunnel/path tunnel/udp tunnel/stack tunnel/portmap tunnel/bind"},
}

// insideCmd is the same for the command line.
var insideCmd = []rule{
	{"cmd/holdfast/cli", ""},
	{"cmd/holdfast/daemon", "cmd/holdfast/cli"},
	{"cmd/holdfast/complete", "cmd/holdfast/cli cmd/holdfast/daemon"},
	{"cmd/holdfast/key", "cmd/holdfast/cli cmd/holdfast/daemon"},
	{"cmd/holdfast/account", "cmd/holdfast/cli cmd/holdfast/daemon"},
	{"cmd/holdfast/doctor", "cmd/holdfast/cli cmd/holdfast/daemon"},
	{"cmd/holdfast/s3", "cmd/holdfast/cli cmd/holdfast/daemon cmd/holdfast/doctor"},
	{"cmd/holdfast/remote", "cmd/holdfast/cli cmd/holdfast/daemon"},
	{"cmd/holdfast/notify", "cmd/holdfast/cli cmd/holdfast/daemon"},
	{"cmd/holdfast/task", "cmd/holdfast/cli cmd/holdfast/daemon cmd/holdfast/s3"},
	{"cmd/holdfast/schedule", "cmd/holdfast/cli cmd/holdfast/daemon"},
	{"cmd/holdfast/signatures", "cmd/holdfast/cli"},
	{"cmd/holdfast/guard", "cmd/holdfast/cli cmd/holdfast/daemon cmd/holdfast/signatures"},
	{"cmd/holdfast/audit", "cmd/holdfast/cli cmd/holdfast/daemon"},
	{"cmd/holdfast/job", "cmd/holdfast/cli cmd/holdfast/daemon cmd/holdfast/s3 cmd/holdfast/schedule"},
	{"cmd/holdfast/member", "cmd/holdfast/cli cmd/holdfast/daemon cmd/holdfast/signatures"},
	{"cmd/holdfast/node", "cmd/holdfast/cli cmd/holdfast/daemon cmd/holdfast/member"},
	{"cmd/holdfast/datastore", "cmd/holdfast/cli cmd/holdfast/daemon"},
	{"cmd/holdfast/snapshot", "cmd/holdfast/cli"},
	{"cmd/holdfast", "cmd/holdfast/cli cmd/holdfast/complete cmd/holdfast/key cmd/holdfast/daemon cmd/holdfast/account cmd/holdfast/task cmd/holdfast/schedule cmd/holdfast/job cmd/holdfast/member cmd/holdfast/node cmd/holdfast/datastore cmd/holdfast/snapshot cmd/holdfast/s3 cmd/holdfast/doctor cmd/holdfast/notify cmd/holdfast/remote cmd/holdfast/guard cmd/holdfast/audit"},
}

// insideNode is the same for the packages of the node.
var insideNode = []rule{
	{"node/admin", ""},
	{"node/certificate", ""},
	{"node/front", ""},
	{"node/memory", ""},
	{"node/doctor", "node/memory"},
	{"node/metrics", ""},
	{"node/systemd", ""},
	{"node/dirlock", ""},
	{"node/keyfile", ""},
	{"node/cluster/home", ""},
	{"node/cluster/levels", ""},
	{"node/cluster/orphans", ""},
	{"node/cluster/sums", ""},
	{"node/cluster/strays", ""},
	{"node/cluster/hasty", ""},
	{"node/cluster/votes", ""},
	{"node/cluster", "node/cluster/hasty node/cluster/home node/cluster/levels node/cluster/orphans node/cluster/strays node/cluster/sums node/cluster/votes"},
	{"node/operator", ""},
	{"node/offloads", ""},
	{"node/pulls", ""},
	{"node/peers", "node/cluster node/cluster/home"},
	{"node/alarms", ""},
	{"node/feeds", ""},
	{"node/overview", "node/alarms node/feeds"},
	{"node/members", "node/cluster node/cluster/orphans node/operator node/overview"},
	{"node/audit", "node/cluster node/operator"},
	{"node/quotas", "node/cluster node/members"},
	{"node/figures", "node/cluster node/feeds node/members node/metrics node/peers"},
	{"node/notices", "node/cluster"},
	{"node/remotes", ""},
	{"node/keyring", ""},
	{"node/exports", ""},
	{"node/pushes", ""},
	{"node/plans", "node/exports node/pushes"},
	{"node/shares", "node/cluster node/members"},
	{"node/warden", "node/operator"},
	{"node", "node/alarms node/audit node/plans node/shares node/keyfile node/keyring node/exports node/cluster node/cluster/home node/peers node/feeds node/overview node/figures node/members node/offloads node/quotas node/pulls node/admin node/certificate node/front node/metrics node/systemd node/memory node/notices node/remotes node/pushes node/warden node/doctor node/dirlock"},
}

// inside are the policies of folders with packages of their own.
var inside = map[string][]rule{
	"chunks": insideChunks, "tunnel": insideTunnel, "catalog": insideCatalog, "consensus": insideConsensus, "pbs": insidePBS,
	"notify": insideNotify, "mesh": insideMesh, "replication": insideReplication, "cmd": insideCmd, "node": insideNode,
}

// A rule says what of ours one folder may import.
type rule struct{ name, may string }

const (
	maxFunctionLines = 70   // a function that does not fit on a screen has a child in it
	maxFileLines     = 600  // a file is one noun
	maxPackageLines  = 2500 // what a reader can keep in mind; tests not counted
)

func TestLayersPointDown(t *testing.T) {
	for _, list := range append(slices.Collect(maps.Values(inside)), layers) {
		seen := map[string]bool{}
		for _, l := range list {
			for f := range strings.FieldsSeq(l.may) {
				if !seen[f] {
					t.Errorf("%s may import %s, which is not below it", l.name, f)
				}
			}
			seen[l.name] = true
		}
	}
}

func TestImports(t *testing.T) {
	for _, src := range sources(t) {
		if strings.HasSuffix(src.path, "_test.go") {
			continue
		}
		for _, imp := range src.file.Imports {
			p, _ := strconv.Unquote(imp.Path.Value)
			to, ours := strings.CutPrefix(p, module+"/")
			if !ours {
				continue
			}
			if isTwin(to) {
				checkTwin(t, src, to)
				continue
			}
			check(t, layers, src.path, top(src.dir()), top(to))
			if list := inside[top(src.dir())]; list != nil && top(to) == top(src.dir()) {
				from := src.dir()
				if isTwin(from) { // a twin stands in for what it is named after, so it may import that
					from = path.Dir(from)
				}
				check(t, list, src.path, from, to)
			}
		}
	}
}

// check reports an import that list does not allow, or a folder it does not know.
func check(t *testing.T, list []rule, file, from, to string) {
	t.Helper()
	i := slices.IndexFunc(list, func(r rule) bool { return r.name == from })
	if i < 0 {
		t.Errorf("%s: add %s to the list of layers in layers_test.go", file, from)
		return
	}
	if may := append(strings.Fields(list[i].may), from); !slices.Contains(may, to) {
		t.Errorf("%s imports %s; %s may import %v", file, to, from, may)
	}
}

// checkTwin reports a product that would ship a test's stand-in.
func checkTwin(t *testing.T, src source, to string) {
	t.Helper()
	if from := top(src.dir()); from != "bench" && from != "simulations" && !isTwin(src.dir()) {
		t.Errorf("%s imports %s; only tests, bench, simulations and other twins may", src.path, to)
	}
}

// isTwin tells an in-memory stand-in, or a suite of tests, from a product.
func isTwin(pkg string) bool { return strings.HasSuffix(pkg, "test") }

func top(pkg string) string {
	first, _, _ := strings.Cut(pkg, "/")
	return first
}

func TestEveryPackageHasOneComment(t *testing.T) {
	comments := map[string][]string{}
	for _, src := range sources(t) {
		if strings.HasSuffix(src.path, "_test.go") && src.dir() != "." {
			continue
		}
		found := comments[src.dir()]
		if src.file.Doc != nil {
			found = append(found, path.Base(src.path))
		}
		comments[src.dir()] = found
	}
	for pkg, files := range comments {
		if len(files) != 1 {
			t.Errorf("package %s has %d package comments %v, want 1", pkg, len(files), files)
		}
	}
}

func TestNothingGrowsTooLarge(t *testing.T) {
	lines := map[string]int{}
	for _, src := range sources(t) {
		n := src.lines(src.file.FileStart, src.file.FileEnd-1)
		if n > maxFileLines {
			t.Errorf("%s has %d lines, want at most %d: split it by noun", src.path, n, maxFileLines)
		}
		if strings.HasSuffix(src.path, "_test.go") {
			continue
		}
		lines[src.dir()] += n
		for _, d := range src.file.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok {
				continue
			}
			if n := src.lines(f.Pos(), f.End()); n > maxFunctionLines {
				t.Errorf("%s: %s has %d lines, want at most %d", src.path, f.Name.Name, n, maxFunctionLines)
			}
		}
	}
	for pkg, n := range lines {
		if n > maxPackageLines {
			t.Errorf("package %s has %d lines, want at most %d: find the package inside it", pkg, n, maxPackageLines)
		}
	}
}

// A source is one parsed Go file; path is slash-separated, from the root.
type source struct {
	path string
	file *ast.File
	fset *token.FileSet
}

func (s source) dir() string { return path.Dir(s.path) }

func (s source) lines(from, to token.Pos) int {
	return s.fset.Position(to).Line - s.fset.Position(from).Line + 1
}

// sources parses every Go file of the project, outside testdata.
func sources(t *testing.T) []source {
	t.Helper()
	var all []source
	err := filepath.WalkDir(".", func(name string, d fs.DirEntry, err error) error {
		hidden := len(d.Name()) > 1 && (d.Name()[0] == '.' || d.Name()[0] == '_')
		switch {
		case err != nil:
			return err
		case d.IsDir() && (hidden || d.Name() == "testdata"):
			return fs.SkipDir
		case d.IsDir() || hidden || path.Ext(name) != ".go":
			return nil
		}
		fset := token.NewFileSet()
		f, err := parser.ParseFile(fset, name, nil, parser.ParseComments)
		all = append(all, source{filepath.ToSlash(name), f, fset})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}
