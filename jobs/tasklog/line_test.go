package tasklog

import (
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"
)

var noon = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

const at = "2026-11-21T02:12:27+00:00: "

// page reads a log from memory.
func page(t *testing.T, text string, start, limit int) Page {
	t.Helper()
	p, err := ReadPage(NewReader(strings.NewReader(text), noon), start, limit)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestReadPage(t *testing.T) {
	log := at + "one\n" + at + "two\n" + at + "three\n"
	for _, row := range []struct {
		name         string
		start, limit int
		want         string
	}{
		{"all", 0, 0, "1 one,2 two,3 three"},
		{"all, from 1", 1, 0, "1 one,2 two,3 three"},
		{"the first", 1, 1, "1 one"},
		{"the middle", 2, 1, "2 two"},
		{"beyond the end", 2, 500, "2 two,3 three"},
		{"behind the end", 4, 500, ""},
		{"far behind the end", 1 << 40, 1, ""},
		{"before the start", -5, 1, "1 one"},
	} {
		t.Run(row.name, func(t *testing.T) {
			p := page(t, log, row.start, row.limit)
			var got []string
			for _, l := range p.Lines {
				got = append(got, string(rune('0'+l.N))+" "+strings.TrimPrefix(l.Text, at))
			}
			if strings.Join(got, ",") != row.want || p.Total != 3 {
				t.Errorf("lines %q of %d, want %q of 3", got, p.Total, row.want)
			}
		})
	}
}

func TestDamagedLinesCanBeShown(t *testing.T) {
	for name, row := range map[string]struct{ in, want string }{
		"a last line without end":   {at + "one\n" + at + "tw", at + "one|" + at + "tw"},
		"a line without time":       {at + "one\nhello\n", at + "one|" + at + "hello"},
		"a first line without time": {"hello\n", "2026-11-21T12:00:00+00:00: hello"},
		"a line cut in its time":    {at + "one\n2026-11-21T02:1", at + "one|" + at + "2026-11-21T02:1"},
		"an empty line":             {at + "one\n\n", at + "one|" + at},
		"zeros of a power cut":      {at + "one\n\x00\x00\x00", at + "one|" + at + "   "},
		"bytes that are no text":    {at + "\xff\x1b[31m\r\n", at + "\uFFFD [31m "},
		"a separator of lines":      {at + "a\u2028b\tc\n", at + "a b\tc"},
		"an endless line":           {at + strings.Repeat("x", 1<<20) + "\n" + at + "two\n", at + strings.Repeat("x", MaxLine) + CutMark + "|" + at + "two"},
		"an endless character":      {at + "x" + strings.Repeat("ü", MaxLine) + "\n", at + "x" + strings.Repeat("ü", MaxLine/2-1) + CutMark},
		"nothing":                   {"", ""},
	} {
		t.Run(name, func(t *testing.T) {
			var got []string
			for _, l := range page(t, row.in, 0, 0).Lines {
				got = append(got, l.Text)
			}
			if joined := strings.Join(got, "|"); joined != row.want {
				t.Errorf("lines are %.200q, want %.200q", joined, row.want)
			}
		})
	}
}

// A damaged log is read to its end, in lines that any client can show.
func FuzzReadLog(f *testing.F) {
	f.Add([]byte(at+"one\n"+at+"TASK OK\n"), 1, 500)
	f.Add([]byte(at+"one\n\x00\x00"), 0, 0)
	f.Add([]byte("hello\n\n\xff\xfe\r\n"+strings.Repeat("ü", 5000)), 2, 1)
	f.Fuzz(func(t *testing.T, data []byte, start, limit int) {
		whole := page(t, string(data), 0, 0)
		if want := strings.Count(string(data), "\n"); whole.Total != want && whole.Total != want+1 {
			t.Fatalf("%d lines, want %d or one more", whole.Total, want)
		}
		for n, l := range whole.Lines {
			bad := func(r rune) bool { return unicode.IsControl(r) && r != '\t' }
			if l.N != n+1 || !HasTime(l.Text) || !utf8.ValidString(l.Text) || strings.ContainsFunc(l.Text, bad) ||
				len(l.Text) > PrefixBytes+3*MaxLine+len(CutMark) {
				t.Fatalf("line %d is %d %q", n+1, l.N, l.Text)
			}
		}
		p := page(t, string(data), start, limit)
		if p.Total != whole.Total || limit > 0 && len(p.Lines) > limit {
			t.Fatalf("from %d, %d lines: %d of %d, the whole has %d", start, limit, len(p.Lines), p.Total, whole.Total)
		}
		for n, l := range p.Lines {
			if want := whole.Lines[max(start, 1)-1+n]; l.N != want.N || l.Text[PrefixBytes:] != want.Text[PrefixBytes:] {
				t.Fatalf("line %+v, in the whole it is %+v", l, want)
			}
		}
		if _, _, err := LastResult(NewReader(strings.NewReader(string(data)), noon)); err != nil {
			t.Fatal(err)
		}
	})
}
