package stores

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-mesh/holdfast/jobs"
	"github.com/holdfast-mesh/holdfast/pbs/s3"
	"github.com/holdfast-mesh/holdfast/pbs/settings"
)

// A changing is settings with one S3 client and a datastore that uses it.
type changing struct {
	mu     sync.Mutex
	client settings.S3Client
}

func (c *changing) State() *settings.State {
	c.mu.Lock()
	defer c.mu.Unlock()
	return &settings.State{
		S3Clients:  []settings.S3Client{c.client},
		Datastores: []settings.Datastore{{Name: "cloud", Backend: settings.Backend{Client: "near", Bucket: "b"}}, {Name: "main"}},
	}
}

func (c *changing) Update(context.Context, func(*settings.State) error) error {
	return errors.New("nobody changes these")
}

func (c *changing) budget(text string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.client.Budget = text
}

// billed returns a Set whose S3 client has made 1,000 requests this month, and
// read 50 GB.
func billed(t *testing.T, state *changing) *Set {
	t.Helper()
	dir, now := t.TempDir(), time.Now().UTC()
	book := fmt.Sprintf(`{"near":{"first":%q,"months":{%q:{"requests":{"get":1000},"bytes-in":50000000000}}}}`, now.AddDate(0, 0, -10).Format(time.RFC3339), now.Format("2006-01"))
	if err := os.WriteFile(filepath.Join(dir, "s3-usage.json"), []byte(book), 0o600); err != nil {
		t.Fatal(err)
	}
	clouds, err := s3.Open(state, filepath.Join(dir, "s3-secrets.json"))
	if err != nil {
		t.Fatal(err)
	}
	return &Set{cfg: Config{Settings: state, Clouds: clouds}, stores: map[string]*store{}}
}

func TestABill(t *testing.T) {
	state := &changing{client: settings.S3Client{ID: "near", Endpoint: "192.0.2.1", Prices: "egress=0.1,get=2", Budget: "money=6,egress-gb=100,action=slow"}}
	b := billed(t, state).Bills(time.Now())[0]
	if !strings.HasPrefix(b.Provider, "own prices") || b.SoFar.Requests["get"] != 1000 || strings.Join(b.Datastores, " ") != "cloud" {
		t.Errorf("bill is %+v", b)
	}
	if b.Cost.Egress != 5 || b.Cost.Requests != 2 || !strings.Contains(b.Over(), "money of S3 client near: 7.00 of 6.00") {
		t.Errorf("it costs %+v, over: %q", b.Cost, b.Over())
	}
	state.budget("money=nonsense")
	if b := billed(t, state).Bills(time.Now())[0]; b.Error == "" || b.Over() != "" {
		t.Errorf("a budget that cannot be read: %+v", b)
	}
}

// A datastore is opened with the prices of its S3 client, and anew when they change.
func TestATierHasThePricesOfItsClient(t *testing.T) {
	state := &changing{client: settings.S3Client{ID: "near", Endpoint: "192.0.2.1", Region: "x", AccessKey: "k", Prices: "storage=0.5"}}
	s := billed(t, state)
	if err := s.cfg.Clouds.SetSecret(t.Context(), "near", "secret"); err != nil {
		t.Fatal(err)
	}
	s.cfg.Log = slog.New(slog.DiscardHandler)
	d := settings.Datastore{Name: "cloud", Path: t.TempDir(), Backend: settings.Backend{Client: "near", Bucket: "b"}}
	cfg, err := s.tierConfig(t.Context(), d)
	if err != nil || !strings.HasPrefix(cfg.Provider.Name, "own prices") || cfg.Provider.Storage != 0.5 {
		t.Errorf("%+v, %v", cfg.Provider, err)
	}
	before := s.version(d)
	state.mu.Lock()
	state.client.Prices, state.client.Provider = "", "b2"
	state.mu.Unlock()
	cfg, err = s.tierConfig(t.Context(), d)
	if err != nil || cfg.Provider.ID != "b2" || s.version(d) == before {
		t.Errorf("%+v, %v", cfg.Provider, err)
	}
}

// A budget that is used up while work goes on ends it; what costs nothing goes on.
func TestABudgetEndsWork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		state := &changing{client: settings.S3Client{ID: "near", Endpoint: "192.0.2.1"}}
		s := billed(t, state)
		began := time.Now()
		wait := func(ctx context.Context) error {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(time.Hour):
				return nil
			}
		}
		time.AfterFunc(time.Minute, func() { state.budget("requests=1000,action=stop") })
		err := s.afford(t.Context(), nil, "cloud", wait)
		if took := time.Since(began); err == nil || !strings.Contains(err.Error(), "the budget is used up: requests of S3 client near: 1000.00 of 1000.00") || took > time.Minute+affordEvery {
			t.Errorf("after %s: %v", took, err)
		}
		if err := s.afford(t.Context(), nil, "cloud", func(context.Context) error { t.Error("it began"); return nil }); err == nil {
			t.Error("work began without a budget")
		}
		if err := s.afford(t.Context(), nil, "main", wait); err != nil {
			t.Errorf("on a disk: %v", err)
		}
		state.budget("requests=1000,action=warn")
		if err := s.afford(t.Context(), nil, "cloud", wait); err != nil {
			t.Errorf("only warned: %v", err)
		}
	})
}

// What is used up in one month is there again in the next: work that was refused on the
// last day begins on the first, and what the month before took stays on record.
func TestABudgetBeginsAnewWithTheMonth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		state := &changing{client: settings.S3Client{ID: "near", Endpoint: "192.0.2.1", Budget: "requests=1000,egress-gb=50,action=stop"}}
		s := billed(t, state)
		now := time.Now().UTC()
		month, next := now.Format("2006-01"), time.Date(now.Year(), now.Month()+1, 1, 0, 0, 0, 0, time.UTC)
		began := func() (yes bool) {
			err := s.afford(t.Context(), nil, "cloud", func(context.Context) error { yes = true; return nil })
			if yes != (err == nil) {
				t.Errorf("it began: %t, %v", yes, err)
			}
			return yes
		}
		time.Sleep(time.Until(next.Add(-time.Second)))
		if began() {
			t.Error("it began in a month of which the budget is used up")
		}
		time.Sleep(time.Second)
		if !began() {
			t.Error("the month is over, and its budget still stops work")
		}
		b := s.Bills(time.Now())[0]
		if b.Month != next.Format("2006-01") || b.SoFar.Requests["get"] != 0 || b.SoFar.In != 0 || b.Over() != "" {
			t.Errorf("the new month begins with %+v", b)
		}
		if b.Months[month].Requests["get"] != 1000 {
			t.Errorf("of the month before is known %+v", b.Months)
		}
	})
}

func TestABudgetSlowsWork(t *testing.T) {
	s := billed(t, &changing{client: settings.S3Client{ID: "near", Endpoint: "192.0.2.1", Budget: "egress-gb=1,action=slow"}})
	m, err := jobs.New(jobs.Config{Dir: t.TempDir(), Node: "home"})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close(context.Background())
	u, err := m.Start(t.Context(), "audit", "cloud", "root@pam", s.affordable("cloud", func(context.Context, *jobs.Task) error { return nil }))
	if err != nil {
		t.Fatal(err)
	}
	if i, err := m.Wait(t.Context(), u); err != nil || i.State != jobs.Warning {
		t.Errorf("%+v, %v", i, err)
	}
}
