package notify

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// A queue is what is still to be told, in a file. Every change is a line that is
// appended: the CRC-32C of what follows in eight hexadecimal digits, a space,
// and a record in JSON. A line that a crash has cut off is cut off, with all
// behind it. When most of the file is of the past, it is written anew.
//
// It is not safe for concurrent use.
type queue struct {
	path  string
	file  *os.File // nil: it cannot be written
	size  int64
	base  int64 // size of the file when it was written anew
	dirty bool  // something was written since the last sync

	next    uint64 // number of the next entry
	entries []*entry
	bytes   int                  // of the texts of entries
	told    map[string]time.Time // keys, and until when they are not told again
	tallies map[string][]tally   // by target: events that became too many
}

// An entry is an event that waits for targets.
type entry struct {
	N     uint64   `json:"n"`
	Event Event    `json:"event"`
	To    []string `json:"to"` // that have not heard of it
}

// A record is one change of a queue; one of its fields is set.
type record struct {
	Put   *entry             `json:"put,omitempty"`
	Sent  *sent              `json:"sent,omitempty"`
	Drop  uint64             `json:"drop,omitempty"`  // an entry that nobody needs to hear of
	Fold  uint64             `json:"fold,omitempty"`  // entries up to this one are only counted from now on
	Start *start             `json:"start,omitempty"` // of a file that was written anew
	Told  map[string]int64   `json:"told,omitempty"`  // Unix seconds
	Tally map[string][]tally `json:"tally,omitempty"`
}

// A sent says that a target has heard of everything up to a number.
type sent struct {
	Target string `json:"target"`
	UpTo   uint64 `json:"up-to"`
}

type start struct {
	Next uint64 `json:"next"`
}

// What a queue holds. The oldest half of what is more is only counted.
const (
	maxEntries = 50_000
	maxBytes   = 32 << 20
	maxTold    = 10_000 // keys
	maxFile    = 256 << 20

	rewriteAt = 1 << 20 // bytes of a file that may be written anew
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// openQueue reads the queue at path, or begins one.
func openQueue(path string) (*queue, error) {
	q := &queue{path: path, next: 1, told: map[string]time.Time{}, tallies: map[string][]tally{}}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(data) > maxFile {
		err = fmt.Errorf("%s has more than %d MiB", path, maxFile>>20)
	}
	if err == nil {
		q.size = int64(q.replay(data))
		if q.size < int64(len(data)) {
			err = f.Truncate(q.size)
		}
	}
	if err == nil {
		_, err = f.Seek(q.size, io.SeekStart)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	q.file = f
	return q, nil
}

// replay reads records, and returns how many bytes of data are whole lines.
func (q *queue) replay(data []byte) (good int) {
	for {
		end := bytes.IndexByte(data[good:], '\n')
		if end < 0 {
			return good
		}
		r, err := decode(data[good : good+end])
		if err != nil {
			return good
		}
		q.apply(r)
		good += end + 1
	}
}

func decode(line []byte) (r record, err error) {
	if len(line) < 10 || line[8] != ' ' {
		return r, errors.New("a line is too short")
	}
	body := line[9:]
	if want := fmt.Sprintf("%08x", crc32.Checksum(body, castagnoli)); want != string(line[:8]) {
		return r, errors.New("a line does not match its sum")
	}
	return r, json.Unmarshal(body, &r)
}

func encode(r record) []byte {
	body, err := json.Marshal(r)
	if err != nil {
		panic(fmt.Sprintf("a record of plain values cannot be written: %v", err))
	}
	return fmt.Appendf(nil, "%08x %s\n", crc32.Checksum(body, castagnoli), body)
}

// apply makes the change of a record. It is how a queue changes, when it is
// read as when it is used.
func (q *queue) apply(r record) {
	switch {
	case r.Put != nil:
		q.put(*r.Put)
	case r.Sent != nil:
		q.sent(r.Sent.Target, r.Sent.UpTo)
	case r.Drop != 0:
		q.remove(func(e *entry) bool { return e.N == r.Drop })
	case r.Fold != 0:
		q.fold(r.Fold)
	case r.Start != nil:
		q.next = max(q.next, r.Start.Next)
	}
	for key, until := range r.Told {
		q.told[key] = time.Unix(until, 0)
	}
	for target, list := range r.Tally {
		for _, t := range list {
			q.count(target, t)
		}
	}
}

func (q *queue) put(e entry) {
	if e.Event.Key != "" {
		q.told[e.Event.Key] = e.Event.Time.Add(e.Event.Hold)
	}
	q.next = max(q.next, e.N+1)
	if len(e.To) > 0 {
		q.entries = append(q.entries, &e)
		q.bytes += weight(e.Event)
	}
}

func weight(e Event) int { return len(e.Title) + len(e.Text) + 200 }

func (q *queue) sent(target string, upTo uint64) {
	delete(q.tallies, target)
	q.remove(func(e *entry) bool {
		if e.N <= upTo && !e.Event.Shared {
			e.To = slices.DeleteFunc(e.To, func(t string) bool { return t == target })
		}
		return len(e.To) == 0
	})
}

func (q *queue) remove(gone func(*entry) bool) {
	q.entries = slices.DeleteFunc(q.entries, func(e *entry) bool {
		if !gone(e) {
			return false
		}
		q.bytes -= weight(e.Event)
		return true
	})
}

// fold counts entries up to a number, and forgets what they say.
func (q *queue) fold(upTo uint64) {
	q.remove(func(e *entry) bool {
		if e.N > upTo {
			return false
		}
		for _, target := range e.To {
			q.count(target, tally{e.Event.Severity, e.Event.Type, 1})
		}
		return true
	})
}

func (q *queue) count(target string, t tally) {
	list := q.tallies[target]
	i := slices.IndexFunc(list, func(o tally) bool { return o.Severity == t.Severity && o.Type == t.Type })
	if i < 0 {
		q.tallies[target] = append(list, t)
		return
	}
	list[i].Count += t.Count
}

// do makes a change and writes it down. If that fails, the change stands, until
// the process ends.
func (q *queue) do(r record) error {
	q.apply(r)
	if err := q.write(encode(r)); err != nil {
		return err
	}
	if len(q.entries) > maxEntries || q.bytes > maxBytes {
		fold := record{Fold: q.entries[len(q.entries)/2].N}
		q.apply(fold)
		return q.write(encode(fold))
	}
	return nil
}

func (q *queue) write(line []byte) error {
	if q.file == nil {
		return q.rewrite(time.Now())
	}
	_, err := q.file.WriteAt(line, q.size)
	if err == nil {
		q.size, q.dirty = q.size+int64(len(line)), true
	}
	return err
}

// sync makes durable what was written.
func (q *queue) sync() error {
	if !q.dirty || q.file == nil {
		return nil
	}
	q.dirty = false
	return q.file.Sync()
}

// waiting returns the entries that a target has not heard of, but those that
// have to be claimed first.
func (q *queue) waiting(target string) (list []*entry) {
	for _, e := range q.entries {
		if !e.Event.Shared && slices.Contains(e.To, target) {
			list = append(list, e)
		}
	}
	return list
}

// unclaimed returns the entries that have to be claimed.
func (q *queue) unclaimed() (list []entry) {
	for _, e := range q.entries {
		if e.Event.Shared {
			list = append(list, *e)
		}
	}
	return list
}

// targets returns all for whom something waits that need not be claimed.
func (q *queue) targets() []string {
	all := map[string]bool{}
	for t := range q.tallies {
		all[t] = true
	}
	for _, e := range q.entries {
		for _, t := range e.To {
			all[t] = all[t] || !e.Event.Shared
		}
	}
	maps.DeleteFunc(all, func(_ string, waits bool) bool { return !waits })
	return slices.Sorted(maps.Keys(all))
}

// tidyUp forgets keys whose time is over, and writes the file anew if most of it
// is of the past.
func (q *queue) tidyUp(now time.Time) error {
	maps.DeleteFunc(q.told, func(_ string, until time.Time) bool { return !until.After(now) })
	for len(q.told) > maxTold { // any: they are told once more, at worst
		for key := range q.told {
			delete(q.told, key)
			break
		}
	}
	if q.size < max(rewriteAt, 4*q.base) {
		return nil
	}
	return q.rewrite(now)
}

// rewrite puts a file of the same content, without its past, in place of the
// file.
func (q *queue) rewrite(now time.Time) (err error) {
	var b bytes.Buffer
	b.Write(encode(record{Start: &start{q.next}}))
	told := map[string]int64{}
	for key, until := range q.told {
		if until.After(now) {
			told[key] = until.Unix()
		}
	}
	b.Write(encode(record{Told: told}))
	b.Write(encode(record{Tally: q.tallies}))
	for _, e := range q.entries {
		b.Write(encode(record{Put: e}))
	}
	temp := q.path + ".new"
	f, err := os.OpenFile(temp, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b.Bytes())
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = os.Rename(temp, q.path)
	}
	if err != nil {
		return errors.Join(err, f.Close())
	}
	if q.file != nil {
		q.file.Close() // its content is in the new one
	}
	q.file, q.size, q.base, q.dirty = f, int64(b.Len()), int64(b.Len()), false
	return syncDir(filepath.Dir(q.path))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	err = d.Sync()
	if errors.Is(err, fs.ErrInvalid) { // not every system can
		err = nil
	}
	return errors.Join(err, d.Close())
}

func (q *queue) close() error {
	if q.file == nil {
		return nil
	}
	err := errors.Join(q.sync(), q.file.Close())
	q.file = nil
	return err
}
