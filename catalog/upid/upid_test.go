package upid

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// Names that an official server gave its tasks.
func TestUPID(t *testing.T) {
	for text, want := range map[string]UPID{
		"UPID:pbs1:000004F3:0039E469:00000000:5CA78B83:garbage_collection:store1:root@pam:": {
			"pbs1", 0x4f3, 0x39e469, 0, 0x5ca78b83, "garbage_collection", "store1", "root@pam"},
		`UPID:pbs3:00004CE0:000C74B1:00000056:6B00FE0B:verify_snapshot:store1\x3a-host-g2-6553F100:admin@pbs:`: {
			"pbs3", 19680, 816305, 0x56, 1795227147, "verify_snapshot", "store1:/host/g2/6553F100", "admin@pbs"},
		`UPID:pbs3:00004CE0:000C74B1:00000048:6B00FDA8:backup:store1\x3ahost-own\x2dbackup:backup@pbs!tok:`: {
			"pbs3", 19680, 816305, 0x48, 1795227048, "backup", "store1:host/own-backup", "backup@pbs!tok"},
		"UPID:a:FFFFFFFF:FFFFFFFFF:FFFFFFFFFFFFFFFF:FFFFFFFF:x::y:": {
			"a", 1<<32 - 1, 1<<36 - 1, 1<<64 - 1, 1<<32 - 1, "x", "", "y"},
		`UPID:a-b:00000001:00000001:00000001:00000001:x:\x2eb\xff.\x5c:y:`: {
			"a-b", 1, 1, 1, 1, "x", ".b\xff.\\", "y"},
	} {
		if got, err := Parse(text); err != nil || got != want {
			t.Errorf("Parse(%s) = %+v, %v, want %+v", text, got, err, want)
		}
		if got := want.String(); got != text {
			t.Errorf("%+v is written %s, want %s", want, got, text)
		}
		var u UPID
		data, err := json.Marshal(want)
		if err == nil {
			err = json.Unmarshal(data, &u)
		}
		if err != nil || u != want {
			t.Errorf("%s in JSON is %s and read %+v, %v", text, data, u, err)
		}
	}
	lower, err := Parse("UPID:a:0000abcd:00000001:00000001:00000001:x:y:z:")
	if err != nil || lower.PID != 0xabcd {
		t.Errorf("lower case is read %+v, %v", lower, err)
	}
}

func TestParseUPIDRefuses(t *testing.T) {
	const good = "UPID:pbs1:000004F3:0039E469:00000000:5CA78B83:prune:store1:root@pam:"
	for name, text := range map[string]string{
		"nothing":              "",
		"no colon at the end":  strings.TrimSuffix(good, ":"),
		"one field fewer":      strings.Replace(good, ":00000000", "", 1), // as of PVE
		"a short number":       strings.Replace(good, "000004F3", "4F3", 1),
		"a node with a dot":    strings.Replace(good, "pbs1", "pbs1.lan", 1),
		"a node with a hyphen": strings.Replace(good, "pbs1", "pbs1-", 1),
		"an ID with a blank":   strings.Replace(good, "store1", "store 1", 1),
		"nobody":               strings.Replace(good, "root@pam", "", 1),
		"a line behind":        good + "\n",
		"a control character":  strings.Replace(good, "prune", "pru\x7fne", 1),
		"bytes, not text":      strings.Replace(good, "prune", "pru\xffne", 1),
		"too much":             strings.Replace(good, "store1", strings.Repeat("x", 5000), 1),
	} {
		if u, err := Parse(text); err == nil {
			t.Errorf("%s: Parse(%q) = %+v, want an error", name, text, u)
		}
	}
}

func TestNew(t *testing.T) {
	now := time.Unix(1795227147, 999)
	a, err := New("pbs3", "prune", "s:ns/ü:vm/1", "root@pam", now)
	if err != nil {
		t.Fatal(err)
	}
	if a.PID != uint32(os.Getpid()) || a.PStart == 0 || a.Start != now.Unix() || !a.Time().Equal(time.Unix(a.Start, 0)) {
		t.Errorf("a new name is %+v", a)
	}
	if b, err := New("pbs3", "prune", "s", "root@pam", now); err != nil || b.TaskID <= a.TaskID {
		t.Errorf("the next is %+v, %v, after %+v", b, err, a)
	}
	for name, bad := range map[string]UPID{
		"a node that is none":     {Node: "a_b", Type: "x", AuthID: "y"},
		"a type with a colon":     {Node: "a", Type: "x:", AuthID: "y"},
		"no type":                 {Node: "a", AuthID: "y"},
		"a user with a blank":     {Node: "a", Type: "x", AuthID: "y z"},
		"an ID as long as a book": {Node: "a", Type: "x", AuthID: "y", ID: strings.Repeat("/", maxID+1)},
		"a clock in 1969":         {Node: "a", Type: "x", AuthID: "y", Start: -1},
		"a clock in 2107":         {Node: "a", Type: "x", AuthID: "y", Start: 1 << 32},
	} {
		if err := bad.Check(); err == nil {
			t.Errorf("%s: %+v is fine, want an error", name, bad)
		}
	}
	long := UPID{Node: strings.Repeat("a", MaxWord), Type: strings.Repeat("b", MaxWord), AuthID: strings.Repeat("c", MaxWord), ID: strings.Repeat(":", maxID)}
	if n := len(long.String()); n > maxUPID || long.Check() != nil {
		t.Errorf("the longest name has %d bytes, want at most %d: %v", n, maxUPID, long.Check())
	}
}

func TestNodeName(t *testing.T) {
	for host, want := range map[string]string{
		"pbs1": "pbs1", "pbs1.example.com": "pbs1", "": "localhost", "_x_": "x", "a_b": "a-b", "München": "M-nchen", "...": "localhost",
	} {
		got := NodeName(host)
		if got != want {
			t.Errorf("NodeName(%q) = %q, want %q", host, got, want)
		}
		if err := (UPID{Node: got, Type: "x", AuthID: "y"}).Check(); err != nil {
			t.Error(err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("UPID:pbs1:000004F3:0039E469:00000000:5CA78B83:garbage_collection:store1:root@pam:")
	f.Add(`UPID:pbs3:00004CE0:000C74B1:00000048:6B00FDA8:backup:store1\x3ahost-own\x2dbackup:backup@pbs!tok:`)
	f.Add(`UPID:a:ffffffff:fffffffff:ffffffffffffffff:ffffffff:x:.\x2:y:`)
	f.Fuzz(func(t *testing.T, text string) {
		u, err := Parse(text)
		if err != nil {
			return
		}
		out := u.String()
		if again, err := Parse(out); len(out) <= maxUPID && (err != nil || again != u) {
			t.Fatalf("%q is written %q and read %+v, %v", text, out, again, err)
		}
		if !utf8.ValidString(out) || strings.ContainsAny(out, " \t\r\n") {
			t.Fatalf("%q is written %q", text, out)
		}
	})
}
