package main

import (
	"testing"
	"time"

	"github.com/holdfast-mesh/holdfast/catalog/retention"
)

// The rules keep of backups made by a schedule what the documents say: hours without
// a backup do not count.
func TestPruneSimulate(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		backup, prune string
		days          int
		keep          retention.Keep
		made, left    int
		most          int
		oldest, rule  string // of what is left
	}{
		{"03:00", "", 400, retention.Keep{Daily: 7, Hourly: 24}, 400, 31, 32, "2026-12-01T03:00:00", "keep-daily"},
		{"*:0", "", 400, retention.Keep{Daily: 7, Hourly: 24}, 9600, 31, 55, "2026-12-24T23:00:00", "keep-daily"},
		{"daily", "", 400, retention.Keep{Last: 4}, 400, 4, 5, "2026-12-28T00:00:00", "keep-last"},
		{"daily", "", 10, retention.Keep{}, 10, 10, 10, "2026-12-22T00:00:00", ""},
		{"daily", "sat 12:00", 30, retention.Keep{Last: 1}, 30, 1, 8, "2026-12-31T00:00:00", "keep-last"},
	} {
		s, err := simulationOf(keepFlags{tt.keep}, tt.backup, tt.prune, "2026-12-31", tt.days)
		if err != nil {
			t.Fatal(err)
		}
		left, made, most, err := s.run()
		if err != nil || len(left) != tt.left || made != tt.made || most != tt.most {
			t.Errorf("%s, %s: %d of %d are left, at most %d, %v", tt.backup, tt.keep, len(left), made, most, err)
			continue
		}
		last := left[len(left)-1]
		if got := time.Unix(last.Unix, 0).Format("2006-01-02T15:04:05"); got != tt.oldest || last.Rule != tt.rule {
			t.Errorf("%s, %s: the oldest is %s by %q, want %s by %q", tt.backup, tt.keep, got, last.Rule, tt.oldest, tt.rule)
		}
	}
	for name, bad := range map[string]func() error{
		"schedule": func() error { _, err := simulationOf(keepFlags{}, "never-ever", "", "", 1); return err },
		"days":     func() error { _, err := simulationOf(keepFlags{}, "daily", "", "", 0); return err },
		"until":    func() error { _, err := simulationOf(keepFlags{}, "daily", "", "tomorrow", 1); return err },
		"keep": func() error {
			_, err := simulationOf(keepFlags{retention.Keep{Last: -1}}, "daily", "", "", 1)
			return err
		},
	} {
		if bad() == nil {
			t.Errorf("a wrong %s is taken", name)
		}
	}
}
