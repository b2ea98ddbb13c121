package cluster

import (
	"bytes"
	"crypto/ed25519"
	"path/filepath"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-mesh/holdfast/consensus/authority"
	"github.com/holdfast-mesh/holdfast/consensus/ledger"
	"github.com/holdfast-mesh/holdfast/node/keyfile"
)

func operatorKey(n byte) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{n}, ed25519.SeedSize))
}

// What nobody vetoes counts after seven days, and nobody has to come back for it;
// what somebody vetoes never does.
func TestOperatorsChangeByThemselves(t *testing.T) {
	for _, vetoed := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			cfg := made(t, Founding{})
			first, err := keyfile.Read(filepath.Join(filepath.Dir(cfg.Dir), "operator.key"))
			if err != nil {
				t.Fatal(err)
			}
			c := opened(t, cfg)
			defer running(t, c)()
			time.Sleep(time.Minute)
			sign := func(kind uint8, body any, keys ...ed25519.PrivateKey) {
				t.Helper()
				link := c.Chain().Sign(c.Chain().Draft(kind, body), keys...)
				if _, err := c.Client().Do(t.Context(), "op@pbs", "", ledger.KindAuthority, ledger.Link{Link: link}); err != nil {
					t.Fatal(err)
				}
			}
			body := func(threshold int, keys ...ed25519.PrivateKey) (o authority.OperatorsBody) {
				for _, k := range keys {
					o.Operators = append(o.Operators, authority.PublicKey(k))
				}
				o.Threshold = threshold
				return o
			}
			are := func() int { now, _ := c.Chain().Operators(); return len(now) }
			second, third := operatorKey(2), operatorKey(3)
			sign(authority.NewOperators, body(2, first, second, third), first, second, third) // all of before: at once
			if are() != 3 {
				t.Fatal("it waits, though the only operator has signed")
			}
			sign(authority.NewOperators, body(1, third), second, third)
			time.Sleep(authority.Delay - time.Minute)
			if _, waits := c.View().Proposal(); !waits || are() != 3 {
				t.Errorf("a minute before its time it waits: %t, and there are %d operators", waits, are())
			}
			want := 1
			if vetoed {
				p, _ := c.Chain().Pending()
				sign(authority.Veto, authority.Waiting{Seq: p.Seq}, first)
				want = 3
			}
			time.Sleep(2 * time.Minute)
			if _, waits := c.View().Proposal(); waits || are() != want {
				t.Errorf("vetoed: %t; it waits: %t, and there are %d operators", vetoed, waits, are())
			}
		})
	}
}

// The clocks of most said that seven days were over, so that a change of operators counted
// within seconds, and no node ever said so: whoever was to veto was locked out. The node
// whose clock is right took that of most for the time, and the others were never asked
// again when theirs were right.
func TestOperatorsBeforeTheirTime(t *testing.T) {
	const wrong = 8 * 24 * time.Hour
	for _, tt := range []struct {
		name        string
		clock, most time.Duration // how far ahead that of this node is, and what most have it take for the time
		wait        time.Duration // before they count
		told, later bool          // when they do, and when all clocks are right
	}{
		{"its own clock is right", 0, wrong, 0, true, true},
		{"its own clock is wrong", wrong, wrong, 0, false, true},
		{"in time", 0, 0, authority.Delay, false, false},
		{"in time, and its own clock is behind", -wrong, 0, authority.Delay, false, false},
	} {
		synctest.Test(t, func(t *testing.T) {
			cfg := made(t, Founding{})
			first, err := keyfile.Read(filepath.Join(filepath.Dir(cfg.Dir), "operator.key"))
			must(t, err)
			var told, jumped atomic.Bool
			cfg.Alarm = func(key, _, _ string) { told.Store(told.Load() || key == "early") }
			clock := func(ahead time.Duration) func() time.Time {
				return func() time.Time {
					if !jumped.Load() {
						return time.Now()
					}
					return time.Now().Add(ahead)
				}
			}
			cfg.Clock, cfg.Now = clock(tt.clock), clock(tt.most)
			c := opened(t, cfg)
			defer running(t, c)()
			time.Sleep(time.Minute)
			sign := func(b authority.OperatorsBody, keys ...ed25519.PrivateKey) {
				t.Helper()
				link := c.Chain().Sign(c.Chain().Draft(authority.NewOperators, b), keys...)
				_, err := c.Client().Do(t.Context(), "op@pbs", "", ledger.KindAuthority, ledger.Link{Link: link})
				must(t, err)
			}
			second, third := operatorKey(2), operatorKey(3)
			key := authority.PublicKey
			sign(authority.OperatorsBody{Operators: []authority.Key{key(first), key(second), key(third)}, Threshold: 2}, first, second, third)
			sign(authority.OperatorsBody{Operators: []authority.Key{key(third)}, Threshold: 1}, second, third)
			jumped.Store(true)
			time.Sleep(tt.wait + 5*time.Minute)
			if now, _ := c.Chain().Operators(); len(now) != 1 {
				t.Fatalf("%s: %d operators", tt.name, len(now))
			}
			if told.Load() != tt.told {
				t.Errorf("%s: it says so: %t", tt.name, told.Load())
			}
			jumped.Store(false)
			time.Sleep(5 * time.Minute)
			if told.Load() != tt.later {
				t.Errorf("%s: when the clocks are right it says so: %t", tt.name, told.Load())
			}
		})
	}
}
