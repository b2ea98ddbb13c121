package jobs

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
	// stamp is how a line's time is written: 25 characters, also in UTC (§7.9).
	stamp = "2006-01-02T15:04:05-07:00"

	// A line begins with its time and ": ", which clients cut off unseen.
	prefixBytes = 25 + 2

	// maxLine bounds a line in bytes, its time aside. Longer ones are cut: a
	// log is for people.
	maxLine = 4 << 10

	cutMark = "…"
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

// clean makes one line of s, of at most maxLine bytes.
func clean(s string) string {
	cut := len(s) > maxLine
	if cut {
		s = s[:maxLine]
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
		s += cutMark
	}
	return s
}

// A lineReader reads the lines of a log that may be damaged: every line it
// returns has a time in front and can be shown.
type lineReader struct {
	r    *bufio.Reader
	time string // of the line before
	torn bool   // the last line has no end
}

// newLineReader reads lines from r, those without a time as of start.
func newLineReader(r io.Reader, start time.Time) *lineReader {
	return &lineReader{r: bufio.NewReaderSize(r, 64<<10), time: start.Format(stamp) + ": "}
}

// next returns the next line, io.EOF after the last.
func (l *lineReader) next() (string, error) {
	raw, err := l.raw()
	if err != nil {
		return "", err
	}
	if hasTime(raw) {
		l.time, raw = raw[:prefixBytes], raw[prefixBytes:]
	}
	return l.time + clean(raw), nil
}

// skip reads past the next line.
func (l *lineReader) skip() error {
	_, err := l.raw()
	return err
}

// raw returns the next line as it is, without its end, cut where it is much
// longer than a line of ours. A last line may have no end.
func (l *lineReader) raw() (string, error) {
	var line []byte
	for {
		part, err := l.r.ReadSlice('\n')
		line = append(line, part[:min(len(part), 2*maxLine-min(len(line), 2*maxLine))]...)
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case errors.Is(err, io.EOF) && len(line) > 0:
			l.torn = true
			return string(line), nil
		case err != nil:
			return "", err
		}
		return strings.TrimSuffix(string(line), "\n"), nil
	}
}

// hasTime reports whether a line begins with a time and ": ".
func hasTime(line string) bool {
	if len(line) < prefixBytes || line[25:27] != ": " {
		return false
	}
	_, err := time.Parse(stamp, line[:25])
	return err == nil
}

// readPage reads the log r from line start (from 1) on, at most limit lines,
// all if limit is 0.
func readPage(r *lineReader, start, limit int) (Page, error) {
	var p Page
	start = max(start, 1)
	for {
		var err error
		if p.Total+1 < start || limit > 0 && len(p.Lines) >= limit {
			err = r.skip()
		} else {
			var text string
			if text, err = r.next(); err == nil {
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

// lastResult returns how a log says in its last line that its task ended, ""
// if it does not, and the time of that line, zero if there is none.
func lastResult(r *lineReader) (result string, at time.Time, err error) {
	last := ""
	for {
		line, err := r.next()
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
	at, err = time.Parse(stamp, last[:25]) // the reader puts one there
	if text, ok := strings.CutPrefix(last[prefixBytes:], resultPrefix); ok {
		result = text
	}
	return result, at, err
}
