package pulls_test

import (
	"strings"
	"testing"
	"time"

	"github.com/holdfast-mesh/holdfast/mesh/facts"
	"github.com/holdfast-mesh/holdfast/node/pulls"
	"github.com/holdfast-mesh/holdfast/pbs/settings"
)

// held are snapshots as a node says that it has them, each "[NS:]TYPE/ID HOURS…";
// an hour with ! is damaged, with + verified.
func held(list ...string) (all []facts.Held) {
	for _, text := range list {
		words := strings.Fields(text)
		ns, group, in := strings.Cut(words[0], ":")
		if !in {
			ns, group = "", words[0]
		}
		typ, id, _ := strings.Cut(group, "/")
		h := facts.Held{Store: "main", Group: facts.Group{Namespace: ns, Type: typ, ID: id}}
		for _, w := range words[1:] {
			at, _ := time.ParseDuration(strings.TrimRight(w, "!+") + "h")
			c := facts.Copy{Time: int64(at / time.Second), Damaged: strings.HasSuffix(w, "!")}
			if !c.Damaged && strings.HasSuffix(w, "+") {
				c.Verified = c.Time + 1
			}
			h.Copies = append(h.Copies, c)
		}
		all = append(all, h)
	}
	return all
}

// A job is behind by what its source has said that it wants and that is not here.
func TestHowFarAJobIsBehind(t *testing.T) {
	yes, zero := true, 0
	tests := []struct {
		name   string
		job    settings.SyncJob
		there  []facts.Held
		here   []facts.Held
		behind int
		since  int // hour
		known  bool
	}{
		{"nothing is here", settings.SyncJob{}, held("vm/1 1 2 3"), nil, 3, 1, true},
		{"all is here", settings.SyncJob{}, held("vm/1 1 2 3"), held("vm/1 1 2 3"), 0, 0, true},
		{"what is behind the newest is not wanted", settings.SyncJob{}, held("vm/1 1 2 3"), held("vm/1 2"), 1, 3, true},
		{"a group at another place is another one", settings.SyncJob{NS: "home"}, held("vm/1 1 2"), held("vm/1 1 2"), 2, 1, true},
		{"mapped namespaces", settings.SyncJob{RemoteNS: "a/b", NS: "x"}, held("a/b/team:vm/1 5 6", "c:vm/2 1"), held("x/team:vm/1 5"), 1, 6, true},
		{"depth", settings.SyncJob{MaxDepth: &zero}, held("vm/1 1", "a:vm/1 2"), nil, 1, 1, true},
		{"filters", settings.SyncJob{GroupFilter: []string{"type:ct"}}, held("vm/1 1", "ct/1 2"), nil, 1, 2, true},
		{"the newest", settings.SyncJob{TransferLast: 1}, held("vm/1 1 2 3"), nil, 1, 3, true},
		{"what is verified", settings.SyncJob{VerifiedOnly: &yes}, held("vm/1 1+ 2 3!"), nil, 1, 1, true},
		{"of encryption nothing is said", settings.SyncJob{EncryptedOnly: &yes}, held("vm/1 1"), nil, 0, 0, false},
		{"the source has said nothing", settings.SyncJob{}, nil, held("vm/1 1"), 0, 0, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			n := newMesh().node(t, "dc", func(_ *node, c *pulls.Config) {
				c.Held = func(node, store string) []facts.Held {
					switch {
					case store != "main":
						t.Errorf("asked for %s", store)
					case node == "id-home":
						return tt.there
					}
					return tt.here
				}
			})
			tt.job.ID, tt.job.Store, tt.job.Remote, tt.job.RemoteStore = "job", "main", "home", "main"
			n.set(tt.job)
			s, known := n.Standing("job")
			since := 0
			if !s.Since.IsZero() {
				since = int(s.Since.Unix() / 3600)
			}
			if s.Behind != tt.behind || since != tt.since || known != tt.known {
				t.Errorf("behind %d since hour %d (known: %v), want %d, %d, %v", s.Behind, since, known, tt.behind, tt.since, tt.known)
			}
		})
	}
}
