package audit

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/holdfast-mesh/holdfast/consensus/ledger"
)

// A Verdict is what the records of a saved Log prove.
type Verdict struct {
	Records int    `json:"records"`
	First   uint64 `json:"first"` // index of the oldest
	Last    uint64 `json:"last"`
	Oldest  bool   `json:"oldest-checked"` // else what the oldest says is only claimed: the root before is not known
	Root    string `json:"root"`           // of the newest, which every member has there

	roots map[string]bool // of all
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
	if l.Ledger.Last > last.Index {
		return Verdict{}, &cured{fmt.Errorf("it ends with command %d, and the ledger that it was saved from had command %d: the newest records are not in it", last.Index, l.Ledger.Last), "save all with: " + Save}
	}
	v := Verdict{Records: len(list), First: first.Index, Last: last.Index, Root: hex.EncodeToString(last.Root[:]), roots: map[string]bool{}}
	for _, a := range list {
		v.roots[hex.EncodeToString(a.Root[:])] = true
	}
	if l.Previous != "" {
		b, err := hex.DecodeString(l.Previous)
		if err != nil || len(b) != 32 || !first.Follows([32]byte(b)) {
			return Verdict{}, broken(fmt.Errorf("the record of command %d does not stand behind the root that it is said to", first.Index))
		}
		v.Oldest = true
	}
	return v, nil
}

// Reaches returns nil if the chain goes at least up to the record whose root a member has
// as that of its newest: that none is missing at the end, a file cannot know.
func (v Verdict) Reaches(head string) error {
	if b, err := hex.DecodeString(head); err != nil || len(b) != 32 {
		return &cured{fmt.Errorf("the head %.80q is no root of a record: want 64 hexadecimal digits", head), "`holdfast audit --limit 1` on a member prints it"}
	}
	if v.roots[strings.ToLower(head)] {
		return nil
	}
	return &cured{fmt.Errorf("the record with the root %s is not in it: it ends with command %d, before that record, or is of another history", head, v.Last),
		"if the file was saved before the head was printed, save it again with: " + Save}
}

// Read reads a Log that was saved. It refuses a key that is there twice, in whatever case:
// what people see of it might not be what is checked.
func Read(text []byte) (l Log, err error) {
	if err := onceEach(text); err != nil {
		return l, err
	}
	return l, json.Unmarshal(text, &l)
}

// onceEach returns an error if an object of a JSON text has a key twice.
func onceEach(text []byte) error {
	type level struct {
		object, value bool // the next token is a value, if it is an object
		keys          map[string]bool
	}
	levels := []level{{}}
	d := json.NewDecoder(bytes.NewReader(text))
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return nil // what is not complete, json.Unmarshal says
		}
		if err != nil {
			return err
		}
		top := &levels[len(levels)-1]
		if token == json.Delim('}') || token == json.Delim(']') {
			levels = levels[:len(levels)-1]
			continue
		}
		if key, is := token.(string); is && top.object && !top.value {
			folded := strings.ToLower(strings.ToUpper(key)) // as json compares them, or wider
			if top.keys[folded] {
				return fmt.Errorf("the key %.80q is in an object twice", key)
			}
			top.keys[folded], top.value = true, true
			continue
		}
		top.value = false
		if token == json.Delim('{') || token == json.Delim('[') {
			levels = append(levels, level{object: token == json.Delim('{'), keys: map[string]bool{}})
		}
	}
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
