package jobs

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/holdfast-mesh/holdfast/jobs/timing"
)

// A run is what is remembered of a schedule between processes.
type run struct {
	Event string    `json:"event"`          // that Base belongs to
	Base  time.Time `json:"base"`           // the event counts from here
	Task  *UPID     `json:"task,omitempty"` // the last one
	End   time.Time `json:"end,omitzero"`   // of that task; zero: it runs, or died
	State string    `json:"state,omitempty"`
	Notes []Note    `json:"notes,omitempty"` // the newest last
	Past  []Ran     `json:"past,omitempty"`  // the newest last

	Cut    timing.AtEnd `json:"cut,omitempty"`    // the last run was stopped for its window, or its next time
	Paused bool         `json:"paused,omitempty"` // as it was last known
}

// runsFile is the file of a Scheduler.
type runsFile struct {
	Version int            `json:"version"` // 1
	Runs    map[string]run `json:"runs"`    // by the name of the schedule
}

// maxRuns bounds in bytes the file that is read: ten thousand schedules with
// the longest names and errors, many more with usual ones.
const maxRuns = 64 << 20

// readRuns reads the file name; there are none if it does not exist.
func readRuns(name string) (map[string]run, error) {
	f, err := os.Open(name)
	if errors.Is(err, os.ErrNotExist) {
		return map[string]run{}, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close() // it was only read
	data, err := io.ReadAll(io.LimitReader(f, maxRuns))
	if err != nil {
		return nil, err
	}
	return parseRuns(data)
}

// errDamaged is a file whose content makes no sense.
var errDamaged = errors.New("damaged")

func parseRuns(data []byte) (map[string]run, error) {
	var file runsFile
	if err := json.Unmarshal(data, &file); err != nil {
		return nil, fmt.Errorf("%w: %w", errDamaged, err)
	}
	if file.Version != 1 || file.Runs == nil {
		return nil, fmt.Errorf("%w: version %d, want 1", errDamaged, file.Version)
	}
	return file.Runs, nil
}

// writeRuns replaces the file name, durably.
func writeRuns(name string, runs map[string]run) error {
	data, err := json.MarshalIndent(runsFile{1, runs}, "", "\t")
	if err != nil {
		return err
	}
	return replaceFile(name, append(data, '\n'))
}
