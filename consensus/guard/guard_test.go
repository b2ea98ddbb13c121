package guard

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-mesh/holdfast/consensus/authority"
)

func private(n byte) ed25519.PrivateKey { return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{n}, 32)) }
func public(n byte) authority.Key       { return authority.PublicKey(private(n)) }

var cluster = [16]byte{7}

func open(t testing.TB, dir string) *Guard {
	t.Helper()
	g, err := Open(Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func must(t testing.TB, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// chain returns one of n links, with the operators 1 and 2 of whom both must
// sign.
func chain(t testing.TB, n int) *authority.Chain {
	t.Helper()
	c, err := authority.Read([][]byte{authority.Found(authority.GenesisBody{Cluster: cluster, Operators: []authority.Key{public(1), public(2)}, Threshold: 2}, private(1), private(2))})
	must(t, err)
	for i := 1; i < n; i++ {
		node := authority.Node{Key: public(byte(10 + i)), Name: string(rune('a' + i)), Site: "s", Role: "full"}
		c, err = c.Next(c.Sign(c.Draft(authority.AddNode, node), private(1), private(2)))
		must(t, err)
	}
	return c
}

// Another branch of the authority chain takes the place of the one that was followed, for
// which no time has passed yet; it does not go back behind what both have, and what is
// after it is what counts, also when the file is read again.
func TestPart(t *testing.T) {
	dir := t.TempDir()
	g := open(t, dir)
	shared, ours := chain(t, 3), chain(t, 5)
	must(t, g.Follow(shared))
	must(t, g.Follow(ours))
	node := authority.Node{Key: public(40), Name: "z", Site: "s", Role: "full"}
	branch, err := shared.Next(shared.Sign(shared.Draft(authority.AddNode, node), private(1), private(2)))
	must(t, err)
	for name, err := range map[string]error{"as one with more links": g.Follow(branch), "that shares all": g.Part(branch, 5), "that shares nothing": g.Part(branch, 0)} {
		if !errors.Is(err, ErrHeld) || g.Chain().Length != 5 {
			t.Errorf("a branch is followed %s: %v", name, err)
		}
	}
	must(t, g.Part(branch, 3))
	for range 2 {
		length, head := branch.Head()
		if c := g.Chain(); c.Length != length || c.Head != head || c.Shared != 0 {
			t.Errorf("%+v", c)
		}
		if err := g.Follow(chain(t, 4)); !errors.Is(err, ErrHeld) {
			t.Errorf("the other branch of as many links: %v", err)
		}
		if n := len(g.s.followed); n != 2 || g.s.followed[1].length != 4 {
			t.Errorf("known since: %+v", g.s.followed)
		}
		must(t, g.Close())
		g = open(t, dir)
	}
	must(t, g.Close())
}

func request(id byte, change func(*Request), keys ...byte) Request {
	r := Request{ID: [16]byte{id}, Cluster: cluster, Node: public(10), Reason: "test"}
	change(&r)
	for _, k := range keys {
		r.Sigs = append(r.Sigs, authority.Signature{Key: public(k), Sig: [64]byte(ed25519.Sign(private(k), r.Signed()))})
	}
	return r
}

func lower(r *Request)   { r.Floor = &Floor{Scope: "main", MinAge: 60} }
func unblock(r *Request) { r.Unblock = "node x" }

func TestGuardOnlyTightens(t *testing.T) {
	dir := t.TempDir()
	g := open(t, dir)
	must(t, g.Follow(chain(t, 2)), g.Raise("op", Floor{Scope: "main", MinAge: 3600, MinCopies: 1}), g.Raise("op", Floor{Scope: "main", MinAge: 60, MinCopies: 2}),
		g.Block("op", Block{"node x", "stolen"}), g.Pass(Fence{"gc", 1, 100}))
	check := func(g *Guard) {
		t.Helper()
		if f := g.Floor("main"); f != (Floor{"main", 3600, 2, 0}) || !g.Blocked("node x") || g.Blocked("node y") || g.Chain().Length != 2 {
			t.Errorf("%+v, %+v", f, g.Chain())
		}
		for _, f := range []Fence{{"gc", 1, 99}, {"gc", 0, 500}} {
			if err := g.Pass(f); !errors.Is(err, ErrHeld) {
				t.Errorf("fence %+v: %v", f, err)
			}
		}
		for _, c := range []*authority.Chain{chain(t, 1), other(t)} {
			if err := g.Follow(c); !errors.Is(err, ErrHeld) {
				t.Errorf("an authority chain that goes back: %v", err)
			}
		}
		for _, tt := range []struct {
			age    time.Duration
			copies int
			may    bool
		}{{time.Hour, 2, true}, {time.Hour - 1, 2, false}, {time.Hour, 1, false}} {
			if err := g.MayDelete("main", tt.age, tt.copies); (err == nil) != tt.may {
				t.Errorf("%s, %d copies: %v", tt.age, tt.copies, err)
			}
		}
	}
	check(g)
	must(t, g.Pass(Fence{"gc", 1, 100}), g.Close())
	g = open(t, dir)
	check(g)
	must(t, g.Pass(Fence{"gc", 2, 1}), g.Trip("", "half of main"))
	if err := g.MayDelete("other", 1e6*time.Hour, 9); !errors.Is(err, ErrHeld) || !strings.Contains(err.Error(), "half of main") {
		t.Errorf("with an open breaker: %v", err)
	}
	if g.CloseBreaker("", "") == nil {
		t.Error("nobody closed the breaker")
	}
	must(t, g.CloseBreaker("op", "was a test"), g.MayDelete("other", 0, 0), g.Close())
}

// For how long a change of operators was known here is judged by the guard's clock,
// which goes on over a restart and not with the machine's.
func TestKnownFor(t *testing.T) {
	dir, now := t.TempDir(), time.Unix(1e9, 0)
	at := func() *Guard {
		t.Helper()
		g, err := Open(Config{Dir: dir, Now: func() time.Time { return now }})
		must(t, err)
		return g
	}
	g := at()
	must(t, g.Follow(chain(t, 1)))
	now = now.Add(time.Hour)
	must(t, g.Follow(chain(t, 3)))
	now = now.Add(time.Hour)
	check := func(first, third time.Duration) {
		t.Helper()
		if a, b, c, none := g.KnownFor(1), g.KnownFor(2), g.KnownFor(3), g.KnownFor(4); a != first || b != third || c != third || none != 0 {
			t.Errorf("%s, %s, %s, %s", a, b, c, none)
		}
	}
	check(2*time.Hour, time.Hour)
	must(t, g.Tick(), g.Close())
	now = now.Add(1000 * time.Hour) // it was off, or somebody set the clock
	g = at()
	check(26*time.Hour, 25*time.Hour)
	must(t, g.Close())
}

func other(t *testing.T) *authority.Chain {
	c, err := authority.Read([][]byte{authority.Found(authority.GenesisBody{Cluster: [16]byte{9}, Operators: []authority.Key{public(1)}, Threshold: 1}, private(1))})
	must(t, err)
	return c
}

func TestLooseningTakesOperatorsAndTime(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		g, c := open(t, dir), chain(t, 1)
		must(t, g.Raise("op", Floor{Scope: "main", MinAge: 3600}), g.Block("op", Block{What: "node x"}))
		for name, r := range map[string]Request{
			"nobody signs": request(1, lower), "one of two": request(1, lower, 1), "a stranger": request(1, lower, 1, 3), "twice the same": request(1, lower, 1, 1),
		} {
			if err := g.Ask(c, public(10), r); !errors.Is(err, authority.ErrRefused) {
				t.Errorf("%s: %v", name, err)
			}
		}
		changed := request(1, lower, 1, 2)
		changed.Floor.MinAge = 0
		if err := g.Ask(c, public(10), changed); !errors.Is(err, authority.ErrRefused) {
			t.Errorf("changed behind the signatures: %v", err)
		}
		if err := g.Ask(c, public(11), request(1, lower, 1, 2)); !errors.Is(err, ErrHeld) {
			t.Errorf("for another node: %v", err)
		}
		must(t, g.Ask(c, public(10), request(1, lower, 1, 2)), g.Ask(c, public(10), request(2, unblock, 1, 2)), g.Settle())
		if g.Blocked("node x") || g.Floor("main").MinAge != 3600 {
			t.Error("the block stays, or the floor went at once")
		}
		time.Sleep(FloorDelay - time.Minute)
		must(t, g.Settle())
		if g.Floor("main").MinAge != 3600 {
			t.Error("the floor went too early")
		}
		time.Sleep(2 * time.Minute)
		must(t, g.Settle())
		if g.Floor("main").MinAge != 60 {
			t.Error("the floor stays")
		}
		must(t, g.Raise("op", Floor{Scope: "main", MinAge: 7200}))
		if err := g.Ask(c, public(10), request(1, lower, 1, 2)); !errors.Is(err, ErrHeld) {
			t.Errorf("the same request again: %v", err)
		}
		must(t, g.Ask(c, public(10), request(3, lower, 1, 2)), g.Veto("op", Veto{ID: [16]byte{3}}))
		time.Sleep(2 * FloorDelay)
		must(t, g.Settle(), g.Close())
		if g.Floor("main").MinAge != 7200 {
			t.Error("a vetoed request counts")
		}
	})
}

// Setting the machine's clock ahead, also over a restart, ends no delay and no
// lock.
func TestClockCannotBeSetAhead(t *testing.T) {
	dir := t.TempDir()
	wall := time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)
	now := func() time.Time { return wall } // without a monotonic part: each life is an instant
	boot := func() *Guard {
		g, err := Open(Config{Dir: dir, Now: now})
		must(t, err)
		return g
	}
	g, c := boot(), chain(t, 1)
	must(t, g.Raise("op", Floor{Scope: "main", MinAge: 3600, LockUntil: wall.Add(72 * time.Hour).Unix()}), g.Ask(c, public(10), request(1, lower, 1, 2)), g.Close())
	wall = wall.Add(365 * 24 * time.Hour)
	for day := range 14 {
		g = boot()
		if g.Floor("main").MinAge != 3600 {
			t.Fatalf("the floor went after %d restarts", day)
		}
		if err := g.MayDelete("main", 1e6*time.Hour, 0); (err != nil) != (day+1 < 3) {
			t.Errorf("restart %d: %v", day+1, err)
		}
		must(t, g.Settle(), g.Tick(), g.Close())
		wall = wall.Add(24 * time.Hour)
	}
	if g = boot(); g.Settle() != nil || g.Floor("main").MinAge != 60 {
		t.Error("the floor stays for ever")
	}
	before := g.Clock()
	must(t, g.Tick(), g.Close())
	wall = wall.Add(-1000 * time.Hour)
	if g = boot(); g.Clock() < before {
		t.Error("the clock went back")
	}
	must(t, g.Tick(), g.Close())
}

// Whatever a crash leaves of an entry, the guard opens with all that was
// promised.
func TestGuardSurvivesCrashes(t *testing.T) {
	dir := t.TempDir()
	g := open(t, dir)
	must(t, g.Block("op", Block{What: "one"}), g.Close())
	one, two := filepath.Join(dir, "guard.1"), filepath.Join(dir, "guard.2")
	before, was := read(t, one), read(t, HeadOf(dir))
	g = open(t, dir)
	must(t, g.Block("op", Block{What: "two"}), g.Close())
	after := read(t, one)
	for n := len(before); n <= len(after); n++ {
		must(t, os.WriteFile(one, after[:n], 0o600), os.WriteFile(two, before, 0o600), os.WriteFile(HeadOf(dir), was, 0o600))
		g := open(t, dir)
		if !g.Blocked("one") || g.Blocked("two") != (n == len(after)) {
			t.Fatalf("with %d of %d bytes of the entry", n-len(before), len(after)-len(before))
		}
		must(t, g.Block("op", Block{What: "three"}), g.Close())
		if !bytes.Equal(read(t, one), read(t, two)) {
			t.Fatal("the copies differ behind a crash")
		}
	}
	good := read(t, one)
	for at := 0; at < len(good); at += 3 { // damage of one copy is cured by the other
		bad := bytes.Clone(good)
		bad[at] ^= 0x10
		must(t, os.WriteFile(one, bad, 0o600), os.WriteFile(two, good, 0o600))
		g, err := Open(Config{Dir: dir})
		if err == nil && !g.Blocked("three") || err != nil && !errors.Is(err, ErrDamaged) {
			t.Fatalf("byte %d: %v", at, err)
		}
		if err == nil {
			must(t, g.Close())
		}
		must(t, os.WriteFile(one, bad, 0o600), os.WriteFile(two, bad, 0o600))
		if g, err := Open(Config{Dir: dir}); err == nil {
			must(t, g.Close())
			t.Fatalf("with byte %d of both copies changed it opens", at)
		}
	}
	must(t, os.WriteFile(one, nil, 0o600), os.WriteFile(two, good, 0o600))
	if g = open(t, dir); !g.Blocked("three") {
		t.Error("an empty copy wins")
	}
	must(t, g.Close())
}

// A guard that was lost, cut off or taken from another node is no guard that
// promised less. (A node whose two files were removed, emptied, cut at half or
// copied from elsewhere started without its floors and without a word.)
func TestGuardThatIsLostIsMissed(t *testing.T) {
	other := t.TempDir()
	g := open(t, other)
	must(t, g.Block("op", Block{What: "x"}), g.Block("op", Block{What: "y"}), g.Block("op", Block{What: "z"}), g.Close())
	dir := t.TempDir()
	g = open(t, dir)
	must(t, g.Block("op", Block{What: "one"}), g.Tick(), g.Raise("op", Floor{Scope: "main", MinAge: 1}), g.Tick(), g.Close())
	one, two := filepath.Join(dir, "guard.1"), filepath.Join(dir, "guard.2")
	whole, head := read(t, one), read(t, HeadOf(dir))
	bad := bytes.Clone(whole)
	bad[60] ^= 1
	foreign := read(t, filepath.Join(other, "guard.1"))
	gone := []byte(nil)
	for name, files := range map[string][2][]byte{
		"both removed": {gone, gone}, "both empty": {{}, {}}, "one removed, one damaged": {gone, bad}, "one damaged, one empty": {bad, {}},
		"both cut at half": {whole[:len(whole)/2], whole[:len(whole)/2]}, "another node's": {foreign, foreign},
	} {
		for i, path := range []string{one, two} {
			if os.Remove(path); files[i] != nil {
				must(t, os.WriteFile(path, files[i], 0o600))
			}
		}
		g, err := Open(Config{Dir: dir})
		if err == nil {
			must(t, g.Close())
		}
		var hint interface{ Hint() string }
		if !errors.Is(err, ErrDamaged) || !errors.As(err, &hint) || hint.Hint() == "" {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, b := range map[string][]byte{"as it was": head, "from before there was one": gone, "damaged": bad[:20], "empty": {}} {
		must(t, os.WriteFile(one, whole, 0o600), os.WriteFile(two, whole, 0o600))
		if os.Remove(HeadOf(dir)); b != nil {
			must(t, os.WriteFile(HeadOf(dir), b, 0o600))
		}
		g := open(t, dir)
		if !g.Blocked("one") || g.Floor("main").MinAge != 1 {
			t.Errorf("head %s: promises are gone", name)
		}
		must(t, g.Close())
		if h, err := readHead(HeadOf(dir)); err != nil || h.Seq == 0 {
			t.Errorf("head %s: then %+v, %v", name, h, err)
		}
	}
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	must(t, err)
	return b
}

func FuzzSplit(f *testing.F) {
	dir := f.TempDir()
	g := open(f, dir)
	must(f, g.Block("op", Block{What: "x"}), g.Raise("op", Floor{Scope: "main", MinAge: 1}), g.Close())
	b, err := os.ReadFile(filepath.Join(dir, "guard.1"))
	must(f, err)
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		entries, err := split(b)
		if err != nil {
			return
		}
		var again []byte
		s := newState()
		for _, e := range entries {
			again = append(again, frame(e)...)
			_ = s.replay(e)
		}
		if !bytes.HasPrefix(b, again) {
			t.Errorf("%x is read as %x", b, again)
		}
	})
}
