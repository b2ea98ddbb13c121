package notify

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// An inbox is a target in memory that can be made to fail.
type inbox struct {
	mu   sync.Mutex
	got  []Message
	down bool
	hang bool
}

func (b *inbox) Send(ctx context.Context, m Message) error {
	b.mu.Lock()
	down, hang := b.down, b.hang
	b.mu.Unlock()
	if hang {
		<-ctx.Done()
		return ctx.Err()
	}
	if down {
		return errors.New("connection refused")
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.got = append(b.got, m)
	return nil
}

func (b *inbox) messages() []Message {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.got)
}

func (b *inbox) set(down bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.down = down
}

func (b *inbox) events() (n int) {
	for _, m := range b.messages() {
		n += m.Count
	}
	return n
}

// rulesTo sends everything to all.
func rulesTo(all ...Recipient) func() Rules {
	m := Matcher{Name: "all"}
	for _, r := range all {
		m.Targets = append(m.Targets, r.Name)
	}
	return func() Rules { return Rules{Recipients: all, Matchers: []Matcher{m}} }
}

func open(t *testing.T, file string, rules func() Rules, claimer Claimer) *Notifier {
	t.Helper()
	n, err := New(Config{File: file, From: "home", Rules: rules, Claimer: claimer})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// run runs n until the returned function is called.
func run(t *testing.T, n *Notifier) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- n.Run(ctx) }()
	return func() {
		cancel()
		if err := errors.Join(<-done, n.Close()); err != nil {
			t.Error(err)
		}
	}
}

// A burst is two mails, in which every event is counted.
func TestTenThousandEventsInAMinute(t *testing.T) {
	file := filepath.Join(t.TempDir(), "queue")
	synctest.Test(t, func(t *testing.T) {
		box := &inbox{}
		n := open(t, file, rulesTo(Recipient{Name: "mail", Target: box}), nil)
		stop := run(t, n)
		for i := range 10_000 {
			n.Tell(Event{Type: "verify", Severity: Error, Title: fmt.Sprint("chunk ", i, " is damaged")})
			time.Sleep(6 * time.Millisecond)
		}
		time.Sleep(2 * time.Minute)
		stop()
		if got := len(box.messages()); got > 2 || box.events() != 10_000 {
			t.Errorf("%d mails with %d events, want at most 2 with 10000", got, box.events())
		}
	})
}

func TestOneEventIsItsOwnMessage(t *testing.T) {
	file := filepath.Join(t.TempDir(), "queue")
	synctest.Test(t, func(t *testing.T) {
		box := &inbox{}
		n := open(t, file, rulesTo(Recipient{Name: "mail", Target: box}), nil)
		stop := run(t, n)
		n.Tell(Event{Type: "gc", Severity: Info, Title: "garbage\ncollection", Text: "freed 3 GiB", Fields: map[string]string{"datastore": "main"}})
		time.Sleep(gather + 2*settle)
		stop()
		m := box.messages()
		if len(m) != 1 || m[0].Subject != "garbage collection" || !strings.HasPrefix(m[0].Text, "freed 3 GiB\n") || m[0].Fields["datastore"] != "main" || m[0].Fields["type"] != "gc" {
			t.Errorf("sent %+v", m)
		}
	})
}

// What waits survives a restart, and what was told is not told again.
func TestRestart(t *testing.T) {
	file := filepath.Join(t.TempDir(), "queue")
	synctest.Test(t, func(t *testing.T) {
		box := &inbox{down: true}
		rules := rulesTo(Recipient{Name: "mail", Target: box})
		for round := range 3 {
			n := open(t, file, rules, nil)
			stop := run(t, n)
			n.Tell(Event{Type: "sync", Severity: Error, Title: fmt.Sprint("round ", round)})
			n.Tell(Event{Type: "capacity", Severity: Warning, Title: "disk is full", Key: "full"})
			time.Sleep(time.Minute)
			stop()
		}
		box.set(false)
		n := open(t, file, rules, nil)
		if got := n.Status()[0].Waiting; got != 4 {
			t.Errorf("%d events wait, want 4", got)
		}
		stop := run(t, n)
		time.Sleep(time.Hour)
		stop()
		if got := box.events(); got != 4 {
			t.Errorf("%d events told, want 3 and 1 that came three times", got)
		}
		n = open(t, file, rules, nil)
		stop = run(t, n)
		time.Sleep(time.Hour)
		stop()
		if got := box.events(); got != 4 {
			t.Errorf("%d events told after another restart, want 4", got)
		}
	})
}

// A target that hangs or is away holds up neither who reports nor other targets,
// and hears everything when it is back.
func TestTargetsDoNotWaitForEachOther(t *testing.T) {
	file := filepath.Join(t.TempDir(), "queue")
	synctest.Test(t, func(t *testing.T) {
		well, away, stuck := &inbox{}, &inbox{down: true}, &inbox{hang: true}
		n := open(t, file, rulesTo(Recipient{Name: "a", Target: stuck}, Recipient{Name: "b", Target: away}, Recipient{Name: "c", Target: well}), nil)
		stop := run(t, n)
		before := time.Now()
		n.Tell(Event{Type: "sync", Severity: Error, Title: "one"})
		if time.Since(before) != 0 {
			t.Error("to report an event took time")
		}
		time.Sleep(2 * gather)
		if well.events() != 1 {
			t.Error("the target that is well has heard nothing")
		}
		n.Tell(Event{Type: "sync", Severity: Error, Title: "two"})
		time.Sleep(5 * time.Hour)
		away.set(false)
		time.Sleep(retryMost + time.Minute)
		if away.events() != 2 || well.events() != 2 {
			t.Errorf("told %d and %d events, want 2 and 2", away.events(), well.events())
		}
		if st := n.Status(); st[0].Error == "" || st[0].Waiting != 2 || st[1].Error != "" || st[1].Waiting != 0 {
			t.Errorf("status %+v", st)
		}
		stop()
	})
}

// Errors do not wait for the time of a digest.
func TestInterval(t *testing.T) {
	file := filepath.Join(t.TempDir(), "queue")
	synctest.Test(t, func(t *testing.T) {
		box := &inbox{}
		n := open(t, file, rulesTo(Recipient{Name: "mail", Target: box, Interval: 12 * time.Hour}), nil)
		stop := run(t, n)
		for range 24 {
			n.Tell(Event{Type: "prune", Severity: Info, Title: "pruned"})
			time.Sleep(time.Hour)
		}
		if got := len(box.messages()); got != 2 {
			t.Errorf("%d messages in a day, want 2", got)
		}
		n.Tell(Event{Type: "sync", Severity: Error, Title: "failed"})
		time.Sleep(2 * gather)
		if got := box.messages(); len(got) != 3 || got[2].Severity != Error || got[2].Count != 12 {
			t.Errorf("an error is told in %d messages, the last %+v", len(got), got[len(got)-1])
		}
		stop()
	})
}

// A ledger is claimed by the first.
type claims struct {
	mu   sync.Mutex
	down bool
	mine map[string]string
}

type claimer struct {
	*claims
	node string
}

func (c claimer) Claim(_ context.Context, key string, _ time.Time) (bool, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.down {
		return false, errors.New("no quorum")
	}
	if c.mine[key] == "" {
		c.mine[key] = c.node
	}
	return c.mine[key] == c.node, nil
}

func TestMeshTellsOnce(t *testing.T) {
	dir := t.TempDir()
	for _, down := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			all, box := &claims{mine: map[string]string{}, down: down}, &inbox{}
			var stops []func()
			for i := range 3 {
				n := open(t, filepath.Join(dir, fmt.Sprint(down, i)), rulesTo(Recipient{Name: "mail", Target: box}), claimer{all, fmt.Sprint(i)})
				stops = append(stops, run(t, n))
				n.Tell(Event{Type: "unreachable", Severity: Error, Title: "dc is gone", Key: "gone/dc", Shared: true})
			}
			time.Sleep(claimTime - time.Minute)
			want := 1
			if down {
				want = 0
			}
			if got := box.events(); got != want {
				t.Errorf("down %v: %d nodes have told, want %d", down, got, want)
			}
			if down { // rather three times than never
				want = 3
			}
			time.Sleep(2 * time.Minute)
			if got := box.events(); got != want {
				t.Errorf("down %v, later: %d nodes have told, want %d", down, got, want)
			}
			for _, stop := range stops {
				stop()
			}
		})
	}
}

// What is too much to be kept one by one is still counted.
func TestOverflowIsCounted(t *testing.T) {
	file := filepath.Join(t.TempDir(), "queue")
	synctest.Test(t, func(t *testing.T) {
		box := &inbox{}
		rules := rulesTo(Recipient{Name: "mail", Target: box})
		n := open(t, file, rules, nil)
		const many = maxEntries + 10
		for range many {
			n.Tell(Event{Type: "verify", Severity: Error, Title: "x"})
		}
		if len(n.queue.entries) > maxEntries {
			t.Errorf("%d entries are kept", len(n.queue.entries))
		}
		if err := n.Close(); err != nil {
			t.Fatal(err)
		}
		n = open(t, file, rules, nil)
		stop := run(t, n)
		time.Sleep(time.Minute)
		stop()
		if got := box.events(); got != many {
			t.Errorf("told %d events, want %d", got, many)
		}
	})
}

// A file that was cut off or changed at any place opens, with what stands in
// front of that place.
func TestDamagedQueue(t *testing.T) {
	dir := t.TempDir()
	whole := filepath.Join(dir, "whole")
	n := open(t, whole, rulesTo(Recipient{Name: "mail", Target: &inbox{}}), nil)
	for i := range 5 {
		n.Tell(Event{Type: "sync", Severity: Error, Title: fmt.Sprint(i)})
	}
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(whole)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(data); i += 7 {
		file := filepath.Join(dir, "cut")
		damaged := slices.Clone(data)
		damaged[i] ^= 0x20
		for _, content := range [][]byte{data[:i], damaged} {
			if err := os.WriteFile(file, content, 0o600); err != nil {
				t.Fatal(err)
			}
			q, err := openQueue(file)
			if err != nil {
				t.Fatal(err)
			}
			if want := strings.Count(string(data[:i]), "\n"); len(q.entries) != want {
				t.Fatalf("cut or changed at %d: %d entries, want %d", i, len(q.entries), want)
			}
			if err := q.do(record{Put: &entry{N: q.next, Event: Event{Title: "after"}, To: []string{"mail"}}}); err != nil {
				t.Fatal(err)
			}
			had := len(q.entries)
			if err := q.close(); err != nil {
				t.Fatal(err)
			}
			if q, err = openQueue(file); err != nil || len(q.entries) != had {
				t.Fatalf("what came after the damage is not read: %v", err)
			}
			q.close()
		}
	}
}

// A file of much past becomes small, and stays the same queue.
func TestQueueIsWrittenAnew(t *testing.T) {
	file := filepath.Join(t.TempDir(), "queue")
	q, err := openQueue(file)
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Repeat("x", 4000)
	for i := range 400 {
		q.do(record{Put: &entry{N: q.next, Event: Event{Text: text, Key: fmt.Sprint(i), Time: time.Now(), Hold: time.Hour}, To: []string{"mail", "push"}}})
	}
	q.do(record{Sent: &sent{"mail", q.next - 1}})
	q.do(record{Sent: &sent{"push", q.next - 2}})
	if err := q.tidyUp(time.Now()); err != nil {
		t.Fatal(err)
	}
	if q.size > 64<<10 {
		t.Errorf("the file has %d bytes", q.size)
	}
	next := q.next
	if err := q.close(); err != nil {
		t.Fatal(err)
	}
	q, err = openQueue(file)
	if err != nil {
		t.Fatal(err)
	}
	defer q.close()
	if len(q.entries) != 1 || q.next != next || len(q.told) != 400 || len(q.waiting("push")) != 1 || len(q.waiting("mail")) != 0 {
		t.Errorf("read again: %d entries, next %d, %d keys", len(q.entries), q.next, len(q.told))
	}
}

// Whatever a file has in it, it is read without harm, and what is read can be
// written anew.
func FuzzQueue(f *testing.F) {
	f.Add(encode(record{Put: &entry{N: 1, Event: Event{Title: "x"}, To: []string{"a"}}}))
	f.Add(append(encode(record{Start: &start{7}}), encode(record{Fold: 3})...))
	f.Add([]byte("00000000 {}\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		q := &queue{next: 1, told: map[string]time.Time{}, tallies: map[string][]tally{}}
		if good := q.replay(data); good > len(data) {
			t.Errorf("%d of %d bytes are good", good, len(data))
		}
		q.targets()
		// The sums keep most mutations out, so records are fed to it as well.
		if r, err := decode(fmt.Appendf(nil, "%s", strings.TrimSuffix(string(data), "\n"))); err == nil {
			q.apply(r)
		}
	})
}
