package sessions_test

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-mesh/holdfast/catalog"
	"github.com/holdfast-mesh/holdfast/catalog/naming"
	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/disk"
	"github.com/holdfast-mesh/holdfast/chunks/disk/disktest"
	"github.com/holdfast-mesh/holdfast/jobs"
	"github.com/holdfast-mesh/holdfast/pbs/api/sessions"
	"github.com/holdfast-mesh/holdfast/pbs/backup"
	"github.com/holdfast-mesh/holdfast/pbs/pbstest"
)

// idle waits until no more than n tasks are running.
func (s *site) idle(n int) {
	s.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		tasks, running := s.Tasks.List(jobs.Filter{Running: true})
		if running <= n {
			return
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("%d tasks still run, want %d: %v", running, n, tasks)
		}
	}
}

// ended returns the one task of a type that has ended, and its log.
func (s *site) ended(typ string) (jobs.Info, string) {
	s.t.Helper()
	s.idle(0)
	tasks, n := s.Tasks.List(jobs.Filter{Type: typ})
	if n != 1 {
		s.t.Fatalf("%d tasks of type %s, want 1", n, typ)
	}
	var log bytes.Buffer
	page, err := s.Tasks.Log(tasks[0].UPID, 1, 0)
	if err != nil {
		s.t.Fatal(err)
	}
	for _, l := range page.Lines {
		log.WriteString(l.Text + "\n")
	}
	return tasks[0], log.String()
}

func TestSessionsAreTasks(t *testing.T) {
	var verified []string
	s := newSite(t, sessions.Config{Backup: backup.Config{
		Verify: func(store string, _ *catalog.Datastore, ns catalog.Namespace, snap catalog.Snapshot, why string) {
			verified = append(verified, store+":"+string(ns)+":"+snap.String()+": "+why)
		},
	}})
	if err := s.Stores["store1"].SetSettings(catalog.Settings{VerifyNew: true}); err != nil {
		t.Fatal(err)
	}
	s.back("admin@pbs", "backup g1 1700000000")
	i, log := s.ended("backup")
	if i.State != jobs.OK || i.UPID.ID != "store1:host/g1" || i.UPID.AuthID != "admin@pbs!tok" {
		t.Errorf("%+v", i)
	}
	for _, want := range []string{"backup of host/g1/2023-11-14T22:13:20Z on datastore store1, for admin@pbs!tok at 127.0.0.1:", "no last backup", `stored "x.conf.blob"`, "backup finished successfully: 2 files", "TASK OK"} {
		if !strings.Contains(log, want) {
			t.Errorf("the log lacks %q:\n%s", want, log)
		}
	}
	if len(verified) != 1 || !strings.HasPrefix(verified[0], "store1::host/g1/2023-11-14T22:13:20Z") {
		t.Errorf("to be verified: %v", verified)
	}
	c, _ := s.ask("admin@pbs", "reader g1 1700000000")
	if a, err := c.Do("GET", "/download?file-name=x.conf.blob", "", nil); err != nil || a.Status != http.StatusOK {
		t.Errorf("%v, %v", a, err)
	}
	c.Close()
	i, log = s.ended("reader")
	if i.State != jobs.OK || i.UPID.ID != "store1:host/g1/6553F100" || !strings.Contains(log, `handed out "x.conf.blob"`) {
		t.Errorf("%+v\n%s", i, log)
	}
	c, _ = s.ask("admin@pbs", "backup benchmark 1700000000 &benchmark=true")
	if a, err := c.Do("POST", "/speedtest", "application/octet-stream", make([]byte, 1<<20)); err != nil || a.Status != http.StatusOK {
		t.Errorf("%v, %v", a, err)
	}
	c.Close()
	if i, log = s.ended("benchmark"); i.State != jobs.OK || i.UPID.ID != "store1:host/benchmark" {
		t.Errorf("%+v\n%s", i, log)
	}
	s.nothingOf("host/benchmark", 1700000000)
}

// nothingOf makes sure that a snapshot is not there, whole or in parts.
func (s *site) nothingOf(group string, at int64) {
	s.t.Helper()
	g, err := naming.ParseGroup(group)
	if err != nil {
		s.t.Fatal(err)
	}
	d := s.Stores["store1"]
	snap := catalog.Snapshot{Group: g, Time: at}
	if _, err := d.FS.Stat(filepath.Join(d.Dir, snap.String())); !errors.Is(err, fs.ErrNotExist) {
		s.t.Errorf("%s is there: %v", snap, err)
	}
}

// Stopping a task ends its session, and what was not finished is gone; so does
// the end of the node.
func TestSessionThatIsStopped(t *testing.T) {
	for _, tt := range []struct {
		name string
		end  func(s *site, u jobs.UPID) error
		want string
	}{
		{"by somebody", func(s *site, u jobs.UPID) error { return s.Tasks.Stop(s.t.Context(), u) }, jobs.ErrStopped.Error()},
		{"by the end of the node", func(s *site, _ jobs.UPID) error { return s.Tasks.Close(context.Background()) }, jobs.ErrShutdown.Error()},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newSite(t, sessions.Config{})
			c, a := s.ask("admin@pbs", "backup g1 1700000000")
			if c == nil {
				t.Fatalf("%d %s", a.Status, a.Body)
			}
			if a, err := c.Do("POST", "/dynamic_index?archive-name=a.didx", "", nil); err != nil || a.Data() != "1" {
				t.Fatalf("%v, %v", a, err)
			}
			tasks, _ := s.Tasks.List(jobs.Filter{Running: true})
			began := time.Now()
			if err := tt.end(s, tasks[0].UPID); err != nil {
				t.Error(err)
			}
			if took := time.Since(began); took > 5*time.Second {
				t.Errorf("it took %v", took)
			}
			if a, err := c.Do("GET", "/previous_backup_time", "", nil); err == nil {
				t.Errorf("the session goes on: %v", a)
			}
			i, log := s.ended("backup")
			if i.State != jobs.Failed || !strings.Contains(i.Message, tt.want) || !strings.Contains(i.Message, backup.ErrUnfinished.Error()) {
				t.Errorf("%+v\n%s", i, log)
			}
			s.nothingOf("host/g1", 1700000000)
		})
	}
}

// A client that goes in the middle leaves a group that belongs to it, and a
// task that says what is wrong.
func TestClientThatGoes(t *testing.T) {
	s := newSite(t, sessions.Config{})
	c, _ := s.ask("admin@pbs", "backup g1 1700000000")
	c.Close()
	if i, _ := s.ended("backup"); i.State != jobs.Failed || i.Message != backup.ErrUnfinished.Error() {
		t.Errorf("%+v", i)
	}
	s.nothingOf("host/g1", 1700000000)
	s.refused("backup@pbs", "backup g1 1700000000", 400, "backup owner check failed (backup@pbs!tok != admin@pbs!tok)")
	s.back("admin@pbs", "backup g1 1700000000")
}

// Nothing is begun that could not end: when the disk is as good as full, new
// backups are refused, one that runs is refused more chunks, and what is there
// can be read and collected.
func TestFullDisk(t *testing.T) {
	mem := disktest.NewMem()
	mem.Disable(disk.Abilities{Direct: true})
	s := newSite(t, sessions.Config{})
	d := pbstest.Open(t, mem, "/small")
	s.Stores["small"] = d
	running, a := s.ask("admin@pbs", "//api2/json/backup?store=small&backup-type=host&backup-id=g1&backup-time=1700000000")
	if running == nil {
		t.Fatalf("%d %s", a.Status, a.Body)
	}
	if a, err := running.Do("POST", "/dynamic_index?archive-name=a.didx", "", nil); err != nil || a.Data() != "1" {
		t.Fatalf("%v, %v", a, err)
	}
	space, err := d.FS.Space(d.Dir)
	if err != nil {
		t.Fatal(err)
	}
	mem.SetLimit(space.TotalBytes - space.FreeBytes + 8<<20)
	c, a := s.ask("admin@pbs", "//api2/json/backup?store=small&backup-type=host&backup-id=g2&backup-time=1700000000")
	if c != nil || a.Status != http.StatusInsufficientStorage || !strings.Contains(string(a.Body), chunks.ErrNoSpace.Error()) {
		t.Errorf("a new backup: %d %s", a.Status, a.Body)
	}
	a, err = running.PutChunk(1, []byte("hello"))
	if err != nil || a.Status != http.StatusInsufficientStorage || !strings.Contains(string(a.Body), chunks.ErrNoSpace.Error()) {
		t.Errorf("one that runs: %v %d %s", err, a.Status, a.Body)
	}
	running.Close()
	if _, log := s.ended("backup"); !strings.Contains(log, "no more chunks are taken") {
		t.Errorf("its log:\n%s", log)
	}
}
