package traffic

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-mesh/holdfast/pbs/settings"
)

// rules reads "NAME NETWORKS RATE [TIME] [@USER]".
func rules(lines ...string) []settings.TrafficRule {
	var list []settings.TrafficRule
	for _, line := range lines {
		f := strings.Fields(line)
		r := settings.TrafficRule{Name: f[0], Networks: strings.Split(f[1], ","), RateIn: f[2], RateOut: f[2]}
		for _, extra := range f[3:] {
			if user, ok := strings.CutPrefix(extra, "@"); ok {
				r.Users = []string{user + "@pbs"}
			} else {
				r.Timeframe = append(r.Timeframe, strings.ReplaceAll(extra, "_", " "))
			}
		}
		list = append(list, r)
	}
	return list
}

func TestWhichRule(t *testing.T) {
	l := New()
	err := l.Set(rules(
		"all 0.0.0.0/0,::/0 10MiB",
		"lan 192.0.2.0/24 20MiB",
		"host 192.0.2.7/32 1MiB mon..fri_8-17",
		"mapped ::ffff:198.51.100.0/120 2MiB",
		"ann 192.0.2.0/24 3MiB @ann",
		"six 2001:db8::/32 4MiB",
	))
	if err != nil {
		t.Fatal(err)
	}
	noon := time.Date(2026, 11, 25, 12, 0, 0, 0, time.Local) // a Wednesday
	tests := []struct {
		name, from, user string
		now              time.Time
		want             string
	}{
		{"the only one", "203.0.113.9", "", noon, "all"},
		{"the most specific network", "192.0.2.8", "", noon, "lan"},
		{"in its time", "192.0.2.7", "", noon, "host"},
		{"not after it", "192.0.2.7", "", noon.Add(5 * time.Hour), "lan"},
		{"not on a Sunday", "192.0.2.7", "", noon.Add(-72 * time.Hour), "lan"},
		{"an IPv4 network written as IPv6", "198.51.100.3", "", noon, "mapped"},
		{"an address written as IPv6", "::ffff:192.0.2.8", "", noon, "lan"},
		{"IPv6", "2001:db8::1", "", noon, "six"},
		{"a user", "192.0.2.8", "ann@pbs", noon, "ann"},
		{"a user's token", "192.0.2.8", "ann@pbs!x", noon, "ann"},
		{"another user", "192.0.2.8", "bob@pbs", noon, "lan"},
	}
	for _, tt := range tests {
		got := l.find(netip.MustParseAddr(tt.from).Unmap(), tt.user, tt.now)
		if got == nil || got.Name != tt.want {
			t.Errorf("%s: %s at %v has %v, want %s", tt.name, tt.from, tt.now, got, tt.want)
		}
	}
}

func TestRulesThatMakeNoSense(t *testing.T) {
	l := New()
	if err := l.Set(rules("good 192.0.2.0/24 1MiB")); err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{"bad 192.0.2.0 1MiB", "bad 192.0.2.0/24 fast", "bad 192.0.2.0/24 10", "bad 192.0.2.0/24 1MiB 25-26", "bad ::ffff:0.0.0.0/64 1MiB"} {
		if err := l.Set(rules(line)); err == nil || !strings.Contains(err.Error(), "traffic rule bad") {
			t.Errorf("%s: error %v", line, err)
		}
	}
	if got := l.Rates(); len(got) != 1 || got[0].Name != "good" {
		t.Errorf("after refusals the rules are %+v", got)
	}
}

// pipeConn gives one end of a pipe an address.
type pipeConn struct {
	net.Conn
	from string
}

type addr string

func (addr) Network() string            { return "tcp" }
func (a addr) String() string           { return string(a) }
func (c pipeConn) RemoteAddr() net.Addr { return addr(c.from) }

// All connections of a rule share its rate, after the burst of one second.
func TestConnectionsShareARate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New()
		if err := l.Set(rules("all 0.0.0.0/0 1MiB")); err != nil {
			t.Fatal(err)
		}
		const each = 4 << 20
		start, done := time.Now(), make(chan error)
		for range 2 {
			near, far := net.Pipe()
			c := l.Wrap(pipeConn{near, "192.0.2.1:1234"})
			go func() { io.Copy(io.Discard, far) }()
			go func() {
				_, err := c.Write(make([]byte, each))
				done <- errors.Join(err, c.Close())
			}()
		}
		for range 2 {
			if err := <-done; err != nil {
				t.Fatal(err)
			}
		}
		// 8 MiB, of which 1 MiB is the burst, at 1 MiB/s.
		if took := time.Since(start); took < 6900*time.Millisecond || took > 7100*time.Millisecond {
			t.Errorf("it took %v, want 7 s", took)
		}
	})
}

// Reading is limited too, and a change of the rules holds for a connection that
// is there.
func TestReadsAreLimitedAndRulesChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New()
		if err := l.Set(rules("all 0.0.0.0/0 1MiB")); err != nil {
			t.Fatal(err)
		}
		near, far := net.Pipe()
		c := l.Wrap(pipeConn{near, "192.0.2.1:1234"})
		defer c.Close()
		go func() {
			far.Write(make([]byte, 16<<20))
			far.Close()
		}()
		start := time.Now()
		if _, err := io.CopyN(io.Discard, c, 4<<20); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took < 2900*time.Millisecond || took > 3200*time.Millisecond {
			t.Errorf("4 MiB took %v, want 3 s", took)
		}
		if got := l.Rates()[0].In; got < 900<<10 || got > 1100<<10 {
			t.Errorf("the rate is said to be %d", got)
		}
		if err := l.Set(rules("all 0.0.0.0/0 4MiB")); err != nil {
			t.Fatal(err)
		}
		start = time.Now()
		if _, err := io.CopyN(io.Discard, c, 8<<20); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took > 2200*time.Millisecond {
			t.Errorf("8 MiB at 4 MiB/s took %v", took)
		}
	})
}

func TestParseBytes(t *testing.T) {
	for text, want := range map[string]int64{"500": 500, "10 MB": 10_000_000, "1.5 GiB": 3 << 29, "20M": 20_000_000, "7KiB": 7 << 10, "0": 0, "3 b": 3} {
		if got, err := ParseBytes(text); err != nil || got != want {
			t.Errorf("%q: %d, %v; want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"", "-1", "fast", "1 XB", "99999999 EiB", "1e9"} {
		if got, err := ParseBytes(text); err == nil {
			t.Errorf("%q gave %d", text, got)
		}
	}
}

// An amount that is written is read as about the same.
func FuzzBytes(f *testing.F) {
	f.Add("10 MiB")
	f.Add("1.25TB")
	f.Fuzz(func(t *testing.T, s string) {
		n, err := ParseBytes(s)
		if err != nil {
			return
		}
		again, err := ParseBytes(formatBytes(n))
		if diff := float64(again - n); err != nil || n < 0 || diff > float64(n)/1000+1 || -diff > float64(n)/1000+1 {
			t.Errorf("%q is %d, written %q, read %d, %v", s, n, formatBytes(n), again, err)
		}
	})
}
