// Package match decides by glob patterns what of a tree goes into an archive,
// or comes out of one.
//
// Patterns are those of .pxarexclude files and of the client's --exclude: a
// subset of git's wildmatch. '?' and '*' stop at a slash; '**' as a whole
// component stands for any number of directories, also none; [abc], [a-z],
// [^a-z] and [[:alpha:]] stand for one byte, which may be a slash; a backslash
// takes the next byte literally. A pattern applies to every end of a path that
// begins behind a slash: a/b applies to a/b and x/a/b. A slash in front
// anchors it to the whole path, one at the end restricts it to directories, and
// a '!' before everything negates it.
//
// Patterns come from whoever wrote the tree, so matching takes time in the
// product of both lengths at most, whatever they contain.
package match

import (
	"errors"
	"fmt"
	"math/bits"
	"strings"
)

// MaxPattern is the length in bytes of the longest pattern that is accepted:
// that of the longest path the kernel takes (PATH_MAX).
const MaxPattern = 4096

// A Pattern is one compiled line. The zero Pattern matches nothing.
type Pattern struct {
	glob     string // without the marks in front and behind
	negated  bool
	anchored bool
	dirOnly  bool
	dir      string // what an anchored glob is relative to; "" is the root

	literal string // the only text that matches, if tokens is nil
	tokens  []token
	leaf    bool // matches within the last component only
}

// ParseError says which pattern could not be understood, and why.
type ParseError struct {
	Pattern string
	Err     error
}

func (e *ParseError) Error() string { return fmt.Sprintf("pattern %q: %v", e.Pattern, e.Err) }

func (e *ParseError) Unwrap() error { return e.Err }

// Hint tells how to write a name that looks like a pattern.
func (e *ParseError) Hint() string {
	return `write \ before * ? [ and \ to mean the character itself`
}

// Parse compiles one pattern, with its '!', its slash in front and its slash
// at the end.
func Parse(s string) (Pattern, error) {
	var p Pattern
	p.glob, p.negated = strings.CutPrefix(s, "!")
	p.anchored = strings.HasPrefix(p.glob, "/")
	p.glob = strings.TrimLeft(p.glob, "/")
	p.dirOnly = strings.HasSuffix(p.glob, "/")
	p.glob = strings.TrimRight(p.glob, "/")
	switch {
	case len(s) > MaxPattern:
		return Pattern{}, &ParseError{s[:64] + "…", fmt.Errorf("%d bytes long, want at most %d", len(s), MaxPattern)}
	case p.glob == "":
		return Pattern{}, &ParseError{s, errors.New("no name in it")}
	case strings.ContainsAny(p.glob, "\x00\n"):
		return Pattern{}, &ParseError{s, errors.New("holds a NUL or a line feed")}
	}
	if !strings.ContainsAny(p.glob, `*?[\`) {
		p.literal = p.glob
		return p, nil
	}
	var err error
	if p.tokens, err = compile(p.glob); err != nil {
		return Pattern{}, &ParseError{s, err}
	}
	p.leaf = !p.anchored && staysInComponent(p.tokens)
	return p, nil
}

// String returns the pattern as it is written in a .pxarexclude file, except
// for the directory of that file.
func (p Pattern) String() string {
	var b strings.Builder
	if p.negated {
		b.WriteByte('!')
	}
	if p.anchored {
		b.WriteByte('/')
	}
	b.WriteString(p.glob)
	if p.dirOnly {
		b.WriteByte('/')
	}
	return b.String()
}

// under returns p relative to dir, which makes a difference to an anchored
// one only.
func (p Pattern) under(dir string) Pattern {
	if p.anchored {
		p.dir = strings.Trim(dir, "/")
	}
	return p
}

// Match reports whether p applies to path, which is slash-separated and
// relative to the root of the archive, without a leading slash. It does not
// look at the negation.
func (p Pattern) Match(path string, isDir bool) bool {
	if p.dirOnly && !isDir || p.glob == "" {
		return false
	}
	if p.anchored {
		rest, ok := below(path, p.dir)
		return ok && p.matchWhole(rest)
	}
	if p.tokens == nil {
		head, ok := strings.CutSuffix(path, p.literal)
		return ok && (head == "" || head[len(head)-1] == '/')
	}
	if p.leaf {
		return run(p.tokens, path[strings.LastIndexByte(path, '/')+1:], true)
	}
	return run(p.tokens, path, false)
}

func (p Pattern) matchWhole(path string) bool {
	if p.tokens == nil {
		return path == p.literal
	}
	return run(p.tokens, path, true)
}

// below cuts dir and a slash off path.
func below(path, dir string) (string, bool) {
	if dir == "" {
		return path, true
	}
	rest, ok := strings.CutPrefix(path, dir)
	if !ok {
		return "", false
	}
	return strings.CutPrefix(rest, "/")
}

// inlineStates is how many states fit a set on the stack; only patterns
// beyond that length cost an allocation for each match.
const inlineStates = 8 * 64

// run simulates the automaton of tokens on path: all places in the pattern
// that the bytes read so far can have led to are kept as a set, so nothing is
// tried twice. Unless whole, the pattern may begin behind any slash.
func run(tokens []token, path string, whole bool) bool {
	var a, b [inlineStates / 64]uint64
	now, next := a[:], b[:]
	if len(tokens) >= inlineStates {
		now, next = make([]uint64, len(tokens)/64+1), make([]uint64, len(tokens)/64+1)
	}
	enter(tokens, now, 0, true)
	for i := range len(path) {
		c := path[i]
		clear(next)
		for w, word := range now {
			for ; word != 0; word &= word - 1 {
				step(tokens, next, w*64+bits.TrailingZeros64(word), c)
			}
		}
		if c == '/' && !whole {
			enter(tokens, next, 0, true)
		}
		now, next = next, now
	}
	end := len(tokens)
	return now[end/64]&(1<<(end%64)) != 0
}

// step adds to set where state leads to when c is read.
func step(tokens []token, set []uint64, state int, c byte) {
	if state == len(tokens) {
		return // the pattern is used up, the path is not
	}
	switch t := &tokens[state]; t.kind {
	case literal:
		if c == t.char {
			enter(tokens, set, state+1, c == '/')
		}
	case anyByte:
		if c != '/' {
			enter(tokens, set, state+1, false)
		}
	case class:
		if t.class.has(c) {
			enter(tokens, set, state+1, c == '/')
		}
	case star:
		if c != '/' {
			enter(tokens, set, state, false)
		}
	case anyDirs:
		enter(tokens, set, state, c == '/')
	case anything:
		enter(tokens, set, state, false)
	}
}

// enter adds state to set, and the states behind it that need no byte.
// boundary says that the next byte begins a component.
func enter(tokens []token, set []uint64, state int, boundary bool) {
	for {
		set[state/64] |= 1 << (state % 64)
		if state == len(tokens) {
			return
		}
		switch tokens[state].kind {
		case star, anything:
		case anyDirs:
			if !boundary {
				return
			}
		default:
			return
		}
		state++
	}
}
