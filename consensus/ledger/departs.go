package ledger

import (
	"bytes"
	"fmt"
	"strconv"
)

// A Departure is a snapshot of another history: what was command From here is another
// one there, or none. Commands that were applied have been agreed on, so that the
// cluster has lost them.
type Departure struct{ From, To uint64 }

func (d *Departure) Error() string {
	return fmt.Sprintf("%v: commands %d to %d are not those that were applied here", ErrSnapshot, d.From, d.To)
}

func (d *Departure) Unwrap() error { return ErrSnapshot }

// Departs returns the first command that differs, and the newest that was applied here.
func (d *Departure) Departs() (from, to uint64) { return d.From, d.To }

// departs compares the records of commands that both states still have.
func departs(ours, theirs View) error {
	oldest := ""
	for key := range Audits.All(theirs) {
		oldest = key
		break
	}
	if oldest == "" {
		return nil
	}
	newest := auditKey(theirs.Index())
	for r := range ours.rows(place(Audits.number, "")) {
		if r.key < oldest || r.key > newest {
			continue
		}
		if said := theirs.row(Audits.number, r.key); said == nil || !bytes.Equal(said.row.Body, r.row.Body) {
			from, err := strconv.ParseUint(r.key, 10, 64)
			must(err)
			return &Departure{from, ours.Index()}
		}
	}
	return nil
}
