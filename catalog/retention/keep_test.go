package retention

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestKeep(t *testing.T) {
	for _, tt := range []struct {
		about string
		keep  Keep
		zero  bool
		flags string
		json  string
	}{
		{"no rule", Keep{}, true, "", `{}`},
		{"one rule", Keep{Weekly: 4}, false, "--keep-weekly 4", `{"keep-weekly":4}`},
		{"all rules in their order", Keep{1, 2, 3, 4, 5, 6}, false,
			"--keep-last 1 --keep-hourly 2 --keep-daily 3 --keep-weekly 4 --keep-monthly 5 --keep-yearly 6",
			`{"keep-last":1,"keep-hourly":2,"keep-daily":3,"keep-weekly":4,"keep-monthly":5,"keep-yearly":6}`},
	} {
		t.Run(tt.about, func(t *testing.T) {
			if got := tt.keep.IsZero(); got != tt.zero {
				t.Errorf("is zero: %v", got)
			}
			if got := tt.keep.String(); got != tt.flags {
				t.Errorf("flags %q, want %q", got, tt.flags)
			}
			text, err := json.Marshal(tt.keep)
			if err != nil || string(text) != tt.json {
				t.Errorf("JSON %s, error %v, want %s", text, err, tt.json)
			}
			var again Keep
			if err := json.Unmarshal(text, &again); err != nil || again != tt.keep {
				t.Errorf("read back: %+v, error %v", again, err)
			}
			if err := tt.keep.Check(); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestKeepRefusesNegativeNumbers(t *testing.T) {
	k := Keep{Last: 1, Daily: -2}
	if err := k.Check(); err == nil || !strings.Contains(err.Error(), "keep-daily is -2") {
		t.Fatalf("error %v", err)
	}
	if !(Keep{Daily: -2}).IsZero() {
		t.Error("a negative number is a rule")
	}
}
