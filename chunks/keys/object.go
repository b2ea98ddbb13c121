package keys

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// An object is a JSON object whose members are read one by one; err is the
// first thing that went wrong. It is stricter than encoding/json, which takes
// "Data" for "data" and the last of two members with one name: in a key file
// both are damage. Members that nobody asks for are ignored.
type object struct {
	members map[string]json.RawMessage
	err     error
}

// parseObject reads exactly one JSON object.
func parseObject(raw []byte) (*object, error) {
	o := &object{members: map[string]json.RawMessage{}}
	dec := json.NewDecoder(bytes.NewReader(raw))
	if t, err := dec.Token(); err != nil {
		return nil, unexpected(err)
	} else if t != json.Delim('{') {
		return nil, errors.New("not a JSON object")
	}
	for dec.More() {
		t, err := dec.Token()
		if err != nil {
			return nil, unexpected(err)
		}
		name := t.(string) // the decoder lets nothing else pass in this place
		if _, twice := o.members[name]; twice {
			return nil, fmt.Errorf("two members are named %.40q", name)
		}
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			return nil, unexpected(err)
		}
		o.members[name] = value
	}
	if _, err := dec.Token(); err != nil {
		return nil, unexpected(err)
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, errors.New("there is text behind the JSON object")
	}
	return o, nil
}

// unexpected names the end of the text for what it is: a file cut short.
func unexpected(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// has reports whether a member is there and not null.
func (o *object) has(name string) bool {
	value, ok := o.members[name]
	return ok && string(value) != "null"
}

// fail notes what is wrong with a member, unless something was before.
func (o *object) fail(name string, err error) {
	if o.err == nil && err != nil {
		o.err = fmt.Errorf("%s: %w", name, err)
	}
}

func (o *object) read(name string, v any) {
	if !o.has(name) {
		o.fail(name, errors.New("is missing"))
		return
	}
	o.fail(name, json.Unmarshal(o.members[name], v))
}

func (o *object) number(name string) (n uint64) {
	o.read(name, &n)
	return n
}

func (o *object) text(name string) (s string) {
	o.read(name, &s)
	return s
}

// base64 reads bytes in the one way there is to write them.
func (o *object) base64(name string) []byte {
	s := o.text(name)
	b, err := base64.StdEncoding.DecodeString(s)
	if err == nil && base64.StdEncoding.EncodeToString(b) != s {
		err = errors.New("has line breaks or stray bits in its base64")
	}
	o.fail(name, err)
	return b
}
