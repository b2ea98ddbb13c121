package traffic_test

import (
	"strings"
	"testing"

	"github.com/holdfast-mesh/holdfast/pbs/stores/storestest"
	"github.com/holdfast-mesh/holdfast/pbs/traffic"
)

// Rules are made, changed and removed by those who may, and are in force at once.
func TestRulesOverTheAPI(t *testing.T) {
	w := storestest.New(t)
	l := traffic.New()
	w.Serve(t, traffic.Endpoints(w.Settings, l)...)
	w.AddUser(t, "admin@pbs", "/ Admin")
	const config = "/config/traffic-control"
	steps := []struct {
		name, method, target, body string
		status                     int
		answer                     string // part of it
		force                      string // the rules in force afterwards
	}{
		{"none yet", "GET", config, "", 200, `"data":[]`, ""},
		{"a rule", "POST", config, "name=lan&network=192.0.2.0/24&rate-in=1MiB&burst-in=2MiB&rate-out=3MiB&comment=hi", 200, "null", "lan 1MiB 2MiB 3MiB "},
		{"the same again", "POST", config, "name=lan&network=192.0.2.0/24", 400, "already exists", "lan 1MiB 2MiB 3MiB "},
		{"nonsense", "POST", config, "name=wan&network=192.0.2.0/24&rate-in=fast", 400, "no amount of bytes", "lan 1MiB 2MiB 3MiB "},
		{"shown", "GET", config + "/lan", "", 200, `"comment":"hi"`, "lan 1MiB 2MiB 3MiB "},
		{"with its rates", "GET", "/admin/traffic-control", "", 200, `"cur-rate-in":0`, "lan 1MiB 2MiB 3MiB "},
		{"its burst goes with its rate", "PUT", config + "/lan", "delete=rate-in", 200, "null", "lan   3MiB "},
		{"another burst", "PUT", config + "/lan", "burst-out=9MiB", 200, "null", "lan   3MiB 9MiB"},
		{"a burst without a rate", "PUT", config + "/lan", "burst-in=9MiB", 400, "a burst needs a rate", "lan   3MiB 9MiB"},
		{"nothing can be deleted that there is not", "PUT", config + "/lan", "delete=colour&rate-out=5MiB", 400, "'delete': value 'colour' is not defined in the enumeration", "lan   3MiB 9MiB"},
		{"a network is needed", "PUT", config + "/lan", "delete=network", 400, "'delete'", "lan   3MiB 9MiB"},
		{"replaced", "PUT", config + "/lan", "delete=rate-out&rate-out=7MiB", 200, "null", "lan   7MiB "},
		{"somebody else changed it", "PUT", config + "/lan", "rate-out=1MiB&digest=" + strings.Repeat("0", 64), 400, "", "lan   7MiB "},
		{"no such rule", "PUT", config + "/wan", "rate-out=1MiB", 400, "no such traffic control rule 'wan'", "lan   7MiB "},
		{"removed", "DELETE", config + "/lan", "", 200, "null", ""},
		{"removed again", "DELETE", config + "/lan", "", 400, "no such traffic control rule 'lan'", ""},
	}
	for _, s := range steps {
		status, answer := w.Ask("admin@pbs", s.method, s.target, storestest.Form, s.body)
		if status != s.status || !strings.Contains(answer, s.answer) {
			t.Errorf("%s: %d %s, want %d …%s…", s.name, status, answer, s.status, s.answer)
		}
		var force []string
		for _, r := range l.Rates() {
			force = append(force, strings.Join([]string{r.Name, r.RateIn, r.BurstIn, r.RateOut, r.BurstOut}, " "))
		}
		if got := strings.Join(force, ","); got != s.force {
			t.Errorf("%s: in force is %q, want %q", s.name, got, s.force)
		}
	}
}
