package verify

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-mesh/holdfast/chunks/pack"
)

func TestUPIDsReadAsTheyAreWritten(t *testing.T) {
	const example = `UPID:pbs1:000004F3:0039E469:00000000:5CA78B83:garbage_collection:store1:root@pam:` // §7.9
	u, err := ParseUPID(example)
	if err != nil || u.Node != "pbs1" || u.PID != 0x4f3 || u.Start.Unix() != 0x5ca78b83 || u.ID != "store1" || u.Auth != "root@pam" {
		t.Errorf("%q reads as %+v, %v", example, u, err)
	}
	if got := u.String(); got != example {
		t.Errorf("written again: %q", got)
	}
	u.ID = "tank:ns/a-b/vm/100"
	if got, want := u.String(), `UPID:pbs1:000004F3:0039E469:00000000:5CA78B83:garbage_collection:tank\x3ans-a\x2db-vm-100:root@pam:`; got != want {
		t.Errorf("an ID is written as %q, want %q", got, want)
	}
	if back, err := ParseUPID(u.String()); err != nil || back != u {
		t.Errorf("%q reads as %+v, %v", u, back, err)
	}
}

func TestAPVEsUPIDIsRefused(t *testing.T) {
	for _, s := range []string{"", "UPID:pve:000004F3:0039E469:5CA78B83:vzdump:100:root@pam:", "UPID:pbs1:000004F3:0039E469:00000000:5CA78B83:verify:store1:root@pam"} {
		if u, err := ParseUPID(s); err == nil {
			t.Errorf("%q reads as %+v", s, u)
		}
	}
}

func TestTaskNames(t *testing.T) {
	s := snap(t, "vm/100", 0)
	for _, row := range []struct {
		opt  Options
		want string
	}{
		{Options{Store: "tank"}, "verify tank"},
		{Options{Store: "tank", Namespace: "a/b"}, "verify tank:ns/a/ns/b"},
		{Options{Store: "tank", Group: &s.Group}, "verify_group tank:/vm/100"},
		{Options{Store: "tank", Namespace: "a", Snapshot: &s}, "verify_snapshot tank:ns/a/vm/100/65920080"},
	} {
		if got := row.opt.taskType() + " " + row.opt.taskID(); got != row.want {
			t.Errorf("task is %q, want %q", got, row.want)
		}
	}
}

func TestNodeNames(t *testing.T) {
	for host, want := range map[string]string{"web": "web", "web.example.org": "web", "": "localhost", "-Büro_2-": "B-ro-2", "..": "localhost"} {
		if got := nodeName(host); got != want {
			t.Errorf("host %q is node %q, want %q", host, got, want)
		}
		if _, err := ParseUPID(UPID{Node: nodeName(host), Start: time.Unix(1, 0), Type: "verify", Auth: "root@pam"}.String()); err != nil {
			t.Errorf("host %q: %v", host, err)
		}
	}
}

// What is parsed can be written, and reads the same again.
func FuzzUPIDsStayTheSame(f *testing.F) {
	f.Add(`UPID:pbs1:000004F3:0039E469:00000000:5CA78B83:verify:tank\x3ans-a:root@pam:`)
	f.Add(newUPID(time.Unix(1700000000, 0), "verify_snapshot", "tank:ns/a/vm/100/6592").String())
	f.Add("UPID:a:00000000:000000000:0123456789abcdef:ffffffff:x::y:")
	f.Fuzz(func(t *testing.T, s string) {
		u, err := ParseUPID(s)
		if err != nil {
			return
		}
		again, err := ParseUPID(u.String())
		if err != nil || again != u {
			t.Errorf("%q is %+v, written %q it is %+v, %v", s, u, u, again, err)
		}
	})
}

func TestPaceKeepsItsRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, began := pace{rate: 1000}, time.Now()
		done := make(chan error)
		for range 4 {
			go func() { done <- p.wait(t.Context(), 500) }()
		}
		for range 4 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		if took := time.Since(began); took != 1500*time.Millisecond { // the last one waits for three
			t.Errorf("2,000 bytes at 1,000 a second took %v", took)
		}
	})
}

func TestNotesKeepChunksApart(t *testing.T) {
	var n notes
	n.set(pack.Ref{Pack: 7, Entry: 300}, good.sized(16<<20)|encrypted)
	n.set(pack.Ref{Pack: 7, Entry: 2}, damaged)
	n.set(pack.Ref{Pack: 0, Entry: 2}, good.sized(1<<40))
	for _, row := range []struct {
		ref  pack.Ref
		want note
	}{
		{pack.Ref{Pack: 7, Entry: 300}, good | encrypted | 16<<20},
		{pack.Ref{Pack: 7, Entry: 2}, damaged},
		{pack.Ref{Pack: 0, Entry: 2}, good}, // a length without room is not known
		{pack.Ref{Pack: 7, Entry: 299}, 0},
		{pack.Ref{Pack: 7, Entry: 9999}, 0},
		{pack.Ref{Pack: 9}, 0},
	} {
		if got := n.get(row.ref); got != row.want {
			t.Errorf("note of %v is %x, want %x", row.ref, got, row.want)
		}
	}
}
