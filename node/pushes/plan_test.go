package pushes_test

import (
	"net"
	"strconv"
	"strings"
	"testing"

	"github.com/holdfast-mesh/holdfast/node/pushes"
	"github.com/holdfast-mesh/holdfast/node/remotes"
	"github.com/holdfast-mesh/holdfast/pbs/pbstest"
	"github.com/holdfast-mesh/holdfast/pbs/settings"
)

// plan returns what a job would do.
func (l *lab) plan(change func(*settings.SyncJob)) (all []string) {
	l.t.Helper()
	host, port, _ := net.SplitHostPort(l.server.Addr)
	n, _ := strconv.Atoi(port)
	c, err := remotes.Client(settings.Remote{Name: "there", Host: host, Port: n, AuthID: pusher, Fingerprint: l.server.Fingerprint}, "secret", pbstest.Store, remotes.Pace{})
	if err != nil {
		l.t.Fatal(err)
	}
	defer c.Close()
	j := settings.SyncJob{ID: "j", Store: "main", Remote: "there", RemoteStore: pbstest.Store, SyncDirection: "push"}
	change(&j)
	steps, err := pushes.Plan(l.t.Context(), pushes.Config{Job: j, Local: l.here, Remote: c, User: pusher})
	if err != nil {
		l.t.Fatal(err)
	}
	for _, s := range steps {
		all = append(all, s.Do+" "+s.What)
	}
	return all
}

// The plan of a push says what its run does then. What has failed its verification
// here, so that the job is not about it any more, is not removed there: that would be
// the last copy that is whole. Once it was.
func TestPlanAndVanished(t *testing.T) {
	l := newLab(t)
	image := random(1, 6<<20)
	l.back("vm/1/2026-01-01T00:00:00Z", image, nil)
	l.back("vm/1/2026-01-02T00:00:00Z", image, nil)
	vanish := func(j *settings.SyncJob) { yes := true; j.RemoveVanished, j.RemoteNS = &yes, "" }
	if got := strings.Join(l.plan(vanish), ", "); got != "push vm/1/2026-01-01T00:00:00Z, push vm/1/2026-01-02T00:00:00Z" {
		t.Errorf("planned %s", got)
	}
	if got := strings.Join(l.plan(func(j *settings.SyncJob) { j.RemoteNS = "a/b" }), ", "); !strings.HasPrefix(got, "make namespace a, make namespace a/b, push a/b") && !strings.HasPrefix(got, "make namespace a, make namespace a/b, push vm/1") {
		t.Errorf("to a namespace that is not there: planned %s", got)
	}
	if r, err := l.push(nil, vanish); err != nil || r.Snapshots != 2 {
		t.Fatalf("%+v %v", r, err)
	}
	if got := l.plan(vanish); len(got) != 0 {
		t.Errorf("planned %s, though all is there", got)
	}
	verified := func(j *settings.SyncJob) { vanish(j); yes := true; j.VerifiedOnly = &yes } // none of them is
	if got := l.plan(verified); len(got) != 0 {
		t.Errorf("planned %s, though all is here", got)
	}
	if r, err := l.push(nil, verified); err != nil || r.Removed != 0 {
		t.Errorf("%+v %v", r, err)
	}
	if err := l.here.Forget(t.Context(), "", snap("vm/1/2026-01-01T00:00:00Z")); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(l.plan(vanish), ", "); got != "remove vm/1/2026-01-01T00:00:00Z" {
		t.Errorf("planned %s", got)
	}
}
