// Package tasklog reads the lines of task logs, which people and clients see, and
// makes such lines of any text. A log may be damaged: what is read can always be
// shown, and every line has a time in front.
package tasklog

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

const (
	// Stamp is how a line's time is written: 25 characters, also in UTC (§7.9).
	Stamp = "2006-01-02T15:04:05-07:00"

	// PrefixBytes is how long the time of a line and ": " are, which clients cut off unseen.
	PrefixBytes = 25 + 2

	// MaxLine bounds a line in bytes, its time aside. Longer ones are cut: a
	// log is for people.
	MaxLine = 4 << 10

	// Result begins the last line of a log: "TASK OK".
	Result = "TASK "

	// CutMark ends what was cut.
	CutMark = "…"
)

// A Line is one line of a task's log.
type Line struct {
	N    int    // from 1
	Text string // "2026-11-21T02:12:27+00:00: text"; valid UTF-8, no control characters but tabs
}

// A Page is a part of a log.
type Page struct {
	Lines  []Line
	Total  int  // lines in the whole log, so far
	Active bool // the task runs, so that there may be more
}

// Clean makes one line of s, of at most MaxLine bytes.
func Clean(s string) string {
	cut := len(s) > MaxLine
	if cut {
		s = s[:MaxLine]
		for i := 1; i <= utf8.UTFMax && i <= len(s); i++ { // not within a character
			if utf8.RuneStart(s[len(s)-i]) {
				if !utf8.FullRuneInString(s[len(s)-i:]) {
					s = s[:len(s)-i]
				}
				break
			}
		}
	}
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) && r != '\t' || r == '\u2028' || r == '\u2029' {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "\uFFFD"))
	if cut {
		s += CutMark
	}
	return s
}

// A Reader reads the lines of a log that may be damaged: every line it
// returns has a time in front and can be shown.
type Reader struct {
	r    *bufio.Reader
	time string // of the line before
	Torn bool   // the last line has no end
}

// NewReader reads lines from r, those without a time as of start.
func NewReader(r io.Reader, start time.Time) *Reader {
	return &Reader{r: bufio.NewReaderSize(r, 64<<10), time: start.Format(Stamp) + ": "}
}

// Next returns the next line, io.EOF after the last.
func (l *Reader) Next() (string, error) {
	raw, err := l.Raw()
	if err != nil {
		return "", err
	}
	if HasTime(raw) {
		l.time, raw = raw[:PrefixBytes], raw[PrefixBytes:]
	}
	return l.time + Clean(raw), nil
}

// skip reads past the next line.
func (l *Reader) skip() error {
	_, err := l.Raw()
	return err
}

// Raw returns the next line as it is, without its end, cut where it is much
// longer than a line of ours. A last line may have no end.
func (l *Reader) Raw() (string, error) {
	var line []byte
	for {
		part, err := l.r.ReadSlice('\n')
		line = append(line, part[:min(len(part), 2*MaxLine-min(len(line), 2*MaxLine))]...)
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case errors.Is(err, io.EOF) && len(line) > 0:
			l.Torn = true
			return string(line), nil
		case err != nil:
			return "", err
		}
		return strings.TrimSuffix(string(line), "\n"), nil
	}
}

// HasTime reports whether a line begins with a time and ": ".
func HasTime(line string) bool {
	if len(line) < PrefixBytes || line[25:27] != ": " {
		return false
	}
	_, err := time.Parse(Stamp, line[:25])
	return err == nil
}

// ReadPage reads the log r from line start (from 1) on, at most limit lines,
// all if limit is 0.
func ReadPage(r *Reader, start, limit int) (Page, error) {
	var p Page
	start = max(start, 1)
	for {
		var err error
		if p.Total+1 < start || limit > 0 && len(p.Lines) >= limit {
			err = r.skip()
		} else {
			var text string
			if text, err = r.Next(); err == nil {
				p.Lines = append(p.Lines, Line{p.Total + 1, text})
			}
		}
		if errors.Is(err, io.EOF) {
			return p, nil
		}
		if err != nil {
			return Page{}, fmt.Errorf("read line %d: %w", p.Total+1, err)
		}
		p.Total++
	}
}

// LastResult returns how a log says in its last line that its task ended, ""
// if it does not, and the time of that line, zero if there is none.
func LastResult(r *Reader) (result string, at time.Time, err error) {
	last := ""
	for {
		line, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return "", time.Time{}, err
		}
		last = line
	}
	if last == "" {
		return "", time.Time{}, nil
	}
	at, err = time.Parse(Stamp, last[:25]) // the reader puts one there
	if text, ok := strings.CutPrefix(last[PrefixBytes:], Result); ok {
		result = text
	}
	return result, at, err
}
