package catalog

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"time"

	"github.com/holdfast-mesh/holdfast/catalog/retention"
	"github.com/holdfast-mesh/holdfast/chunks/disk"
)

// Settings are what an operator says of a datastore. They lie in
// settings.json. The zero value means the defaults.
type Settings struct {
	Comment     string      `json:"comment,omitempty"`
	Maintenance Maintenance `json:"maintenance-mode,omitzero"`
	TrashDelay  *Duration   `json:"trash-delay,omitempty"` // default DefaultTrashDelay
	VerifyNew   bool        `json:"verify-new,omitempty"`
}

// DefaultTrashDelay is how long a removed snapshot can be taken back.
const DefaultTrashDelay = 24 * time.Hour

// Maintenance is a state in which a datastore refuses work.
type Maintenance struct {
	Mode    Mode   `json:"type,omitempty"`
	Message string `json:"message,omitempty"` // for whoever is refused
}

// A Mode of maintenance. PBS has the same names.
type Mode string

// The modes of maintenance.
const (
	InService Mode = ""
	ReadOnly  Mode = "read-only"  // backups can be read
	Offline   Mode = "offline"    // nothing is touched
	S3Refresh Mode = "s3-refresh" // the same, while the files of a bucket are read; set by that alone
)

// access is what somebody is about to do.
type access bool

const (
	reading access = false
	writing access = true
)

// Duration is written as "36h0m0s".
type Duration = retention.Duration

const (
	settingsFile = "settings.json"
	guardFile    = "guard.json"
	waitingFile  = "trash.json"
	maxSettings  = 1 << 20 // bytes of either of the first two
)

// Settings reads the settings.
func (t Tree) Settings() (Settings, error) {
	var s Settings
	return s, t.readJSON(settingsFile, &s)
}

func (t Tree) readJSON(file string, into any) error {
	b, err := disk.ReadFile(t.FS, path.Join(t.Dir, file), maxSettings)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = json.Unmarshal(b, into)
	}
	if err != nil {
		return &opError{fmt.Sprintf("read %s: %v", path.Join(t.Dir, file), err), "mend the file by hand: it is JSON, and its fields are in docs/operations.md", err}
	}
	return nil
}

// WriteSettings replaces the settings of a datastore that is not open.
func (t Tree) WriteSettings(s Settings) error { return t.writeJSON(settingsFile, s) }

func (t Tree) writeJSON(file string, v any) error {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	return disk.WriteFileAtomic(t.FS, path.Join(t.Dir, file), append(b, '\n'), 0o644)
}

// Settings returns the settings.
func (d *Datastore) Settings() Settings {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.settings
}

// SetSettings replaces the settings, durably.
func (d *Datastore) SetSettings(s Settings) error {
	if err := s.Maintenance.Check(); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.writeJSON(settingsFile, s); err != nil {
		return fmt.Errorf("change settings: %w", err)
	}
	d.settings = s
	return nil
}

// may fails with ErrMaintenance if the datastore refuses such work now.
func (d *Datastore) may(a access, what string) error {
	if a == writing && d.above != nil {
		if err := d.above.Writable(); err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
	}
	m := d.Settings().Maintenance
	if m.Mode == InService || m.Mode == ReadOnly && a == reading {
		return nil
	}
	msg := fmt.Sprintf("%s: %v (%s)", what, ErrMaintenance, m.Mode)
	if m.Message != "" {
		msg += ": " + m.Message
	}
	return &opError{msg, "end it with: holdfast datastore maintenance --mode off", ErrMaintenance}
}

// Check refuses modes that there are not.
func (m Maintenance) Check() error {
	switch m.Mode {
	case InService, ReadOnly, Offline, S3Refresh:
		return nil
	}
	return fmt.Errorf("maintenance mode is %q, want read-only or offline", m.Mode)
}
