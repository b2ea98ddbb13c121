package quotas

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-mesh/holdfast/pbs/settings"
)

// A world is some nodes that share an account, with one ledger.
type world struct {
	t      *testing.T
	now    time.Time
	rows   map[string]string
	past   []map[string]string // before each pass
	leads  bool
	writes int
	nodes  []Node
	quotas []*Quotas
	asked  []int64
	parts  []float64
	apart  bool // each has an account of its own
}

// rows are those of all, as one node writes to them.
type rows struct {
	*world
	self string
}

// lag is how much later others see what a node has written.
const lag = 2 * tick

func (l rows) old(key string) map[string]string {
	if i := len(l.past) - int(lag/tick); !strings.HasSuffix(key, "/"+l.self) && i >= 0 {
		return l.past[i]
	} else if !strings.HasSuffix(key, "/"+l.self) {
		return nil
	}
	return l.rows
}

func (l rows) Row(key string) (string, uint64, bool) {
	value, is := l.old(key)[key]
	return value, 1, is
}

func (l rows) Set(_ context.Context, key string, _ uint64, value string) error {
	if !l.leads {
		return errors.New("no leader")
	}
	if l.writes++; value == "" {
		delete(l.rows, key)
	} else {
		l.rows[key] = value
	}
	return nil
}

func (l rows) Leads() bool { return l.leads }

func newWorld(t *testing.T, nodes int) *world {
	w := &world{t: t, now: time.Unix(1_800_000_000, 0), rows: map[string]string{}, leads: true, asked: make([]int64, nodes), parts: make([]float64, nodes)}
	for i := range nodes {
		state := settings.New()
		// The same account, whatever it is called and however it is written.
		state.S3Clients = []settings.S3Client{{ID: fmt.Sprint("s", i), Endpoint: []string{"https://s3.example.net/", "S3.example.net"}[i%2], AccessKey: "AKIA"}}
		w.nodes = append(w.nodes, Node{ID: fmt.Sprint("n", i), Reached: true, Tells: true, State: state})
	}
	for i := range nodes {
		q, err := New(Config{
			Self: w.nodes[i].ID, Nodes: func() []Node { return w.nodes }, Ledger: rows{w, w.nodes[i].ID},
			Asked: func(string) int64 { return w.asked[i] }, Share: func(_ string, part float64) { w.parts[i] = part },
		})
		if err != nil {
			t.Fatal(err)
		}
		w.quotas = append(w.quotas, q)
	}
	return w
}

// pass lets time pass in which some nodes make requests. Never may all together use
// more than is allowed.
func (w *world) pass(d time.Duration, works ...int) {
	w.t.Helper()
	for end := w.now.Add(d); w.now.Before(end); w.now = w.now.Add(tick) {
		for _, i := range works {
			w.asked[i]++
		}
		w.past = append(w.past, maps.Clone(w.rows))
		for _, q := range w.quotas {
			q.Look(w.t.Context(), w.now)
		}
		sum := 0.0
		for _, part := range w.parts {
			sum += part
		}
		if sum > 1+1e-9 && !w.apart {
			w.t.Fatalf("at %s all use %f: %v", w.now.Format(time.TimeOnly), sum, w.parts)
		}
	}
}

func (w *world) want(parts ...float64) {
	w.t.Helper()
	for i, part := range parts {
		if math.Abs(w.parts[i]-part) > 0.001 {
			w.t.Errorf("the shares are %.3f, want %.3f", w.parts, parts)
			return
		}
	}
}

func TestShares(t *testing.T) {
	w := newWorld(t, 2)
	w.pass(20*time.Second, 0)
	w.want(0.95, 0.05) // one works, and has what the other lends
	w.pass(20*time.Second, 0, 1)
	w.want(0.5, 0.5)
	w.pass(80*time.Second, 1)
	w.want(0.05, 0.95)
	w.pass(80 * time.Second)
	w.want(0.05, 0.05)
	if len(w.rows) != 0 {
		t.Errorf("rows are left: %v", w.rows)
	}
	w.writes = 0
	w.pass(time.Hour, 0, 1)
	if w.want(0.5, 0.5); w.writes > 2*14 {
		t.Errorf("%d entries an hour", w.writes)
	}
}

// Without a leader each uses an equal part, as the account's nodes were known last.
func TestWithoutQuorum(t *testing.T) {
	w := newWorld(t, 3)
	w.pass(20*time.Second, 0)
	w.want(1-0.2/3, 0.1/3, 0.1/3)
	w.leads = false
	w.pass(10*time.Second, 0)
	w.want(1./3, 1./3, 1./3)
	w.leads = true
	w.pass(20*time.Second, 0, 2)
	w.want((1-0.1/3)/2, 0.1/3, (1-0.1/3)/2)
}

// Who is not reached, and who may not tell, has a share of which nothing is lent.
func TestNothingIsTakenFromWhoCannotTell(t *testing.T) {
	w := newWorld(t, 2)
	w.nodes[1].Reached = false
	w.pass(20*time.Second, 0)
	w.want(0.5)
	w.nodes[1].Reached, w.nodes[1].Tells = true, false
	w.pass(20*time.Second, 0, 1)
	w.want(0.5, 0.5)
}

// A node that is killed at work has its share until what it told is over.
func TestTheDeadReturnTheirShare(t *testing.T) {
	w := newWorld(t, 2)
	w.pass(20*time.Second, 0, 1)
	w.quotas, w.parts[1] = w.quotas[:1], 0
	w.pass(5*time.Minute, 0)
	w.want(0.5)
	w.pass(valid, 0)
	w.want(0.95)
}

// Another account, and one that nobody else has, is nobody else's business.
func TestAlone(t *testing.T) {
	w := newWorld(t, 2)
	w.nodes[1].State.S3Clients[0].AccessKey, w.apart = "other", true
	w.pass(20*time.Second, 0)
	if w.want(1, 1); w.writes != 0 {
		t.Errorf("%d entries", w.writes)
	}
}
