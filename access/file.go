package access

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

const (
	// stateVersion is the version of the file that this program writes.
	stateVersion = 1
	// maxStateFile bounds the file: some 50,000 accounts.
	maxStateFile = 32 << 20
)

// A FileStore is a [Store] in one JSON file with the mode 0600. One process
// has it; a file that was changed behind its back is not overwritten.
type FileStore struct {
	path  string
	state atomic.Pointer[State]

	mu      sync.Mutex
	content []byte // of the file, as far as we know; nil: there is none
}

// stateFile is the file: the version beside what State holds.
type stateFile struct {
	Version int `json:"version"`
	*State
}

// OpenFile reads the state at path. If there is no file, the state is that of
// a new node, with root@pam and nobody else, and the first change makes the
// file. Fields that this program does not know are refused, since it would
// lose them with the next change.
func OpenFile(path string) (*FileStore, error) {
	if err := removeTemps(path); err != nil {
		return nil, fmt.Errorf("read accounts %s: %w", path, err)
	}
	s := &FileStore{path: path}
	return s, s.Reload()
}

func (s *FileStore) String() string { return "accounts " + s.path }

// Reload reads the file again, as after an edit by hand. If that fails, the
// state stays as it was.
func (s *FileStore) Reload() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	content, err := s.read()
	if err != nil {
		return fmt.Errorf("read accounts %s: %w", s.path, err)
	}
	state := newState()
	if content != nil {
		if state, err = decodeState(content); err != nil {
			return fmt.Errorf("read accounts %s: %w", s.path, err)
		}
	}
	s.content = content
	s.state.Store(state)
	return nil
}

// read returns the content of the file, nil if there is none.
func (s *FileStore) read() ([]byte, error) {
	content, err := readSecret(s.path, maxStateFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return content, err
}

// State returns the newest state; see [Store].
func (s *FileStore) State() *State { return s.state.Load() }

// Update changes the state; see [Store].
func (s *FileStore) Update(ctx context.Context, change func(*State) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	next := s.State().Clone()
	if err := change(next); err != nil {
		return err
	}
	next.tidy()
	if err := s.write(next); err != nil {
		return fmt.Errorf("change accounts %s: %w", s.path, err)
	}
	return nil
}

// write stores next, unless nothing has changed.
func (s *FileStore) write(next *State) error {
	if err := next.Check(); err != nil {
		return err
	}
	content, err := encodeState(next)
	if err != nil {
		return err
	}
	found, err := s.read()
	if err != nil {
		return err
	}
	switch {
	case found == nil && s.content != nil:
		return &fileError{errors.New("the file is gone"), "put it back, or restart the node to begin with no users"}
	case !bytes.Equal(found, s.content):
		return &fileError{
			errors.New("the file was changed by another program since it was read"),
			"make the node read it again (restart it, or send it SIGHUP), then repeat the change",
		}
	case bytes.Equal(content, found):
		return nil
	}
	placed, err := writeSecret(s.path, content, true)
	if placed {
		s.content = content
		s.state.Store(next)
	}
	return err
}

func encodeState(s *State) ([]byte, error) {
	content, err := json.MarshalIndent(stateFile{stateVersion, s}, "", "\t")
	if err != nil {
		return nil, err
	}
	if len(content) >= maxStateFile {
		return nil, fmt.Errorf("the file would have %d bytes, want less than %d", len(content), maxStateFile)
	}
	return append(content, '\n'), nil
}

// decodeState reads what encodeState wrote.
func decodeState(content []byte) (*State, error) {
	var head struct {
		Version int `json:"version"`
	}
	if err := json.Unmarshal(content, &head); err != nil {
		return nil, &fileError{err, "restore the file from a backup of this machine; without it, only root@pam is left"}
	}
	switch {
	case head.Version > stateVersion:
		return nil, &fileError{
			fmt.Errorf("it has format %d, this program knows up to %d", head.Version, stateVersion),
			"upgrade holdfast on this machine",
		}
	case head.Version < 1:
		return nil, errors.New("it has no format version, so it is not a file of accounts")
	}
	d := json.NewDecoder(bytes.NewReader(content)) // that it is one value is known by now
	d.DisallowUnknownFields()
	file := stateFile{State: &State{}}
	if err := d.Decode(&file); err != nil {
		return nil, &fileError{err, "an unknown field comes from a newer holdfast or from an edit by hand: upgrade, or remove it"}
	}
	file.tidy()
	if err := file.Check(); err != nil {
		return nil, err
	}
	return file.State, nil
}
