package peers

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/holdfast-mesh/holdfast/tunnel"
)

// A changing is keys, and what is done with them.
type changing struct {
	t    *testing.T
	dir  string
	now  time.Time
	told bool
	fail error
	used []tunnel.PrivateKey
	*keys
}

func newChanging(t *testing.T) *changing {
	c := &changing{t: t, dir: t.TempDir(), now: time.Now()}
	c.reboot()
	return c
}

func (c *changing) reboot() {
	c.t.Helper()
	var err error
	if c.keys, err = openKeys(c.dir); err != nil {
		c.t.Fatal(err)
	}
}

// after lets time pass, and does what is due.
func (c *changing) after(d time.Duration) {
	c.t.Helper()
	c.now = c.now.Add(d)
	err := c.step(c.now, func(time.Time) bool { return c.told }, func(k tunnel.PrivateKey) error {
		if c.fail == nil {
			c.used = append(c.used, k)
		}
		return c.fail
	})
	if !errors.Is(err, c.fail) {
		c.t.Error(err)
	}
}

// A key is named before it is used, and the one before for a while after.
func TestKeyIsChanged(t *testing.T) {
	c := newChanging(t)
	first := c.public()
	if err := c.begin(); err != nil {
		t.Fatal(err)
	}
	named := c.public()
	if len(named) != 2 || named[1] != first[0] || named[0] == first[0] {
		t.Fatalf("named are %x, and it was %x", named, first)
	}
	if err := c.begin(); !errors.Is(err, ErrChanging) {
		t.Errorf("another change at the same time: %v", err)
	}
	c.told = true
	c.after(time.Hour)
	if len(c.used) != 0 {
		t.Fatal("it is used before it was published")
	}
	c.published(c.now)
	c.after(keySettles - time.Second)
	c.told = false
	c.after(time.Minute)
	if len(c.used) != 0 {
		t.Fatal("it is used before all know it")
	}
	c.fail = errors.New("no")
	c.told = true
	c.after(0)
	if got := c.public(); got[0] != named[0] || got[1] != named[1] {
		t.Error("the tunnel has refused it, and the record says otherwise")
	}
	c.fail = nil
	c.after(time.Second)
	if got := c.public(); len(c.used) != 1 || got[0] != named[0] || got[1] != named[1] {
		t.Errorf("it is not used, or its names changed: %x", got)
	}
	if err := c.begin(); !errors.Is(err, ErrChanging) {
		t.Errorf("another change while sessions with the key before go on: %v", err)
	}
	c.after(keyRetires - time.Second)
	if len(c.public()) != 2 {
		t.Error("the key before is forgotten while sessions with it go on")
	}
	c.after(time.Second)
	if got := c.public(); len(got) != 1 || got[0] != named[0] {
		t.Errorf("in the end it is %x", got)
	}
	if _, err := os.Stat(filepath.Join(c.dir, nextFile)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file is left: %v", err)
	}
}

// Somebody who cannot be told holds it up for ten minutes.
func TestKeyWaitsNotForEver(t *testing.T) {
	c := newChanging(t)
	if err := c.begin(); err != nil {
		t.Fatal(err)
	}
	c.published(c.now)
	c.after(keyMost - time.Second)
	if len(c.used) != 0 {
		t.Fatal("it does not wait")
	}
	c.after(time.Second)
	if len(c.used) != 1 {
		t.Error("it waits for ever")
	}
}

// A crash at any step leaves a node with a key that its peers know.
func TestKeySurvives(t *testing.T) {
	c := newChanging(t)
	first := c.public()
	if err := c.begin(); err != nil {
		t.Fatal(err)
	}
	named := c.public()
	c.published(c.now)
	c.reboot()
	if got := c.public(); got[0] != named[0] || got[1] != named[1] || c.private.Public() != tunnel.PublicKey(first[0]) {
		t.Errorf("behind a crash it names %x, want %x", got, named)
	}
	c.told = true
	c.after(time.Hour)
	if len(c.used) != 0 {
		t.Error("it is used, and nobody was told in this life")
	}
	next, err := os.ReadFile(filepath.Join(c.dir, nextFile))
	if err != nil {
		t.Fatal(err)
	}
	c.published(c.now)
	c.after(keySettles)
	if err := os.WriteFile(filepath.Join(c.dir, nextFile), next, 0o600); err != nil { // as if it had not been removed
		t.Fatal(err)
	}
	c.reboot()
	if got := c.public(); len(got) != 1 || got[0] != named[0] || !bytes.Equal(next, c.private[:]) {
		t.Errorf("behind the change it is %x, want %x", got, named[0])
	}
}

// A key is changed every thirty days, and not before.
func TestKeyGrowsOld(t *testing.T) {
	c := newChanging(t)
	if c.old(c.now.Add(keyAge - time.Minute)) {
		t.Error("it is old too early")
	}
	if !c.old(c.now.Add(keyAge + time.Minute)) {
		t.Error("it never grows old")
	}
	if err := c.begin(); err != nil || c.old(c.now.Add(2*keyAge)) {
		t.Errorf("it is changed while it is changed: %v", err)
	}
}

// A file of another length is no key.
func TestKeyIsDamaged(t *testing.T) {
	for _, name := range []string{wireGuardFile, nextFile} {
		c := newChanging(t)
		if err := os.WriteFile(filepath.Join(c.dir, name), make([]byte, 31), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := openKeys(c.dir); err == nil {
			t.Errorf("%s with 31 bytes is a key", name)
		}
	}
}
