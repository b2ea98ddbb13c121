package stores_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/holdfast-mesh/holdfast/chunks/cloud/cloudtest"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/seal"
	"github.com/holdfast-mesh/holdfast/jobs"
	"github.com/holdfast-mesh/holdfast/pbs/s3"
	"github.com/holdfast-mesh/holdfast/pbs/settings"
	"github.com/holdfast-mesh/holdfast/pbs/stores"
)

// A ledger lets one node at a time work on a bucket, as the claims of a cluster do.
type ledger struct {
	mu    sync.Mutex
	has   map[string]string // node by bucket
	away  error             // it cannot be asked
	asked int
}

func (l *ledger) claim(node string) stores.Claim {
	return func(ctx context.Context, _, bucket string, work func(context.Context, bool, error) error) error {
		l.mu.Lock()
		l.asked++
		other, away := l.has[bucket], l.away
		if other == "" && away == nil {
			l.has[bucket] = node
		}
		l.mu.Unlock()
		switch {
		case away != nil:
			return work(ctx, true, away)
		case other != "":
			return &jobs.Elsewhere{Node: other, How: "running"}
		}
		defer l.give(bucket)
		return work(ctx, true, nil)
	}
}

func (l *ledger) agreed(context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.away
}

func (l *ledger) give(bucket string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.has, bucket)
}

// A member is a node with a datastore in a bucket.
type member struct {
	*stores.Set
	tasks    *jobs.Manager
	settings settings.Store
	clouds   *s3.Clients
}

func newMember(t *testing.T, server, node string, l *ledger) *member {
	t.Helper()
	dir := t.TempDir()
	state, err := settings.OpenFile(filepath.Join(dir, "settings.json"))
	must(t, err)
	must(t, state.Update(t.Context(), func(s *settings.State) error {
		s.S3Clients = append(s.S3Clients, settings.S3Client{ID: "near", Endpoint: server, Region: cloudtest.Region, AccessKey: cloudtest.Key, PathStyle: true})
		return nil
	}))
	clouds, err := s3.Open(state, filepath.Join(dir, "s3.json"))
	must(t, err)
	must(t, clouds.SetSecret(t.Context(), "near", cloudtest.Secret))
	tasks, err := jobs.New(jobs.Config{Dir: filepath.Join(dir, "tasks"), Node: node})
	must(t, err)
	schedules, err := jobs.NewScheduler(jobs.SchedulerConfig{Manager: tasks, File: filepath.Join(dir, "runs")})
	must(t, err)
	set, err := stores.New(stores.Config{Settings: state, Tasks: tasks, Scheduler: schedules, Clouds: clouds, Node: node, Claim: l.claim(node), Agreed: l.agreed})
	must(t, err)
	must(t, set.Open(t.Context()))
	t.Cleanup(func() {
		must(t, tasks.Close(context.Background()))
		must(t, set.Close())
		must(t, clouds.Close())
	})
	return &member{set, tasks, state, clouds}
}

// has makes a datastore in the bucket, or uses the one that is there.
func (m *member) has(t *testing.T, recovery string, reuse, takeOver bool) {
	t.Helper()
	u, err := m.StartCreate(t.Context(), root, stores.Create{
		Datastore: settings.Datastore{Name: "cloud", Path: filepath.Join(t.TempDir(), "cloud"), Backend: settings.Backend{Client: "near", Bucket: cloudtest.Name}},
		Reuse:     reuse, Cloud: stores.NewCloud{Recovery: recovery, TakeOver: takeOver, Override: []string{"keys", "lifecycle", "versioning", "tls"}},
	})
	if state, text := m.end(t, u, err); state != "OK" && !strings.HasPrefix(state, "WARNINGS") {
		t.Fatalf("create: %s\n%s", state, text)
	}
}

// end waits for a task, and returns how it ended and what it said.
func (m *member) end(t *testing.T, u jobs.UPID, err error) (state, text string) {
	t.Helper()
	must(t, err)
	i, err := m.tasks.Wait(t.Context(), u)
	must(t, err)
	page, err := m.tasks.Log(u, 1, 0)
	must(t, err)
	for _, l := range page.Lines {
		text += l.Text + "\n"
	}
	return i.Status(), text
}

// Of two nodes that may own a bucket, one works on it at a time, and the one that
// does not own it leaves it alone; while nobody can be asked, the bucket itself
// says whose it is.
func TestOneNodeWorksOnABucket(t *testing.T) {
	key, err := seal.NewIdentity()
	must(t, err)
	server := cloudtest.Start(t)
	p := cloudtest.Front(t, server)
	l := &ledger{has: map[string]string{}}
	a, b := newMember(t, p.URL, "a", l), newMember(t, p.URL, "b", l)
	a.has(t, key.String(), false, false)
	b.has(t, key.String(), true, true)

	work := map[string]func(m *member) (jobs.UPID, error){
		"gc":      func(m *member) (jobs.UPID, error) { return m.StartGC("cloud", root) },
		"audit":   func(m *member) (jobs.UPID, error) { return m.StartAudit("cloud", root) },
		"offload": func(m *member) (jobs.UPID, error) { return m.StartOffload("cloud", root) },
	}
	run := func(m *member, what string) (string, string) {
		t.Helper()
		u, err := work[what](m)
		return m.end(t, u, err)
	}
	run(a, "gc") // and so it hears that the bucket has been taken
	for what := range work {
		if state, text := run(b, what); state != "OK" || !strings.Contains(text, "requests to the store") {
			t.Errorf("%s of the owner: %s\n%s", what, state, text)
		}
		if state, text := run(a, what); state != "OK" || !strings.Contains(text, "node b owns this bucket until ") {
			t.Errorf("%s of the other: %s\n%s", what, state, text)
		}
	}
	formats, err := filepath.Glob(filepath.Join(server.Dir, "hf1", "*", "format"))
	if err != nil || len(formats) != 1 {
		t.Fatalf("formats: %v, %v", formats, err)
	}
	must(t, os.Remove(formats[0]))
	if state, text := run(b, "audit"); state != "OK" || !strings.Contains(text, "format was gone or damaged, and was written anew") {
		t.Errorf("audit of a bucket without its format: %s\n%s", state, text)
	}
	for id := range l.bucket(t, b) {
		l.has[id] = "c"
		p.Reset()
		for what := range work {
			if state, text := run(b, what); state != "OK" || !strings.Contains(text, "node c works on this bucket now") {
				t.Errorf("%s while another has the claim: %s\n%s", what, state, text)
			}
		}
		if n := p.Total(); n != 0 {
			t.Errorf("a bucket that another has the claim of was asked %v", p.Counts())
		}
		if u, err := a.StartTakeOver("cloud", root, false); true {
			if state, _ := a.end(t, u, err); !strings.Contains(state, "node c had it") {
				t.Errorf("a take-over while another is at it: %s", state)
			}
		}
		l.give(id)
	}
	l.away = errors.New("no leader")
	for what := range work {
		if what == "gc" {
			if state, text := run(b, what); !strings.Contains(state, "while the cluster has no quorum: no leader") || strings.Contains(text, "requests to the store") {
				t.Errorf("the owner deletes while the cluster is away: %s\n%s", state, text)
			}
			continue
		}
		if state, text := run(b, what); !strings.HasPrefix(state, "WARNINGS") || !strings.Contains(text, "no leader") || !strings.Contains(text, "requests to the store") {
			t.Errorf("%s of the owner while the cluster is away: %s\n%s", what, state, text)
		}
	}
}

// bucket claims nothing and returns the ID of the store in the bucket.
func (l *ledger) bucket(t *testing.T, m *member) map[string]bool {
	t.Helper()
	st, ok := m.Cloud("cloud")
	if !ok {
		t.Fatal("there is no bucket")
	}
	return map[string]bool{st.Store: true}
}

// Two nodes mean the same bucket, however they write its endpoint.
func TestBucketOf(t *testing.T) {
	at := func(endpoint, region string, port int, b settings.Backend) string {
		b.Client = "x"
		s := &settings.State{S3Clients: []settings.S3Client{{ID: "x", Endpoint: endpoint, Region: region, Port: port}}}
		return s.BucketOf(settings.Datastore{Backend: b})
	}
	same := []string{
		at("https://S3.eu.example/", "eu", 0, settings.Backend{Bucket: "b", Prefix: "p"}),
		at("{{bucket}}.s3.{{region}}.example", "EU", 0, settings.Backend{Bucket: "b", Prefix: "p"}),
	}
	if len(slices.Compact(slices.Clone(same))) != 1 || same[0] != "s3.eu.example/b/p" {
		t.Errorf("the same bucket is %q", same)
	}
	for _, other := range []string{
		at("s3.eu.example", "", 0, settings.Backend{Bucket: "b"}), at("s3.eu.example", "", 9000, settings.Backend{Bucket: "b", Prefix: "p"}),
		at("s3.us.example", "", 0, settings.Backend{Bucket: "b", Prefix: "p"}), (&settings.State{}).BucketOf(settings.Datastore{}),
	} {
		if other == same[0] {
			t.Errorf("another bucket is %q", other)
		}
	}
}
