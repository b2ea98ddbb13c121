package cluster

import (
	"context"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha1"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-mesh/holdfast/access"
	"github.com/holdfast-mesh/holdfast/access/factor"
	"github.com/holdfast-mesh/holdfast/consensus"
	"github.com/holdfast-mesh/holdfast/consensus/authority"
	"github.com/holdfast-mesh/holdfast/consensus/guard"
	"github.com/holdfast-mesh/holdfast/consensus/ledger"
	"github.com/holdfast-mesh/holdfast/node/cluster/home"
	"github.com/holdfast-mesh/holdfast/node/keyfile"
	"github.com/holdfast-mesh/holdfast/pbs/settings"
)

// made returns the configuration of a cluster that was founded with f.
func made(t *testing.T, f Founding) Config {
	t.Helper()
	dir := t.TempDir()
	key, err := keyfile.Make(filepath.Join(dir, "identity.key"))
	if err != nil {
		t.Fatal(err)
	}
	cfg := Config{Dir: filepath.Join(dir, "cluster"), Key: key}
	f.Name, f.Site = "home", "here"
	f.Operator = func() (ed25519.PrivateKey, error) { return keyfile.Make(filepath.Join(dir, "operator.key")) }
	if err := Found(t.Context(), cfg, f); err != nil {
		t.Fatal(err)
	}
	if err := home.Founded(cfg.Dir); err != nil {
		t.Fatal(err)
	}
	return cfg
}

// opened opens a cluster until the test ends.
func opened(t *testing.T, cfg Config) *Cluster {
	t.Helper()
	c, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// running runs a cluster; stop ends and closes it.
func running(t *testing.T, c *Cluster) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := errors.Join(<-done, c.Close()); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	return stop
}

// What was changed is there before the next life runs, and a node that is alone
// takes changes at once.
func TestAlone(t *testing.T) {
	cfg := made(t, Founding{})
	c := opened(t, cfg)
	stop := running(t, c)
	began := time.Now()
	if err := c.Accounts().Update(t.Context(), func(s *access.State) error {
		s.Users = append(s.Users, access.User{ID: "op@pbs"})
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("the first change took %s, as if there had been an election", took)
	}
	seven := 7
	want := &settings.State{
		Datastores:   []settings.Datastore{{Name: "main", Path: "/srv/main", GCSchedule: "daily", Tuning: `a "b" é`}, {Name: "other", Path: "/x"}},
		PruneJobs:    []settings.PruneJob{{ID: "p", Store: "main", Schedule: "hourly", MaxDepth: &seven, Disable: true, Comment: "why"}},
		VerifyJobs:   []settings.VerifyJob{{ID: "p", Store: "other", OutdatedAfter: &seven}},
		TrafficRules: []settings.TrafficRule{{Name: "slow", Networks: []string{"10.0.0.0/8"}, RateIn: "1 MiB"}},
	}
	put := func(s *settings.State) error { *s = *settings.Clone(want); return nil }
	if err := c.Settings().Update(t.Context(), put); err != nil {
		t.Fatal(err)
	}
	before := c.Settings().State()
	if err := c.Settings().Update(t.Context(), put); err != nil || c.Settings().State() != before {
		t.Errorf("a change of nothing: %v, or another state", err)
	}
	stop()

	c = opened(t, cfg)
	if got := c.Settings().State(); settings.Digest(got) != settings.Digest(settings.Clone(want)) {
		t.Errorf("settings are %+v, want %+v", got, want)
	}
	if users := c.Accounts().State().Users; len(users) != 2 {
		t.Errorf("users are %v", users)
	}
	running(t, c)
	if err := c.Settings().Update(t.Context(), func(s *settings.State) error {
		s.Datastores, s.PruneJobs = s.Datastores[:1], nil
		s.TrafficRules[0].RateIn = "2 MiB"
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	s := c.Settings().State()
	if len(s.Datastores) != 1 || len(s.PruneJobs) != 0 || len(s.VerifyJobs) != 1 || s.TrafficRules[0].RateIn != "2 MiB" {
		t.Errorf("after a removal: %+v", s)
	}
}

// Changes at once are made one behind the other, and none is lost.
func TestChangesAtOnce(t *testing.T) {
	c := opened(t, made(t, Founding{}))
	running(t, c)
	var tasks sync.WaitGroup
	for i := range 4 {
		tasks.Go(func() {
			err := c.Settings().Update(t.Context(), func(s *settings.State) error {
				s.Datastores = append(s.Datastores, settings.Datastore{Name: fmt.Sprint("store", i), Path: "/s"})
				return nil
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	tasks.Wait()
	if n := len(c.Settings().State().Datastores); n != 4 {
		t.Errorf("%d datastores, want 4", n)
	}
}

// A founding that was cut short anywhere is completed, with all that the node
// had, and more than fits into one command.
// What is known of another node's settings is kept, and follows each change of them.
func TestSettingsOfAnotherNode(t *testing.T) {
	c := opened(t, made(t, Founding{}))
	defer running(t, c)()
	const other = "another-node"
	store := c.SettingsOf(other)
	if n := len(store.State().Datastores); n != 0 {
		t.Fatalf("it has %d datastores", n)
	}
	err := newSettings(c.client, other).Update(t.Context(), func(s *settings.State) error {
		s.Datastores = append(s.Datastores, settings.Datastore{Name: "main", Path: "/srv/main"})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if now := store.State(); len(now.Datastores) != 1 || c.SettingsOf(other).State() != now {
		t.Errorf("it has %d datastores, want one, read once", len(now.Datastores))
	}
}

func TestFoundingIsRepeated(t *testing.T) {
	accounts := &access.State{Users: []access.User{{ID: access.Root}, {ID: "op@pbs", Comment: "x"}}}
	setUp := &settings.State{}
	for i := range 900 {
		setUp.Datastores = append(setUp.Datastores, settings.Datastore{Name: fmt.Sprint("store", i), Path: "/srv"})
	}
	f := Founding{Accounts: accounts, Settings: setUp}
	cfg := made(t, f)
	f.Operator = func() (ed25519.PrivateKey, error) { return nil, errors.New("the key is needed once") }
	f.Accounts = &access.State{Users: []access.User{{ID: access.Root}}}
	if err := Found(t.Context(), cfg, f); err != nil { // as if nobody had noticed
		t.Fatal(err)
	}
	if is, complete := home.IsMember(cfg.Dir); !is || complete {
		t.Errorf("a member: %t, complete: %t", is, complete)
	}
	c := opened(t, cfg)
	defer c.Close()
	if n, m := len(c.Settings().State().Datastores), len(c.Accounts().State().Users); n != 900 || m != 2 {
		t.Errorf("%d datastores and %d users, want 900 and 2", n, m)
	}
	if n, _ := c.View().Chain().Head(); n != 2 {
		t.Errorf("%d links, want 2", n)
	}
	// The other end of it: nothing but the chain was written.
	fresh := Config{Dir: t.TempDir(), Key: cfg.Key}
	half := f
	half.Name, half.Site = "a", "b"
	half.Operator = func() (ed25519.PrivateKey, error) { return cfg.Key, nil }
	if err := foundChain(fresh, half); err != nil {
		t.Fatal(err)
	}
	half.Operator = f.Operator
	if err := Found(t.Context(), fresh, half); err != nil {
		t.Fatal(err)
	}
}

// A part of the directory from another time is noticed.
func TestOlderChainIsRefused(t *testing.T) {
	cfg := made(t, Founding{})
	c := opened(t, cfg)
	chain := c.Roster().Chain()
	older, err := authority.Read(chain.Links(0)[:1])
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	if err := home.WriteChain(filepath.Join(cfg.Dir, home.Authority), older); err != nil {
		t.Fatal(err)
	}
	var hinted *Error
	if _, err := Open(cfg); !errors.As(err, &hinted) {
		t.Errorf("a shorter chain: %v", err)
	}
	if err := os.Remove(filepath.Join(cfg.Dir, home.Authority)); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(cfg); !errors.Is(err, ErrNone) {
		t.Errorf("no chain: %v, want ErrNone", err)
	}
}

// Without a quorum nothing is changed, with a hint; but people log in, and a
// code is good once. The ledger hears of it later.
func TestNoQuorum(t *testing.T) {
	secret := []byte("0123456789abcdefghij")
	cfg := made(t, Founding{Accounts: &access.State{
		Users:         []access.User{{ID: access.Root}, {ID: "op@pbs"}},
		SecondFactors: map[access.AuthID]factor.Factor{"op@pbs": {Secret: secret, Recovery: []string{}}},
	}})
	c := opened(t, cfg) // and does not run
	short, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	err := c.Accounts().Update(short, func(s *access.State) error { s.Users[1].Comment = "x"; return nil })
	var hint interface{ Hint() string }
	if !errors.Is(err, consensus.ErrNoLeader) || !errors.As(err, &hint) || hint.Hint() == "" {
		t.Errorf("a change without a quorum: %v", err)
	}
	now := time.Now()
	login := func() error {
		var wrong error
		err := c.Accounts().Update(t.Context(), func(s *access.State) error {
			f := s.SecondFactors["op@pbs"]
			wrong = f.TryCode(code(secret, now), now)
			s.SecondFactors["op@pbs"] = f
			return nil
		})
		return errors.Join(err, wrong)
	}
	if err := login(); err != nil {
		t.Errorf("a login without a quorum: %v", err)
	}
	if login() == nil {
		t.Error("a code was good twice")
	}
	stop := running(t, c)
	if err := c.accounts.tell(t.Context()); err != nil {
		t.Fatal(err)
	}
	if c.accounts.ledger.State().SecondFactors["op@pbs"].LastStep == 0 || len(c.accounts.file.State().Factors) != 0 {
		t.Error("the ledger was not told")
	}
	stop()
}

// A datastore was to be removed with its data, without a quorum: that was kept as a draft,
// and when it was applied the datastore was gone, its data were there, and nothing said so.
func TestWhatDestroysIsNoDraft(t *testing.T) {
	c := opened(t, made(t, Founding{Settings: &settings.State{Datastores: []settings.Datastore{{Name: "extra", Path: "/x"}}}})) // and does not run
	kept := 0
	c.settings.drafted = func(context.Context, func(context.Context) error, func(context.Context, *ledger.Client) error) error {
		kept++
		return nil
	}
	remove := func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
		defer cancel()
		return c.Settings().Update(ctx, func(s *settings.State) error { s.Datastores = nil; return nil })
	}
	err := remove(settings.AtOnce(t.Context()))
	var hint interface{ Hint() string }
	if !errors.Is(err, consensus.ErrNoLeader) || !errors.As(err, &hint) || !strings.Contains(hint.Hint(), "leave out --destroy-data") || kept != 0 {
		t.Errorf("with its data: %v, %d drafts", err, kept)
	}
	if err := remove(t.Context()); err != nil || kept != 1 {
		t.Errorf("without them: %v, %d drafts", err, kept)
	}
	if err := undrafted(consensus.ErrUnknown); !errors.As(err, &hint) || !strings.Contains(hint.Hint(), "--reuse") {
		t.Errorf("it is not known: %v", err)
	}
}

// code is the one-time code of a secret (RFC 6238).
func code(secret []byte, at time.Time) string {
	m := hmac.New(sha1.New, secret)
	m.Write(binary.BigEndian.AppendUint64(nil, uint64(at.Unix()/30)))
	sum := m.Sum(nil)
	o := sum[len(sum)-1] & 15
	return fmt.Sprintf("%06d", (binary.BigEndian.Uint32(sum[o:])&0x7fffffff)%1_000_000)
}

func TestBlock(t *testing.T) {
	cfg := made(t, Founding{})
	c := opened(t, cfg)
	stranger, err := keyfile.Make(filepath.Join(t.TempDir(), "key"))
	if err != nil {
		t.Fatal(err)
	}
	told := 0
	c.Watch(func() { told++ })
	k := authority.PublicKey(stranger)
	if err := c.Block("root@pam", k, "lost"); err != nil || told != 1 {
		t.Errorf("%v, told %d times", err, told)
	}
	if err := c.Block("root@pam", c.self, ""); err == nil {
		t.Error("a node keeps itself out")
	}
	c.Close()
	c = opened(t, cfg)
	defer c.Close()
	if !c.guard.Blocked(BlockOf(k)) || c.Roster().Member(k.NodeID()) == nil {
		t.Error("the block is forgotten")
	}
	if _, err := guard.Open(guard.Config{Dir: cfg.Dir}); err != nil {
		t.Error(err)
	}
}

func FuzzParseChain(f *testing.F) {
	f.Add([]byte{0x80})
	f.Add([]byte{0x81, 0x41, 0x00})
	f.Fuzz(func(t *testing.T, b []byte) {
		if chain, err := home.ParseChain(b); err == nil {
			if n, _ := chain.Head(); n == 0 {
				t.Fatal("a chain without links")
			}
		}
	})
}

// What an operator signs while there is no quorum counts here at once, and the
// ledger is told later.
func TestBelieve(t *testing.T) {
	var operator ed25519.PrivateKey
	cfg := made(t, Founding{})
	operator, err := keyfile.Read(filepath.Join(filepath.Dir(cfg.Dir), "operator.key"))
	if err != nil {
		t.Fatal(err)
	}
	c := opened(t, cfg)
	chain := c.Roster().Chain()
	other := authority.Node{Key: authority.PublicKey(operator), Name: "dc", Site: "dc", Role: "full"}
	link := chain.Sign(chain.Draft(authority.AddNode, other), operator)
	forged := chain.Sign(chain.Draft(authority.AddNode, other), cfg.Key)
	if c.Believe(forged) == nil {
		t.Error("a link that no operator has signed is believed")
	}
	if err := c.Believe(link); err != nil || c.Roster().Member(other.Key.NodeID()) != nil {
		t.Errorf("it is not believed: %v", err)
	}
	running(t, c)
	if err := c.group.Linear(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := c.offerOnce(t.Context()); err != nil {
		t.Error(err)
	}
	if n, _ := c.View().Chain().Head(); n != 3 {
		t.Errorf("the ledger has %d links, want 3", n)
	}
}

// A node that is alone claims, under a fence that its guard remembers.
func TestClaims(t *testing.T) {
	cfg := made(t, Founding{})
	c := opened(t, cfg)
	stop := running(t, c)
	var seen ledger.Fence
	hold := func(c *Cluster) error {
		return c.Claims().Hold(t.Context(), "bucket x", func(_ context.Context, f ledger.Fence) error { seen = f; return nil })
	}
	if err := hold(c); err != nil || seen.Index == 0 {
		t.Fatalf("%+v, %v", seen, err)
	}
	first := seen
	stop()
	c = opened(t, cfg)
	running(t, c)
	if err := c.Guard().Pass(guard.Fence{Job: "bucket x", Incarnation: first.Incarnation, Index: first.Index - 1}); !errors.Is(err, guard.ErrHeld) {
		t.Errorf("a smaller fence after a restart: %v", err)
	}
	if err := hold(c); err != nil || seen.Compare(first) <= 0 {
		t.Errorf("%+v after %+v, %v", seen, first, err)
	}
}
