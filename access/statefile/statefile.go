// Package statefile keeps a value that many read and few change in one JSON
// file with the mode 0600: the accounts of a node, its settings.
//
// Readers get an immutable value without a lock. A change is made to a copy,
// checked, written to a temporary file, synced, renamed into place, and only
// then seen by readers; a crash leaves the old file or the new one. One
// process has the file, and what was changed behind its back is not
// overwritten.
package statefile

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"sync/atomic"
)

// A Kind says what a file holds.
type Kind[T any] struct {
	Name    string // for messages: "accounts"
	Version int    // of the format that this program writes; from 1
	Limit   int64  // of the file, in bytes

	New   func() *T      // what there is without a file
	Clone func(*T) *T    // a copy that shares nothing
	Tidy  func(*T)       // makes equal values equal as JSON
	Check func(*T) error // what is wrong with a value
	Loss  string         // what is left if the file is gone or damaged: "only root@pam is left"
}

// A File is a value in a file.
type File[T any] struct {
	kind  Kind[T]
	path  string
	state atomic.Pointer[T]

	mu      sync.Mutex
	content []byte // of the file, as far as we know; nil: there is none
}

// Open reads the file at path. If there is none, the value is Kind.New's, and
// the first change makes the file. Fields that this program does not know are
// refused, since it would lose them with the next change.
func Open[T any](path string, kind Kind[T]) (*File[T], error) {
	if err := RemoveTemps(path); err != nil {
		return nil, fmt.Errorf("read %s %s: %w", kind.Name, path, err)
	}
	f := &File[T]{path: path, kind: kind}
	return f, f.Reload()
}

func (f *File[T]) String() string { return f.kind.Name + " " + f.path }

// Path returns where the file is, or will be.
func (f *File[T]) Path() string { return f.path }

// Reload reads the file again, as after an edit by hand. If that fails, the
// value stays as it was.
func (f *File[T]) Reload() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	content, err := f.read()
	if err != nil {
		return fmt.Errorf("read %s: %w", f, err)
	}
	state := f.kind.New()
	if content != nil {
		if state, err = f.kind.Decode(content); err != nil {
			return fmt.Errorf("read %s: %w", f, err)
		}
	}
	f.content = content
	f.state.Store(state)
	return nil
}

// read returns the content of the file, nil if there is none.
func (f *File[T]) read() ([]byte, error) {
	content, err := ReadSecret(f.path, f.kind.Limit)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return content, err
}

// State returns the newest value, which nobody may change. As long as nothing
// has changed it is the same pointer.
func (f *File[T]) State() *T { return f.state.Load() }

// Update runs change on a copy of the newest value and returns when the result
// is durable and State shows it. If change fails, nothing is changed and its
// error is returned as it is.
func (f *File[T]) Update(ctx context.Context, change func(*T) error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	next := f.kind.Clone(f.State())
	if err := change(next); err != nil {
		return err
	}
	f.kind.Tidy(next)
	if err := f.write(next); err != nil {
		return fmt.Errorf("change %s: %w", f, err)
	}
	return nil
}

// write stores next, unless nothing has changed.
func (f *File[T]) write(next *T) error {
	if err := f.kind.Check(next); err != nil {
		return err
	}
	content, err := f.kind.Encode(next)
	if err != nil {
		return err
	}
	found, err := f.read()
	if err != nil {
		return err
	}
	switch {
	case found == nil && f.content != nil:
		return &Error{errors.New("the file is gone"), "put it back, or restart the node: then " + f.kind.Loss}
	case !bytes.Equal(found, f.content):
		return &Error{
			errors.New("the file was changed by another program since it was read"),
			"make the node read it again (restart it, or send it SIGHUP), then repeat the change",
		}
	case bytes.Equal(content, found):
		return nil
	}
	placed, err := WriteSecret(f.path, content, true)
	if placed {
		f.content = content
		f.state.Store(next)
	}
	return err
}

// Encode writes a value as the file has it, the version first.
func (k Kind[T]) Encode(v *T) ([]byte, error) {
	content, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	head := fmt.Appendf(nil, `{"version":%d`, k.Version)
	if len(content) > len("{}") {
		head = append(head, ',')
	}
	content = append(head, content[1:]...)
	var out bytes.Buffer
	if err := json.Indent(&out, content, "", "\t"); err != nil {
		return nil, err
	}
	out.WriteByte('\n')
	if int64(out.Len()) >= k.Limit {
		return nil, fmt.Errorf("the file would have %d bytes, want less than %d", out.Len(), k.Limit)
	}
	return out.Bytes(), nil
}

// Decode reads what Encode wrote.
func (k Kind[T]) Decode(content []byte) (*T, error) {
	var head struct {
		Version int `json:"version"`
	}
	members := map[string]json.RawMessage{}
	err := json.Unmarshal(content, &head)
	if err == nil {
		err = json.Unmarshal(content, &members)
	}
	switch {
	case err != nil:
		return nil, &Error{err, "restore the file from a backup of this machine; without it, " + k.Loss}
	case head.Version > k.Version:
		return nil, &Error{
			fmt.Errorf("it has format %d, this program knows up to %d", head.Version, k.Version),
			"upgrade holdfast on this machine",
		}
	case head.Version < 1:
		return nil, fmt.Errorf("it has no format version, so it is not a file of %s", k.Name)
	}
	delete(members, "version")
	rest, err := json.Marshal(members)
	if err != nil {
		return nil, err
	}
	d := json.NewDecoder(bytes.NewReader(rest))
	d.DisallowUnknownFields()
	v := new(T)
	if err := d.Decode(v); err != nil {
		return nil, &Error{err, "an unknown field comes from a newer holdfast or from an edit by hand: upgrade, or remove it"}
	}
	k.Tidy(v)
	if err := k.Check(v); err != nil {
		return nil, err
	}
	return v, nil
}
