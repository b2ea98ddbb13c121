package audit

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/holdfast-mesh/holdfast/consensus/ledger"
)

// A Verdict is what the records of a saved Log prove.
type Verdict struct {
	Records int    `json:"records"`
	First   uint64 `json:"first"` // index of the oldest
	Last    uint64 `json:"last"`
	Oldest  bool   `json:"oldest-checked"` // else what the oldest says is only claimed: the root before is not known
	Root    string `json:"root"`           // of the newest, which every member has there
}

// Save is how all is saved that can be checked.
const Save = "holdfast audit --all --limit 4096 --output-format json"

// Verify checks the chain of a Log that was saved, and whether what it shows is what
// the records say. It trusts nothing in it but the root of the newest record, which
// is to be compared with that of another member.
func Verify(l Log) (Verdict, error) {
	if len(l.Records) == 0 {
		return Verdict{}, &cured{errors.New("there is no record of the audit in it"), "save all with: " + Save}
	}
	list := make([]ledger.Audit, len(l.Records))
	for i, r := range l.Records {
		b, err := base64.StdEncoding.DecodeString(r.Record)
		if err == nil {
			list[i], err = ledger.ReadAudit(b)
		}
		if err != nil {
			return Verdict{}, broken(fmt.Errorf("record %d, of command %d, cannot be read: %w", i+1, r.Index, err))
		}
		shown := said(list[i])
		if r.NodeName, r.What = "", ""; r != shown {
			return Verdict{}, broken(fmt.Errorf("what is shown of command %d is not what its record says", list[i].Index))
		}
		if i > 0 && list[i].Index <= list[i-1].Index {
			return Verdict{}, broken(fmt.Errorf("the record of command %d stands behind that of command %d", list[i].Index, list[i-1].Index))
		}
	}
	if err := ledger.CheckAudit(list); err != nil {
		if l.Partial {
			return Verdict{}, &cured{fmt.Errorf("it was saved with some left out, so that there is no chain to be checked: %w", err), "save all with: " + Save}
		}
		return Verdict{}, broken(err)
	}
	first, last := list[0], list[len(list)-1]
	v := Verdict{Records: len(list), First: first.Index, Last: last.Index, Root: hex.EncodeToString(last.Root[:])}
	if l.Previous != "" {
		b, err := hex.DecodeString(l.Previous)
		if err != nil || len(b) != 32 || !first.Follows([32]byte(b)) {
			return Verdict{}, broken(fmt.Errorf("the record of command %d does not stand behind the root that it is said to", first.Index))
		}
		v.Oldest = true
	}
	return v, nil
}

func broken(err error) error {
	return &cured{fmt.Errorf("the chain is broken: %w", err), "the file was changed, or cut: save it again, and on another member too, with: " + Save}
}

// A cured error says what to do about it.
type cured struct {
	error
	cure string
}

func (e *cured) Unwrap() error { return e.error }
func (e *cured) Hint() string  { return e.cure }
