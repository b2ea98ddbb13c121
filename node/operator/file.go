package operator

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
)

// A File is what waits for signatures of operators elsewhere, as --sign-to writes it:
// a draft, and if that is a link the call that it is for.
type File struct {
	Draft
	Call
}

// ParseFile reads a file, and returns the call that is signed in it.
func ParseFile(text []byte) (f File, call Call, err error) {
	if err := json.Unmarshal(text, &f); err != nil {
		return f, call, err
	}
	if f.Request != "" {
		if err := onlyRequest(text); err != nil {
			return f, call, err
		}
	}
	call, err = f.Implied(f.Call)
	return f, call, err
}

// onlyRequest refuses a file that has a request, and anything that is of no use with one.
func onlyRequest(text []byte) error {
	var only struct {
		Request string `json:"request"`
		Voices
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&only); err != nil {
		return fmt.Errorf("beside what is asked of a guard: %w", err)
	}
	return nil
}

// errTwo is a draft that is two things.
var errTwo = errors.New("it has a link and a request")
