package node

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/holdfast-mesh/holdfast/node/overview"
)

const answer = `{"quorum": true, "leader": "home", "voters": 3, "facts_as_of": "2026-11-28T09:00:00Z", "facts_oldest": "nas",
"members": [
 {"name": "home", "site": "h", "role": "full", "voter": true, "path": "local", "reachable": true, "ready": true, "last_heard": "2026-11-28T12:00:00Z", "version": "1.0",
  "snapshots": 4, "sessions": 1, "tasks": 2, "running": ["backup main:vm/101 40%"], "stores": [{"store": "main", "total": 1073741824, "avail": 536870912, "snapshots": 4, "as_of": "2026-11-28T12:00:00Z"}]},
 {"name": "nas", "site": "n", "role": "replica", "path": "none", "why": "it has failed", "last_heard": "2026-11-28T09:00:00Z", "version": "1.0",
  "snapshots": 1, "behind": 1, "lag_s": 172800, "stores": [{"store": "copies", "total": 1073741824, "avail": 1048576, "snapshots": 1, "as_of": "2026-11-28T08:00:00Z"}]}],
"groups": [
 {"group": "vm/101", "home": "home", "newest": 1795867200, "count": 3, "copies": 1, "places": [{"node": "home"}, {"node": "nas", "behind": 2, "lag_s": 172800, "damaged": 1}]},
 {"group": "vm/102", "home": "home", "newest": 1795867200, "count": 1, "copies": 2, "places": [{"node": "home"}, {"node": "nas"}]}],
"warnings": [{"level": "critical", "node": "nas", "text": "its disk went back", "hint": "look at it, and let it not vote before it has caught up with all the others"}]}`

func page(t *testing.T, text string, width int, all bool) string {
	t.Helper()
	var s status
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	s.print(&out, time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC), width, all)
	return out.String()
}

func TestStatusText(t *testing.T) {
	got := page(t, answer, 90, false)
	for _, want := range []string{
		"quorum: yes, home leads, 3 vote; facts of 3 h ago at nas, and newer of others\nCRITICAL: nas: its disk went back\n  hint: look",
		"home  h     full, votes  local    now      4          -          1 session, 2 tasks\n",
		"nas   n     replica      none     3 h ago  1          1, 2 days  it has failed\n",
		"backup main:vm/101 40%  home\n", "copies     nas   1.00 MiB   1.00 GiB  1          as of 4 h ago\n",
		"2 groups, the newest snapshot of 1 is at two nodes or more\n", "nas by 2, 2 days; nas has",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
	if strings.Contains(got, "vm/102") || !strings.Contains(page(t, answer, 0, true), "vm/102") {
		t.Error("a group that is as it should be is shown, or is not with --all")
	}
	for _, width := range []int{20, 40, 80, 120} {
		for line := range strings.Lines(page(t, answer, width, true)) {
			if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > width && !strings.HasPrefix(line, "    ") {
				t.Errorf("%d columns in %d: %s", n, width, line)
			}
		}
	}
	no := page(t, strings.Replace(answer, `"quorum": true`, `"quorum": false, "why": "no leader is known", "as_of": "2026-11-28T11:00:00Z"`, 1), 0, false)
	if !strings.HasPrefix(no, "quorum: NO since 60 min ago, nothing can be changed (no leader is known); backups and restores go on; facts of") {
		t.Errorf("%.150s", no)
	}
}

// Six warnings of drafts pushed out that a node is not reached; something critical that
// came after eight others would have been pushed out, too.
func TestWarningsShown(t *testing.T) {
	var s status
	add := func(level, text, hint string, n int) {
		for i := range n {
			s.Warn = append(s.Warn, warning{level, fmt.Sprint("n", i), fmt.Sprint(text, i), hint})
		}
	}
	add("warning", "draft", "draft list", 9)
	add("warning", "away", "as it was then", 3)
	add("warning", "unhinted", "", 1)
	add("critical", "clock", "set it", 2)
	var out strings.Builder
	s.print(&out, time.Now(), 0, false)
	for _, want := range []string{"draft0", "draft1", "draft2", "draft3", "away0", "unhinted0", "CRITICAL: n0: clock0", "CRITICAL: n1: clock1", "and 7 warnings more: --all"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, &out)
		}
	}
	add("critical", "lost", "look", 9)
	out.Reset()
	if s.print(&out, time.Now(), 0, false); strings.Count(out.String(), "CRITICAL") != 11 || strings.Contains(out.String(), "away") {
		t.Errorf("got\n%s", &out)
	}
}

// With a clock ten days behind, a node said of itself that it was heard of ten days ago.
// What is ahead of the clock of the node is of now; that the clock is wrong is a warning.
func TestAgesByOneClock(t *testing.T) {
	got := page(t, `{"quorum": true, "leader": "n2", "voters": 2, "facts_as_of": "2026-11-18T12:00:00Z", "now": "2026-11-18T12:00:00Z", "members": [
		{"name": "n2", "path": "local", "last_heard": "2026-11-18T12:00:00Z"}, {"name": "n1", "path": "direct", "last_heard": "2026-11-28T12:00:00Z"}]}`, 0, false)
	if strings.Contains(got, "ago") || !strings.Contains(got, "facts of now") || strings.Count(got, "  now  ") != 2 {
		t.Errorf("got\n%s", got)
	}
}

func TestRedraw(t *testing.T) {
	if got := redraw("a\nb\n", 24); got != "\x1b[Ha\x1b[K\nb\x1b[K\n\x1b[J" {
		t.Errorf("%q", got)
	}
	if got := redraw("1\n2\n3\n4\n5\n", 4); got != "\x1b[H1\x1b[K\n2\x1b[K\n…\x1b[K\n\x1b[J" {
		t.Errorf("what is higher than the terminal scrolls: %q", got)
	}
}

// Of a datastore with a bucket it shows what waits for it and since when, the cache
// against its bound, the requests by class, and what went wrong last.
func TestStatusOfClouds(t *testing.T) {
	const cloud = `{"store": "cloud", "cloud": {"bucket": "bucket b at s3", "bytes": 2147483648, "queued-bytes": 67108864, "queued-since": "2026-11-28T09:00:00Z",
		"cache-used": 1048576, "cache-bound": 67108864, "requests": {"put": 12, "get": 3, "head": 0}, "requests-month": {"put": 40},
		"last-error": "access was denied", "last-error-time": "2026-11-28T11:30:00Z", "lost-packs": 2}}`
	got := page(t, strings.Replace(answer, `"stores": [`, `"stores": [`+cloud+`, `, 1), 0, false)
	for _, want := range []string{
		"cloud  in the bucket  waiting    for  cache                  requests since start  this month\n",
		"cloud  2.00 GiB       64.00 MiB   3 h  1.00 MiB of 64.00 MiB  3 get, 12 put         40 put\n",
		"cloud: last error, 30 min ago: access was denied\n", "cloud: LOST: 2 packs",
	} {
		if !strings.Contains(strings.Join(strings.Fields(got), " "), strings.Join(strings.Fields(want), " ")) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
	idle := strings.NewReplacer(`"queued-bytes": 67108864, `, "", `"last-error": "access was denied", `, "", `, "lost-packs": 2`, "").Replace(cloud)
	got = page(t, strings.Replace(answer, `"stores": [`, `"stores": [`+idle+`, `, 1), 0, false)
	if strings.Contains(got, "last error") || strings.Contains(got, "LOST") || !strings.Contains(got, "0 B") {
		t.Errorf("of one that has nothing to do:\n%s", got)
	}
	if got = page(t, answer, 0, false); strings.Contains(got, "in the bucket") {
		t.Errorf("without a bucket:\n%s", got)
	}
}

// Of a node that was rebooted alone the first line said "NO since never … facts of
// never", and the JSON the year 1.
func TestStatusOfNothing(t *testing.T) {
	got := page(t, `{"quorum": false, "why": "no leader is known", "facts_oldest": "nas", "members": [{"name": "nas", "path": "none"}]}`, 0, false)
	want := "quorum: NO yet, nothing can be changed (no leader is known); backups and restores go on; nothing is known yet of nas\n"
	if !strings.HasPrefix(got, want) {
		t.Errorf("%.200s", got)
	}
	got = page(t, `{"quorum": false, "why": "this node has just started", "as_of": "1970-01-01T00:00:00Z", "members": [{"name": "nas", "path": "local"}]}`, 0, false)
	if !strings.HasPrefix(got, "quorum: NO yet, nothing can be changed (this node has just started)") {
		t.Errorf("just started: %.200s", got)
	}
	got = page(t, `{"quorum": false, "idle": true, "why": "an older version", "members": [{"name": "nas", "path": "local"}]}`, 0, false)
	if !strings.HasPrefix(got, "quorum: NO yet, nothing can be changed (an older version); until then this node serves nothing; ") {
		t.Errorf("idle: %.200s", got)
	}
	b, err := json.Marshal(overview.Status{Members: []overview.Member{{Stores: []overview.Store{{}}}}})
	if err != nil || strings.Contains(string(b), "0001-01-01") {
		t.Errorf("%s, %v", b, err)
	}
}
