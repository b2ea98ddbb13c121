package datastore

import (
	"strings"
	"testing"

	"github.com/holdfast-mesh/holdfast/chunks/cloud/migrate"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/prices"
	"github.com/holdfast-mesh/holdfast/cmd/holdfast/cli"
)

// A migration to a provider whose prices nobody knows was said to cost 0.00.
func TestMigrationWithoutPrices(t *testing.T) {
	s, known := &migrate.State{Left: migrate.Sum{Objects: 3000, Bytes: 1e12}}, prices.Provider{ID: "x", Storage: 0.02, Put: 5, Egress: 0.1}
	for _, tt := range []struct {
		from, to prices.Provider
		want     []string
		unknown  int
	}{
		{known, known, []string{"here: 100.00 USD to read", "there: 15.00 USD to write", "here: 20.00 USD a month; there: 20.00 USD"}, 0},
		{known, prices.Provider{}, []string{"here: 100.00 USD to read", "there: unknown", "--prices storage"}, 2},
		{prices.Provider{}, prices.Provider{}, []string{"here: unknown", "--provider NAME"}, 4},
	} {
		var out strings.Builder
		printMigrate(&out, s.Plan(1<<20, tt.from, tt.to))
		for _, want := range tt.want {
			if !strings.Contains(out.String(), want) {
				t.Errorf("%q is missing in\n%s", want, out.String())
			}
		}
		if strings.Contains(out.String(), " 0.00") || strings.Count(out.String(), "unknown") != tt.unknown {
			t.Errorf("%d amounts are not known:\n%s", tt.unknown, out.String())
		}
	}
}

// What a dry run is given was not looked at, and a list that copies nothing was
// written although the store was to move.
func TestMigrateFlags(t *testing.T) {
	for _, args := range [][]string{
		{"cloud", "--s3", "far", "--bucket", "b", "--dry-run", "--override", "nonsense"},
		{"cloud", "--s3", "far", "--bucket", "b", "--manifest", t.TempDir() + "/list.csv", "--home"},
	} {
		cmd := newMigrate(&cli.Options{})
		cmd.SilenceUsage, cmd.SilenceErrors = true, true
		cmd.SetArgs(args)
		if err := cmd.ExecuteContext(t.Context()); err == nil || !strings.Contains(err.Error(), args[len(args)-1]) && !strings.Contains(err.Error(), "--manifest") {
			t.Errorf("%v: %v", args, err)
		}
	}
}
