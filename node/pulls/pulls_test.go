package pulls_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-mesh/holdfast/access"
	"github.com/holdfast-mesh/holdfast/catalog"
	"github.com/holdfast-mesh/holdfast/catalog/naming"
	"github.com/holdfast-mesh/holdfast/jobs"
	"github.com/holdfast-mesh/holdfast/mesh/meshtest"
	"github.com/holdfast-mesh/holdfast/node/pulls"
	"github.com/holdfast-mesh/holdfast/pbs/settings"
	"github.com/holdfast-mesh/holdfast/pbs/stores/storestest"
	"github.com/holdfast-mesh/holdfast/pbs/traffic"
)

// A mesh is some nodes, each with a datastore main, in one process.
type mesh struct {
	net     *meshtest.Network
	members []pulls.Member
	traffic *traffic.Limiter
}

// A node is one of them.
type node struct {
	*storestest.World
	*pulls.Pulls
	t       *testing.T
	traffic *traffic.Limiter
}

// members are a full node called home, and one of each role.
func newMesh() *mesh {
	m := &mesh{net: meshtest.New(1)}
	for _, name := range []string{"home:full", "dc:full", "vault:replica", "box:cloud", "vote:witness"} {
		name, role, _ := strings.Cut(name, ":")
		m.members = append(m.members, pulls.Member{ID: "id-" + name, Name: name, Role: role})
	}
	return m
}

// id is that of a member, or of somebody who is none.
func (m *mesh) id(name string) string {
	i := slices.IndexFunc(m.members, func(m pulls.Member) bool { return m.Name == name })
	if i < 0 {
		return "id-" + name
	}
	return m.members[i].ID
}

// node starts a node of the mesh.
func (m *mesh) node(t *testing.T, name string, more ...func(*node, *pulls.Config)) *node {
	t.Helper()
	n := &node{World: storestest.New(t, "main"), t: t, traffic: m.traffic}
	var err error
	c := pulls.Config{
		Self: m.id(name), Settings: n.Settings, Stores: n.Set, Scheduler: n.Scheduler, Tasks: n.Tasks, Network: m.net.Node(m.id(name)),
		Members: func() []pulls.Member { return m.members },
		Member: func(id string) (pulls.Member, bool) {
			i := slices.IndexFunc(m.members, func(m pulls.Member) bool { return m.ID == id })
			if i < 0 {
				return pulls.Member{}, false
			}
			return m.members[i], true
		},
		Account: func(node, store string, ns naming.Namespace) (read, has bool) {
			id := access.AuthID(node + "@node")
			_, err := n.Accounts.User(id)
			return n.Accounts.Privileges(id, "datastore", store, string(ns)).HasAny(access.PrivDatastoreRead), err == nil
		},
		Traffic: m.traffic,
		Where:   func(string) netip.Addr { return netip.MustParseAddr("192.0.2.1") },
		May:     func(owner, store string, ns naming.Namespace) bool { return owner == "root@pam" },
	}
	for _, add := range more {
		add(n, &c)
	}
	n.Pulls, err = pulls.New(c)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() { ran <- n.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ran; err != nil {
			t.Error(err)
		}
	})
	return n
}

// Run is that of the pulls, and Sync: the datastores follow by themselves.
func (n *node) Run(ctx context.Context) error  { return n.Pulls.Run(ctx) }
func (n *node) Sync(ctx context.Context) error { return n.Pulls.Sync(ctx) }

// back makes backups, each "[NS:]TYPE/ID/HOUR".
func (n *node) back(size int, list ...string) {
	n.t.Helper()
	d, err := n.Get("main")
	if err != nil {
		n.t.Fatal(err)
	}
	for _, text := range list {
		ns, group, at := parse(n.t, text)
		for up := naming.Namespace(""); up != ns; {
			rest := strings.TrimPrefix(strings.TrimPrefix(string(ns), string(up)), "/")
			first, _, _ := strings.Cut(rest, "/")
			up = naming.Namespace(strings.TrimPrefix(string(up)+"/"+first, "/"))
			if err := d.CreateNamespace(up); err != nil {
				n.t.Fatal(err)
			}
		}
		content := make([]byte, size)
		if _, err := rand.Read(content); err != nil {
			n.t.Fatal(err)
		}
		n.Back(n.t, "main", storestest.Backup{
			Namespace: ns, Snapshot: group + "/" + naming.FormatTime(at), Owner: "root@pam",
			Files: []storestest.File{{Name: "disk.img.fidx", Content: content}, {Name: "a.conf.blob", Content: []byte("x")}},
		})
	}
}

func parse(t *testing.T, text string) (ns naming.Namespace, group string, at int64) {
	t.Helper()
	if space, rest, is := strings.Cut(text, ":"); is {
		ns, text = naming.Namespace(space), rest
	}
	i := strings.LastIndex(text, "/")
	var hour int64
	if _, err := fmt.Sscan(text[i+1:], &hour); err != nil {
		t.Fatal(err)
	}
	return ns, text[:i], 1_700_000_000 + 3600*hour
}

// holds lists what a node has, as back takes it.
func (n *node) holds() string {
	n.t.Helper()
	d, err := n.Get("main")
	if err != nil {
		n.t.Fatal(err)
	}
	list, err := d.List(n.t.Context(), catalog.ListOptions{Depth: -1})
	if err != nil {
		n.t.Fatal(err)
	}
	var all []string
	for _, i := range list {
		s := fmt.Sprintf("%s/%d", i.Snapshot().Group, (i.Time-1_700_000_000)/3600)
		if i.Namespace != "" {
			s = string(i.Namespace) + ":" + s
		}
		all = append(all, s)
	}
	slices.Sort(all)
	return strings.Join(all, " ")
}

// set makes or replaces a job.
func (n *node) set(j settings.SyncJob) {
	n.t.Helper()
	err := n.Settings.Update(n.t.Context(), func(s *settings.State) error {
		s.SyncJobs = append(slices.DeleteFunc(s.SyncJobs, func(o settings.SyncJob) bool { return o.ID == j.ID }), j)
		return nil
	})
	if err == nil {
		err = n.Sync(n.t.Context())
	}
	if err != nil {
		n.t.Fatal(err)
	}
}

// do runs a job and returns its log, and how it ended.
func (n *node) do(id string) (log, state string) {
	n.t.Helper()
	until(n.t, "the run before has ended", func() bool { s, err := n.Schedule(id); return err == nil && !s.Running })
	u, err := n.Start(id, "root@pam")
	if err != nil {
		n.t.Fatal(err)
	}
	i, err := n.Tasks.Wait(n.t.Context(), u)
	if err != nil {
		n.t.Fatal(err)
	}
	var out strings.Builder
	if err := n.Tasks.WriteLog(&out, u); err != nil {
		n.t.Fatal(err)
	}
	return out.String(), i.Status()
}

// until waits until something is so.
func until(t *testing.T, what string, so func() bool) {
	t.Helper()
	for began := time.Now(); !so(); time.Sleep(20 * time.Millisecond) {
		if time.Since(began) > time.Minute {
			t.Fatal("not after a minute: " + what)
		}
	}
}

func yes() *bool        { on := true; return &on }
func levels(n int) *int { return &n }

// Every option does what it says: what of the source is here after one run.
func TestOptions(t *testing.T) {
	t.Parallel()
	m := newMesh()
	for i := range 20 { // one for each row
		m.members = append(m.members, pulls.Member{ID: fmt.Sprintf("id-dc%d", i), Name: fmt.Sprintf("dc%d", i), Role: "full"})
	}
	home := m.node(t, "home")
	home.back(1000, "vm/100/1", "vm/100/2", "vm/100/3", "vm/1000/1", "ct/7/1", "host/h/1",
		"location_a:host/x/1", "location_a/department_x:vm/1/1", "location_a/department_x/team_one:vm/2/1", "location_a/department_x/team_one/k:vm/3/1", "other:vm/9/1")
	tests := []struct {
		name string
		job  settings.SyncJob
		want string
	}{
		{"all", settings.SyncJob{}, "ct/7/1 host/h/1 location_a/department_x/team_one/k:vm/3/1 location_a/department_x/team_one:vm/2/1 location_a/department_x:vm/1/1 location_a:host/x/1 other:vm/9/1 vm/100/1 vm/100/2 vm/100/3 vm/1000/1"},
		{"the root alone", settings.SyncJob{MaxDepth: levels(0)}, "ct/7/1 host/h/1 vm/100/1 vm/100/2 vm/100/3 vm/1000/1"},
		{"a tree below another namespace", settings.SyncJob{RemoteNS: "location_a/department_x", NS: "location_a_dep_x"},
			"location_a_dep_x/team_one/k:vm/3/1 location_a_dep_x/team_one:vm/2/1 location_a_dep_x:vm/1/1"},
		{"and one level of it", settings.SyncJob{RemoteNS: "location_a/department_x", NS: "location_a_dep_x", MaxDepth: levels(1)},
			"location_a_dep_x/team_one:vm/2/1 location_a_dep_x:vm/1/1"},
		{"a type", settings.SyncJob{MaxDepth: levels(0), GroupFilter: []string{"type:ct"}}, "ct/7/1"},
		{"a group", settings.SyncJob{MaxDepth: levels(0), GroupFilter: []string{"group:vm/1000"}}, "vm/1000/1"},
		{"an expression", settings.SyncJob{MaxDepth: levels(0), GroupFilter: []string{`regex:^vm/1\d{2}$`}}, "vm/100/1 vm/100/2 vm/100/3"},
		{"one of two includes", settings.SyncJob{MaxDepth: levels(0), GroupFilter: []string{"type:ct", "type:host"}}, "ct/7/1 host/h/1"},
		{"an exclude alone", settings.SyncJob{MaxDepth: levels(0), GroupFilter: []string{"exclude:type:vm"}}, "ct/7/1 host/h/1"},
		{"an include less an exclude", settings.SyncJob{MaxDepth: levels(0), GroupFilter: []string{"type:vm", "exclude:group:vm/100"}}, "vm/1000/1"},
		{"the newest two of each", settings.SyncJob{MaxDepth: levels(0), TransferLast: 2}, "ct/7/1 host/h/1 vm/100/2 vm/100/3 vm/1000/1"},
		{"none is verified", settings.SyncJob{MaxDepth: levels(0), VerifiedOnly: yes()}, ""},
		{"none is encrypted", settings.SyncJob{MaxDepth: levels(0), EncryptedOnly: yes()}, ""},
		{"many at once", settings.SyncJob{MaxDepth: levels(0), WorkerThreads: 32, RateIn: "10 MiB", BurstIn: "1 MiB"}, "ct/7/1 host/h/1 vm/100/1 vm/100/2 vm/100/3 vm/1000/1"},
		{"chunks from all", settings.SyncJob{MaxDepth: levels(0), GroupFilter: []string{"type:ct"}, Sources: []string{settings.AnySource}}, "ct/7/1"},
	}
	for i, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dc := m.node(t, fmt.Sprintf("dc%d", i))
			tt.job.ID, tt.job.Store, tt.job.Remote, tt.job.RemoteStore = "job", "main", "home", "main"
			dc.set(tt.job)
			log, state := dc.do("job")
			if got := dc.holds(); got != tt.want || strings.HasPrefix(state, "sync failed") {
				t.Errorf("%s: it holds\n%s, want\n%s\n%s", state, got, tt.want, log)
			}
			if log, _ := dc.do("job"); !strings.Contains(log, "sync job found no new data to pull") {
				t.Errorf("again:\n%s", log)
			}
		})
	}
}

// Who is in the cluster reads as its role, or as its account says.
func TestWhoMayRead(t *testing.T) {
	t.Parallel()
	m := newMesh()
	home := m.node(t, "home")
	home.back(1000, "vm/1/1", "open:vm/2/1")
	tests := []struct{ name, who, acl, want string }{
		{"a full node", "dc", "", "open:vm/2/1 vm/1/1"},
		{"a replica", "vault", "", "open:vm/2/1 vm/1/1"},
		{"a cloud node", "box", "", "refused"},
		{"a witness", "vote", "", "refused"},
		{"a cloud node with a right", "box", "/datastore/main DatastoreReader", "open:vm/2/1 vm/1/1"},
		{"a full node without one", "dc", "/datastore/other DatastoreReader", "refused"},
		{"a part", "vault", "/datastore/main/open DatastoreReader", "open:vm/2/1"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			n := m.node(t, tt.who)
			if tt.acl != "" {
				home.AddUser(t, access.AuthID(tt.who+"@node"), tt.acl)
			}
			n.set(settings.SyncJob{ID: "job", Store: "main", Remote: "home", RemoteStore: "main"})
			log, state := n.do("job")
			got := n.holds()
			if strings.Contains(state, "refused") && strings.Contains(state, "403") {
				got += "refused"
			}
			if got != tt.want {
				t.Errorf("%s: %q, want %q\n%s", state, got, tt.want, log)
			}
		})
	}
	stranger := &mesh{net: m.net, members: append(slices.Clone(m.members), pulls.Member{ID: "id-gone", Name: "gone", Role: "full"})}
	gone := stranger.node(t, "gone")
	gone.set(settings.SyncJob{ID: "job", Store: "main", Remote: "home", RemoteStore: "main"})
	if _, state := gone.do("job"); !strings.Contains(state, "refused") || gone.holds() != "" {
		t.Errorf("who is no member any more: %s, and it holds %q", state, gone.holds())
	}
}

// A run is stopped within a second, never begins twice, and goes on where it
// was.
func TestStop(t *testing.T) {
	t.Parallel()
	m := newMesh()
	home, dc := m.node(t, "home"), m.node(t, "dc")
	home.back(24<<20, "vm/1/1")
	dc.set(settings.SyncJob{ID: "job", Store: "main", Remote: "home", RemoteStore: "main", RateIn: "1 MiB", BurstIn: "8 MiB"})
	u, err := dc.Start("job", "root@pam")
	if err != nil {
		t.Fatal(err)
	}
	until(t, "chunks arrive", func() bool {
		i, err := dc.Tasks.Status(u)
		return err == nil && strings.Contains(i.Doing, " chunks") && !strings.Contains(i.Doing, ", 0 chunks")
	})
	if _, err := dc.Start("job", "root@pam"); err == nil || !strings.Contains(err.Error(), jobs.ErrRunning.Error()) {
		t.Errorf("it was started twice: %v", err)
	}
	if err := dc.Tasks.Stop(t.Context(), u); err != nil {
		t.Fatal(err)
	}
	if i, _ := dc.Tasks.Status(u); i.State != jobs.Failed || !strings.Contains(i.Status(), "stopped") {
		t.Errorf("it ended as %q", i.Status())
	}
	if dc.holds() != "" {
		t.Errorf("there is %s", dc.holds())
	}
	dc.set(settings.SyncJob{ID: "job", Store: "main", Remote: "home", RemoteStore: "main"})
	log, state := dc.do("job")
	if state != "OK" || dc.holds() != "vm/1/1" || dc.Last("job").Report.Swarm.Bytes > 23<<20 {
		t.Errorf("%s, it holds %s, and %d bytes were fetched again\n%s", state, dc.holds(), dc.Last("job").Report.Swarm.Bytes, log)
	}
}

// A job that runs on change runs when there is news, and only then.
func TestOnChange(t *testing.T) {
	t.Parallel()
	m := newMesh()
	home, dc := m.node(t, "home"), m.node(t, "dc")
	home.back(1000, "vm/1/1")
	dc.set(settings.SyncJob{ID: "job", Store: "main", Remote: "home", RemoteStore: "main", OnChange: true})
	until(t, "the first backup is there", func() bool { return dc.holds() == "vm/1/1" })
	runs := func() int {
		_, n := dc.Tasks.List(jobs.Filter{Type: "syncjob"})
		return n
	}
	until(t, "the run has ended", func() bool { s, _ := dc.Schedule("job"); return !s.Running })
	dc.News("id-home") // which is none
	time.Sleep(3 * time.Second)
	if n := runs(); n != 1 {
		t.Errorf("it ran %d times", n)
	}
	home.back(1000, "vm/1/2")
	dc.News("id-home")
	until(t, "the second backup is there", func() bool { return dc.holds() == "vm/1/1 vm/1/2" })
	if n := runs(); n != 2 {
		t.Errorf("it ran %d times", n)
	}
}

// Jobs that wait for their datastore run when it is back, one after another, and
// take it out of service again; a run by hand does not.
func TestRunOnMount(t *testing.T) {
	t.Parallel()
	m := newMesh()
	home, dc := m.node(t, "home"), m.node(t, "dc")
	home.back(1000, "vm/1/1")
	job := settings.SyncJob{ID: "b-job", Store: "main", Remote: "home", RemoteStore: "main", RunOnMount: yes(), UnmountOnDone: yes()}
	dc.set(job)
	job.ID, job.NS, job.UnmountOnDone = "a-job", "a", nil
	dc.set(job)
	if _, state := dc.do("b-job"); state != "OK" {
		t.Fatal(state)
	}
	d, err := dc.Get("main")
	if err != nil {
		t.Fatal(err)
	}
	mode := func() catalog.Mode { return d.Settings().Maintenance.Mode }
	if mode() != catalog.InService {
		t.Errorf("after a run by hand it is %q", mode())
	}
	set := func(mode catalog.Mode) {
		if err := d.SetSettings(catalog.Settings{Maintenance: catalog.Maintenance{Mode: mode}}); err != nil {
			t.Fatal(err)
		}
	}
	set(catalog.Offline)
	time.Sleep(4 * time.Second) // as long as a disk is away
	home.back(1000, "vm/1/2")
	set(catalog.InService)
	until(t, "it is out of service again", func() bool { return mode() == catalog.Offline })
	if got := dc.holds(); got != "a:vm/1/1 a:vm/1/2 vm/1/1 vm/1/2" {
		t.Errorf("it holds %s", got)
	}
	list, _ := dc.Tasks.List(jobs.Filter{Type: "syncjob"})
	if len(list) != 3 || !strings.HasSuffix(list[0].UPID.ID, "b-job") || !strings.HasSuffix(list[1].UPID.ID, "a-job") || list[1].End.Unix() > list[0].UPID.Start {
		t.Errorf("ran: %v", list)
	}
}

// A disk that comes and goes is unmounted once, after the last of its jobs, if
// they ran since it came.
func TestUnmountOnDone(t *testing.T) {
	t.Parallel()
	m := newMesh()
	unmounts := make(chan string, 8)
	home := m.node(t, "home")
	dc := m.node(t, "dc", func(n *node, c *pulls.Config) {
		c.Unmount = func(_ context.Context, store string) (bool, error) {
			unmounts <- store + " with " + n.holds()
			return true, nil
		}
	})
	home.back(1000, "vm/1/1")
	job := settings.SyncJob{ID: "a-job", Store: "main", Remote: "home", RemoteStore: "main", RunOnMount: yes(), UnmountOnDone: yes()}
	dc.set(job)
	job.ID, job.NS, job.UnmountOnDone = "b-job", "b", nil
	dc.set(job)
	if _, state := dc.do("a-job"); state != "OK" {
		t.Fatal(state)
	}
	set := func(mode catalog.Mode) {
		if err := dc.main().SetSettings(catalog.Settings{Maintenance: catalog.Maintenance{Mode: mode}}); err != nil {
			t.Fatal(err)
		}
	}
	set(catalog.Offline)
	time.Sleep(4 * time.Second) // as long as a disk is away
	set(catalog.InService)
	if got := <-unmounts; got != "main with b:vm/1/1 vm/1/1" || len(unmounts) > 0 {
		t.Errorf("unmounted: %s, and %d more", got, len(unmounts))
	}
}

// Rules for traffic go by the account of the other node, on both ends.
func TestTrafficRules(t *testing.T) {
	t.Parallel()
	m := newMesh()
	m.traffic = traffic.New()
	err := m.traffic.Set([]settings.TrafficRule{
		{Name: "dc", Networks: []string{"0.0.0.0/0", "::/0"}, Users: []string{"dc@node"}, RateOut: "2 MiB", BurstOut: "1 MiB"},
		{Name: "vault", Networks: []string{"0.0.0.0/0", "::/0"}, Users: []string{"vault@node"}, RateOut: "2 MiB", BurstOut: "1 MiB"},
	})
	if err != nil {
		t.Fatal(err)
	}
	home := m.node(t, "home")
	m.traffic = nil
	dc := m.node(t, "dc")
	home.back(8<<20, "vm/1/1")
	dc.set(settings.SyncJob{ID: "job", Store: "main", Remote: "home", RemoteStore: "main"})
	if _, err := dc.Start("job", "root@pam"); err != nil {
		t.Fatal(err)
	}
	rules := home.traffic
	until(t, "bytes are counted for dc", func() bool { return rules.Rates()[0].Out > 1<<20 })
	if n := rules.Rates()[1].Out; n != 0 {
		t.Errorf("%d bytes are counted for vault", n)
	}
	until(t, "the backup is there", func() bool { return dc.holds() == "vm/1/1" })
}

// What fails says what to do: no such node, a node that is away, a namespace
// that the owner may not make, groups of somebody else.
func TestRefusals(t *testing.T) {
	t.Parallel()
	m := newMesh()
	home, dc := m.node(t, "home"), m.node(t, "dc")
	home.back(1000, "vm/1/1", "deep:vm/1/1")
	dc.back(1000, "vm/1/0")
	dc.AddUser(t, "sync@pbs")
	tests := []struct {
		name string
		job  settings.SyncJob
		want string // part of the state or of the log
	}{
		{"nobody of that name", settings.SyncJob{Remote: "nowhere"}, `there is no node "nowhere" in this cluster`},
		{"nobody answers", settings.SyncJob{Remote: "vault"}, "vault:main"},
		{"no such datastore", settings.SyncJob{Remote: "home", RemoteStore: "none"}, `no right to read datastore "none"`},
		{"no such namespace", settings.SyncJob{Remote: "home", RemoteNS: "none"}, `no namespace "none"`},
		{"a namespace", settings.SyncJob{Remote: "home", Owner: "sync@pbs"}, "namespace 'deep' is not there, and sync@pbs may not make it"},
		{"a group of root", settings.SyncJob{Remote: "home", Owner: "sync@pbs", MaxDepth: levels(0)}, "it belongs to root@pam here, and the job to sync@pbs"},
		{"itself", settings.SyncJob{RemoteStore: "main"}, "source and target are the same"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.job.ID, tt.job.Store = "job", "main"
			if tt.job.RemoteStore == "" {
				tt.job.RemoteStore = "main"
			}
			dc.set(tt.job)
			log, state := dc.do("job")
			if state == "OK" || !strings.Contains(state+log, tt.want) {
				t.Errorf("%s, want …%s…\n%s", state, tt.want, log)
			}
		})
	}
	if got := dc.holds(); got != "vm/1/0" {
		t.Errorf("it holds %s", got)
	}
}

// A datastore is copied to another one of the same node without any network,
// and a plan changes nothing.
func TestWithinOneNode(t *testing.T) {
	t.Parallel()
	m := newMesh()
	home := m.node(t, "home")
	home.back(1000, "vm/1/1")
	home.set(settings.SyncJob{ID: "job", Store: "main", RemoteStore: "main", MaxDepth: levels(0), NS: "copy"})
	pl, err := home.Plan(t.Context(), "job")
	if err != nil {
		t.Fatal(err)
	}
	if pl.Snapshots != 1 || pl.Bytes == 0 || len(pl.Create) != 1 || home.holds() != "vm/1/1" {
		t.Errorf("the plan is %+v", pl)
	}
	if log, state := home.do("job"); state != "OK" || home.holds() != "copy:vm/1/1 vm/1/1" {
		t.Errorf("%s, it holds %s\n%s", state, home.holds(), log)
	}
}
