package jobs

import (
	"context"
	"regexp"
	"sync"
	"time"
)

// Turns says which tasks wait for each other: of those with the same word, that says
// what they do ("copies of datastore main"), at most n run at once. A task with the
// word "" waits for none.
type Turns func(u UPID) (word string, n int)

// PerStore are the turns of jobs on one datastore: so many copies run at once (pulls,
// pushes, offloads and exports), and so many verifications of all of it. Backups,
// restores, prunes and garbage collections wait for nobody: they are short, or what a
// full disk waits for.
func PerStore(copies, verifications int) Turns {
	return func(u UPID) (string, int) {
		switch u.Type {
		case "syncjob", "offloadjob", "exportjob":
			return "copies of datastore " + storeOf(u), copies
		case "verificationjob":
			return "verifications of datastore " + storeOf(u), verifications
		case "verify":
			if !snapshotID.MatchString(u.ID) { // else of one that has just been made
				return "verifications of datastore " + storeOf(u), verifications
			}
		}
		return "", 0
	}
}

var snapshotID = regexp.MustCompile(`/[0-9A-F]{8}$`)

// turns are those that tasks have, by their word.
type turns struct {
	mu sync.Mutex
	of map[string]chan struct{} // one element for each task that runs
}

func (t *turns) get(word string, n int) chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.of[word] == nil {
		t.of[word] = make(chan struct{}, max(n, 1))
	}
	return t.of[word]
}

// turn waits until a task may run.
func (m *Manager) turn(ctx context.Context, t *Task) (leave func(), err error) {
	if m.cfg.Turns == nil {
		return func() {}, nil
	}
	word, n := m.cfg.Turns(t.upid)
	if word == "" {
		return func() {}, nil
	}
	slots := m.turns.get(word, n)
	leave = func() { <-slots }
	select {
	case slots <- struct{}{}:
		return leave, nil
	default:
	}
	began := time.Now()
	t.Logf("waiting: %d %s run, and no more may", cap(slots), word)
	t.Progress(0, "waiting for its turn: "+word)
	select {
	case slots <- struct{}{}:
		t.Logf("waited %s", time.Since(began).Round(time.Second))
		t.Progress(0, "")
		return leave, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
