// Package alarms remembers what has happened to this node that people have to look
// at: until somebody says that they have, or it is over, or seven days have passed.
// It outlives the restart with which such things begin.
package alarms

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/holdfast-mesh/holdfast/access"
	"github.com/holdfast-mesh/holdfast/access/statefile"
	"github.com/holdfast-mesh/holdfast/mesh/facts"
	"github.com/holdfast-mesh/holdfast/pbs/rest"
)

// Kept is how long an alarm stays that nobody looks at.
const Kept = 7 * 24 * time.Hour

const maxFile = 64 << 10

// Alarms are those of this node. Its methods may be called concurrently.
type Alarms struct {
	file string
	now  func() time.Time

	mu  sync.Mutex
	all []facts.Alarm
}

// Open reads a file, if it is there. A file that cannot be read is no reason not to
// run: the error says so, and what was in it is forgotten.
func Open(file string, now func() time.Time) (*Alarms, error) {
	a := &Alarms{file: file, now: now}
	b, err := statefile.ReadSecret(file, maxFile)
	if errors.Is(err, fs.ErrNotExist) {
		return a, nil
	}
	if err == nil {
		err = json.Unmarshal(b, &a.all)
	}
	if err != nil {
		a.all = nil
		err = fmt.Errorf("read alarms of before from %s: %w", file, err)
	}
	return a, err
}

// Raise has an alarm be shown; the same key again is the same alarm, with the newest
// text. Without a text it ends. What cannot be written is shown until this process ends.
func (a *Alarms) Raise(key, text, hint string) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	i := slices.IndexFunc(a.all, func(v facts.Alarm) bool { return v.Key == key })
	text, hint = facts.Clean(text), facts.Clean(hint)
	switch {
	case text == "" && i < 0, i >= 0 && a.all[i].Text == text && a.all[i].Hint == hint:
		return nil
	case text == "":
		a.all = slices.Delete(a.all, i, i+1)
	case i < 0:
		a.all = append(a.all, facts.Alarm{Key: key, Text: text, Hint: hint, Since: a.now().Unix()})
	default:
		a.all[i].Text, a.all[i].Hint = text, hint
	}
	return a.write()
}

// Seen ends all: somebody has looked.
func (a *Alarms) Seen() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.all = nil
	return a.write()
}

// Shown is [Alarms.Raise] for who can do nothing about an error.
func (a *Alarms) Shown(log *slog.Logger) func(key, text, hint string) {
	return func(key, text, hint string) {
		if err := a.Raise(key, text, hint); err != nil {
			log.Error("an alarm is shown until the next restart only", "alarm", text, "err", err)
		}
	}
}

// Endpoint is where somebody says that they have looked.
func (a *Alarms) Endpoint() rest.Endpoint {
	return rest.Endpoint{
		Method: http.MethodDelete, Path: "/holdfast/alarms", Need: rest.Any(access.PrivSysModify, "/system/status"),
		Handle: func(context.Context, *rest.Call) (any, error) { return nil, a.Seen() },
	}
}

// List returns the alarms, the oldest first.
func (a *Alarms) List() []facts.Alarm {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.all = slices.DeleteFunc(a.all, func(v facts.Alarm) bool { return Old(v, a.now()) })
	return slices.Clone(a.all)
}

// Old tells whether an alarm is not shown any more.
func Old(v facts.Alarm, now time.Time) bool { return now.Sub(time.Unix(v.Since, 0)) > Kept }

func (a *Alarms) write() error {
	text, err := json.Marshal(a.all)
	if err == nil {
		_, err = statefile.WriteSecret(a.file, text, true)
	}
	if err != nil {
		return fmt.Errorf("note an alarm: %w", err)
	}
	return nil
}
