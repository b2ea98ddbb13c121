package match

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

type kind uint8

const (
	literal  kind = iota // one given byte
	anyByte              // '?': one byte, not a slash
	class                // '[…]': one byte of a set
	star                 // '*': any bytes but slashes
	anyDirs              // '**/': nothing, or any bytes and a slash
	anything             // '**' at the end: any bytes
)

// A token is one element of a compiled pattern.
type token struct {
	kind  kind
	char  byte
	class *byteSet
}

// byteSet holds one bit for each byte.
type byteSet [4]uint64

func (s *byteSet) has(c byte) bool { return s[c>>6]&(1<<(c&63)) != 0 }
func (s *byteSet) add(c byte)      { s[c>>6] |= 1 << (c & 63) }

// compile turns a glob into tokens.
func compile(glob string) ([]token, error) {
	var tokens []token
	for i := 0; i < len(glob); {
		switch c := glob[i]; c {
		case '\\':
			if i+1 == len(glob) {
				return nil, errors.New(`ends in a single \`)
			}
			tokens = append(tokens, token{kind: literal, char: glob[i+1]})
			i += 2
		case '?':
			tokens = append(tokens, token{kind: anyByte})
			i++
		case '*':
			n := len(glob[i:]) - len(strings.TrimLeft(glob[i:], "*"))
			t, used := stars(glob, i, n)
			tokens = append(tokens, t)
			i += used
		case '[':
			set, used, err := parseClass(glob[i:])
			if err != nil {
				return nil, err
			}
			tokens = append(tokens, token{kind: class, class: set})
			i += used
		default:
			tokens = append(tokens, token{kind: literal, char: c})
			i++
		}
	}
	return tokens, nil
}

// stars reads a run of n asterisks at i, and says how many bytes it used up.
// Two that fill a component stand for directories, any other run for one.
func stars(glob string, i, n int) (token, int) {
	begins := i == 0 || glob[i-1] == '/'
	switch rest := glob[i+n:]; {
	case n != 2 || !begins:
	case rest == "":
		return token{kind: anything}, n
	case rest[0] == '/':
		return token{kind: anyDirs}, n + 1
	}
	return token{kind: star}, n
}

// staysInComponent reports whether no token can match a slash.
func staysInComponent(tokens []token) bool {
	return !slices.ContainsFunc(tokens, func(t token) bool {
		switch t.kind {
		case literal:
			return t.char == '/'
		case class:
			return t.class.has('/')
		}
		return t.kind == anyDirs || t.kind == anything
	})
}

// parseClass reads a bracket expression at the beginning of s and returns how
// long it is. As in wildmatch, a ']' that comes first is an ordinary byte.
func parseClass(s string) (*byteSet, int, error) {
	var set byteSet
	i, negate := 1, false
	if strings.HasPrefix(s[i:], "^") {
		i, negate = i+1, true
	}
	for first := true; ; first = false {
		switch {
		case i >= len(s):
			return nil, 0, errors.New("[ without ]")
		case s[i] == ']' && !first:
			if negate {
				for w := range set {
					set[w] = ^set[w]
				}
			}
			return &set, i + 1, nil
		case strings.HasPrefix(s[i:], "[:"):
			used, err := addNamed(&set, s[i:])
			if err != nil {
				return nil, 0, err
			}
			i += used
		default:
			used, err := addRange(&set, s[i:])
			if err != nil {
				return nil, 0, err
			}
			i += used
		}
	}
}

// addRange adds one byte, or a range of them, to set.
func addRange(set *byteSet, s string) (int, error) {
	lo, i, err := classByte(s)
	if err != nil {
		return 0, err
	}
	if len(s) < i+2 || s[i] != '-' || s[i+1] == ']' {
		set.add(lo)
		return i, nil
	}
	hi, n, err := classByte(s[i+1:])
	if err != nil {
		return 0, err
	}
	if hi < lo {
		return 0, fmt.Errorf("range %q ends before it begins", s[:i+1+n])
	}
	for c := int(lo); c <= int(hi); c++ {
		set.add(byte(c))
	}
	return i + 1 + n, nil
}

// classByte reads one byte of a class, which a backslash may precede.
func classByte(s string) (byte, int, error) {
	if s[0] != '\\' {
		return s[0], 1, nil
	}
	if len(s) < 2 {
		return 0, 0, errors.New("[ without ]")
	}
	return s[1], 2, nil
}

// addNamed adds a class like [:alpha:] (POSIX 9.3.5, in the C locale).
func addNamed(set *byteSet, s string) (int, error) {
	name, _, ok := strings.Cut(s[2:], ":]")
	if !ok {
		return 0, errors.New("[: without :]")
	}
	in, ok := namedClasses[name]
	if !ok {
		return 0, fmt.Errorf("no class is named %q", name)
	}
	for c := range 256 {
		if in(byte(c)) {
			set.add(byte(c))
		}
	}
	return len(name) + 4, nil
}

var namedClasses = map[string]func(byte) bool{
	"alnum":  func(c byte) bool { return isLower(c) || isUpper(c) || isDigit(c) },
	"alpha":  func(c byte) bool { return isLower(c) || isUpper(c) },
	"blank":  func(c byte) bool { return c == ' ' || c == '\t' },
	"cntrl":  func(c byte) bool { return c < ' ' || c == 0x7f },
	"digit":  isDigit,
	"graph":  isGraph,
	"lower":  isLower,
	"print":  func(c byte) bool { return c == ' ' || isGraph(c) },
	"punct":  func(c byte) bool { return isGraph(c) && !isLower(c) && !isUpper(c) && !isDigit(c) },
	"space":  func(c byte) bool { return c == ' ' || c >= '\t' && c <= '\r' },
	"upper":  isUpper,
	"xdigit": func(c byte) bool { return isDigit(c) || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F' },
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }
func isLower(c byte) bool { return c >= 'a' && c <= 'z' }
func isUpper(c byte) bool { return c >= 'A' && c <= 'Z' }
func isGraph(c byte) bool { return c > ' ' && c < 0x7f }
