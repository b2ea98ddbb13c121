package manifest

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// An object is a JSON object. Its members, like the elements of arrays, are
// nil, bool, json.Number, string, []any or object. Numbers stay the text they
// were: 64 bits of one kind hold neither every integer nor every fraction.
type object map[string]any

// Limits of what is parsed, so that a hostile text costs little.
const (
	maxDepth  = 128     // arrays and objects in each other, as serde_json has it
	maxValues = 1 << 18 // 50,000 files; at most 55 MiB, measured with small objects
)

// parseValue reads one JSON text (RFC 8259) that stands at that depth of
// another. It is stricter than encoding/json, which takes the last of two
// members with one name and replaces what is not UTF-8.
func parseValue(text string, depth int) (any, error) {
	if !utf8.ValidString(text) {
		return nil, errors.New("not UTF-8")
	}
	p := parser{text: text}
	v, err := p.value(depth)
	if p.next(); err == nil && p.pos < len(text) {
		err = p.unexpected("the end")
	}
	if err != nil {
		return nil, fmt.Errorf("byte %d: %w", p.pos, err)
	}
	return v, nil
}

type parser struct {
	text   string
	pos    int
	values int
}

// next skips white space and returns the next byte, and 0 at the end. No caller
// wants a 0, so a NUL in the text needs no other care.
func (p *parser) next() byte {
	for ; p.pos < len(p.text); p.pos++ {
		switch c := p.text[p.pos]; c {
		case ' ', '\t', '\r', '\n':
		default:
			return c
		}
	}
	return 0
}

// take skips the byte c if it is next.
func (p *parser) take(c byte) bool {
	if p.next() != c {
		return false
	}
	p.pos++
	return true
}

func (p *parser) unexpected(want string) error {
	if p.pos >= len(p.text) {
		return fmt.Errorf("the text ends, want %s", want)
	}
	r, _ := utf8.DecodeRuneInString(p.text[p.pos:])
	return fmt.Errorf("found %q, want %s", r, want)
}

func (p *parser) value(depth int) (any, error) {
	if p.values++; p.values > maxValues {
		return nil, fmt.Errorf("more than %d values", maxValues)
	}
	if depth > maxDepth {
		return nil, fmt.Errorf("nested deeper than %d levels", maxDepth)
	}
	switch c := p.next(); {
	case c == '{':
		return p.object(depth)
	case c == '[':
		return p.array(depth)
	case c == '"':
		return p.string()
	case c == '-' || c >= '0' && c <= '9':
		return p.number()
	}
	return p.literal()
}

func (p *parser) literal() (any, error) {
	rest := p.text[p.pos:]
	switch {
	case strings.HasPrefix(rest, "null"):
		p.pos += 4
		return nil, nil
	case strings.HasPrefix(rest, "true"):
		p.pos += 4
		return true, nil
	case strings.HasPrefix(rest, "false"):
		p.pos += 5
		return false, nil
	}
	return nil, p.unexpected("a value")
}

func (p *parser) object(depth int) (any, error) {
	o := object{}
	p.pos++
	if p.take('}') {
		return o, nil
	}
	for {
		if p.next() != '"' {
			return nil, p.unexpected("the name of a member")
		}
		name, err := p.string()
		if err != nil {
			return nil, err
		}
		if _, twice := o[name]; twice {
			return nil, fmt.Errorf("two members are named %.40q", name)
		}
		if !p.take(':') {
			return nil, p.unexpected("a colon")
		}
		if o[name], err = p.value(depth + 1); err != nil {
			return nil, err
		}
		if p.take('}') {
			return o, nil
		}
		if !p.take(',') {
			return nil, p.unexpected("a comma or the end of the object")
		}
	}
}

func (p *parser) array(depth int) (any, error) {
	list := []any{}
	p.pos++
	if p.take(']') {
		return list, nil
	}
	for {
		v, err := p.value(depth + 1)
		if err != nil {
			return nil, err
		}
		list = append(list, v)
		if p.take(']') {
			return list, nil
		}
		if !p.take(',') {
			return nil, p.unexpected("a comma or the end of the array")
		}
	}
}

// number reads -?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)? and keeps it so.
func (p *parser) number() (any, error) {
	start := p.pos
	p.skip("-")
	if p.skip("0") == 0 && p.digits() == 0 {
		return nil, p.unexpected("a digit")
	}
	if p.skip(".") == 1 && p.digits() == 0 {
		return nil, p.unexpected("a digit")
	}
	if p.skip("eE") == 1 {
		p.skip("+-")
		if p.digits() == 0 {
			return nil, p.unexpected("a digit")
		}
	}
	return json.Number(strings.Clone(p.text[start:p.pos])), nil
}

// skip skips one byte if it is one of those, and says how many it skipped.
func (p *parser) skip(set string) int {
	if p.pos < len(p.text) && strings.IndexByte(set, p.text[p.pos]) >= 0 {
		p.pos++
		return 1
	}
	return 0
}

func (p *parser) digits() (n int) {
	for p.skip("0123456789") == 1 {
		n++
	}
	return n
}

// string reads a string. The result shares no memory with the text, of which a
// list of many snapshots would otherwise keep every byte.
func (p *parser) string() (string, error) {
	p.pos++
	start := p.pos
	var out []byte
	for p.pos < len(p.text) {
		switch c := p.text[p.pos]; {
		case c == '"':
			p.pos++
			return string(out) + p.text[start:p.pos-1], nil
		case c < ' ':
			return "", fmt.Errorf("a bare %q within a string", c)
		case c != '\\':
			p.pos++
		default:
			out = append(out, p.text[start:p.pos]...)
			r, err := p.escape()
			if err != nil {
				return "", err
			}
			out = utf8.AppendRune(out, r)
			start = p.pos
		}
	}
	return "", p.unexpected("the end of a string")
}

// escape reads what a backslash begins.
func (p *parser) escape() (rune, error) {
	p.pos++
	if p.skip("u") == 1 {
		return p.unicode()
	}
	if p.pos < len(p.text) {
		if i := strings.IndexByte(`"\/bfnrt`, p.text[p.pos]); i >= 0 {
			p.pos++
			return rune("\"\\/\b\f\n\r\t"[i]), nil
		}
	}
	return 0, p.unexpected("an escape")
}

// unicode reads the digits after \u, and a second \u where the first was one
// half of a pair.
func (p *parser) unicode() (rune, error) {
	r, err := p.hex()
	if err != nil || !utf16.IsSurrogate(r) {
		return r, err
	}
	if !strings.HasPrefix(p.text[p.pos:], `\u`) {
		return 0, errors.New("half of a surrogate pair")
	}
	p.pos += 2
	low, err := p.hex()
	if err != nil {
		return 0, err
	}
	if r = utf16.DecodeRune(r, low); r == utf8.RuneError {
		return 0, errors.New("half of a surrogate pair")
	}
	return r, nil
}

func (p *parser) hex() (rune, error) {
	if len(p.text)-p.pos < 4 {
		return 0, errors.New("the text ends within an escape")
	}
	n, err := strconv.ParseUint(p.text[p.pos:p.pos+4], 16, 16) // takes no sign, nor "_" with a base
	if err != nil {
		return 0, fmt.Errorf("%q is no hexadecimal number", p.text[p.pos:p.pos+4])
	}
	p.pos += 4
	return rune(n), nil
}
