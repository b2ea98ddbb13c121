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

// The clock of who leads says that seven days are over, and every other node knows better:
// it says so. Nothing was said, and whoever was to veto was locked out within seconds.
func TestOperatorsBeforeTheirTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := made(t, Founding{})
		first, err := keyfile.Read(filepath.Join(filepath.Dir(cfg.Dir), "operator.key"))
		must(t, err)
		told := map[string]string{}
		var ahead atomic.Int64
		cfg.Alarm = func(key, text, _ string) { told[key] = text }
		cfg.Now = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
		c := opened(t, cfg)
		stop := running(t, c)
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
		p, waits := c.View().Proposal()
		if !waits {
			t.Fatal("it does not wait")
		}
		ahead.Store(int64(8 * 24 * time.Hour))
		time.Sleep(5 * time.Minute)
		if now, _ := c.Chain().Operators(); len(now) != 1 {
			t.Fatalf("%d operators", len(now))
		}
		if told["early"] != "" { // this node is the one whose clock is wrong
			t.Errorf("it says %q", told["early"])
		}
		stop()
		ahead.Store(0)
		for due, want := range map[time.Time]bool{p.Due: true, time.Now(): false} {
			delete(told, "early")
			was := p
			was.Due = due
			c.waited = &was
			c.early(c.View())
			if (told["early"] != "") != want {
				t.Errorf("due %s: %q", due, told["early"])
			}
		}
	})
}
