package keys

import (
	"bytes"
	"encoding/base64"
	"errors"
	"regexp"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// beforeCode returns what stands on a paper before the first QR code.
func beforeCode(text string) string {
	head, _, _ := strings.Cut(text, "█")
	return strings.TrimRight(head, " \n")
}

func printed(t testing.TB, p *Paper, err error) (text, page string) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	var a, b bytes.Buffer
	if err := errors.Join(p.WriteText(&a), p.WriteHTML(&b)); err != nil {
		t.Fatal(err)
	}
	return a.String(), b.String()
}

// pictures returns the QR codes of a page.
func pictures(t *testing.T, page string) (codes []modules) {
	t.Helper()
	for _, match := range regexp.MustCompile(`src="data:image/svg\+xml;base64,([^"]*)"`).FindAllStringSubmatch(page, -1) {
		picture, err := base64.StdEncoding.DecodeString(match[1])
		if err != nil {
			t.Fatal(err)
		}
		codes = append(codes, readSVG(t, string(picture)))
	}
	return codes
}

func TestPaperIsThatOfTheRealClient(t *testing.T) {
	for _, name := range []string{"none", "scrypt", "pbkdf2"} {
		p, err := NewPaper(goldenFile(t, name+".json"), "golden "+name)
		text, page := printed(t, p, err)
		theirs := string(golden(t, name+".paperkey.txt"))
		if beforeCode(text) != beforeCode(theirs) {
			t.Errorf("%s prints\n%s\nwant\n%s", name, beforeCode(text), beforeCode(theirs))
		}
		_, inside, _ := strings.Cut(beforeCode(theirs), paperBegin+"\n")
		inside = strings.TrimSuffix(inside, "\n"+paperEnd)
		wantCodes(t, name+" by the real client", readBlocks(theirs), inside)
		wantCodes(t, name+" as text", readBlocks(text), inside)
		wantCodes(t, name+" as a page", pictures(t, page), inside)
		if len(page) > 64<<10 {
			t.Errorf("%s: the page has %d bytes, want a twentieth of the real client's at most", name, len(page))
		}
	}
}

func TestPaperIsReadBack(t *testing.T) {
	none, scrypt := string(golden(t, "none.json")), string(golden(t, "scrypt.json"))
	real := string(golden(t, "scrypt.paperkey.txt"))
	p, err := NewPaper(goldenFile(t, "scrypt.json"), "<b>")
	text, page := printed(t, p, err)
	typed := beforeCode(real)
	_, scanned, _ := strings.Cut(strings.TrimSuffix(typed, paperEnd), paperBegin)
	var narrow strings.Builder
	for line := range strings.Lines(typed) {
		for ; len(line) > 60 && !strings.Contains(line, "hint"); line = line[60:] {
			narrow.WriteString(line[:60] + "\n")
		}
		narrow.WriteString(line)
	}
	for _, test := range []struct{ name, text, want string }{
		{"the text of the real client", real, scrypt},
		{"our text", text, scrypt},
		{"our page", page, scrypt},
		{"a page whose signs are not escaped, as the real client's", "<p>\n" + typed + "\n</p>", scrypt},
		{"what a QR code says", scanned, scrypt},
		{"a file", none, none},
		{"line ends of Windows, and indented lines", strings.ReplaceAll(typed, "\n", "\r\n\t "), scrypt},
		{"lines broken by a narrow paper", narrow.String(), scrypt},
		{"quotation marks of a text program", strings.ReplaceAll(strings.ReplaceAll(typed, `": "`, "”: “"), `",`, "”,"), scrypt},
		{"dashes that somebody counted badly", strings.ReplaceAll(typed, "-----", "---"), scrypt},
	} {
		f, err := ParsePaper([]byte(test.text))
		if err != nil || string(f.Bytes()) != test.want {
			t.Errorf("%s: %v\n%s", test.name, err, test.text)
		}
	}
}

func TestPaperWithMistakesIsRefused(t *testing.T) {
	typed := beforeCode(string(golden(t, "none.paperkey.txt")))
	for _, test := range []struct{ name, text, want string }{
		{"nothing", "", "unexpected EOF"},
		{"no end", strings.TrimSuffix(typed, paperEnd), `"` + paperEnd + `" is missing`},
		{"two keys", typed + "\n" + typed, "there are 2 keys, want 1"},
		{"a line left out", strings.Replace(typed, `  "modified": "2026-11-21T01:24:14+00:00",`, "", 1), "modified: is missing"},
		{"a letter left out", strings.Replace(typed, "4+uJ", "4+u", 1), "data: illegal base64"},
		{"a text too long", strings.Repeat("x", maxPaper+1), "at most 1048576"},
	} {
		if _, err := ParsePaper([]byte(test.text)); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: error is %v, want one with %q", test.name, err, test.want)
		}
	}
	mistyped := strings.Replace(typed, "4+uJ", "4+uj", 1)
	if _, err := ParsePaper([]byte(mistyped)); !errors.Is(err, ErrFingerprint) {
		t.Errorf("error of a mistyped letter is %v", err)
	}
}

func TestEveryPaperIsReadBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := anyFile(t)
		subject := rapid.StringMatching(`[ -~]{0,40}`).Draw(t, "subject")
		p, err := NewPaper(f, subject)
		if err != nil {
			t.Fatal(err)
		}
		var text, page bytes.Buffer
		if err := errors.Join(p.WriteText(&text), p.WriteHTML(&page)); err != nil {
			t.Fatal(err)
		}
		for _, paper := range [][]byte{text.Bytes(), page.Bytes()} {
			if back, err := ParsePaper(paper); err != nil || !bytes.Equal(back.Bytes(), f.Bytes()) {
				t.Fatalf("%s: %v is read back from\n%s", f.Bytes(), err, paper)
			}
		}
	})
}

func TestSubjectIsOneLine(t *testing.T) {
	for _, subject := range []string{"a\nb", "\x1b[2J"} {
		if _, err := NewPaper(goldenFile(t, "none.json"), subject); err == nil || !strings.Contains(err.Error(), "more than one line") {
			t.Errorf("error of %q is %v", subject, err)
		}
	}
	p, err := NewPaper(goldenFile(t, "none.json"), "<script>")
	text, page := printed(t, p, err)
	if !strings.HasPrefix(text, "Subject: <script>\n\n"+paperBegin) || !strings.Contains(page, "<p>Subject: &lt;script&gt;</p>") {
		t.Errorf("the subject is printed as\n%.60s\nand\n%.600s", text, page)
	}
	p, err = NewPaper(goldenFile(t, "none.json"), "")
	if text, page := printed(t, p, err); !strings.HasPrefix(text, paperBegin) || strings.Contains(page, "Subject") {
		t.Errorf("no subject is printed as\n%.60s\nand\n%.600s", text, page)
	}
}

func TestHintTooLongForAQRCodeFails(t *testing.T) {
	f := goldenFile(t, "scrypt.json")
	f.Hint = strings.Repeat("x", 5000)
	p, err := NewPaper(f, "")
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := p.WriteText(&b); err == nil || b.Len() > 0 {
		t.Errorf("wrote %d bytes, error is %v", b.Len(), err)
	}
	if err := p.WriteHTML(&b); err == nil || b.Len() > 0 {
		t.Errorf("wrote %d bytes, error is %v", b.Len(), err)
	}
}

func TestMasterPaper(t *testing.T) {
	private := string(golden(t, "master-private.pem"))
	p, err := NewMasterPaper([]byte(private), "the safe")
	text, page := printed(t, p, err)
	if !strings.HasPrefix(text, "Subject: the safe\n\n"+private+"\nQR code 1 of 6\n") {
		t.Errorf("printed\n%.4000s", text)
	}
	lines := strings.SplitAfter(private, "\n")
	var want []string
	for ; len(lines) > 1; lines = lines[min(len(lines)-1, linesPerCode):] {
		want = append(want, strings.Join(lines[:min(len(lines)-1, linesPerCode)], ""))
	}
	wantCodes(t, "text", readBlocks(text), want...)
	wantCodes(t, "page", pictures(t, page), want...)
	master, err := ParseMaster([]byte(text), Passphrase(goldenPassphrase(t)))
	if err != nil || master.N.BitLen() != 4096 {
		t.Errorf("the paper is read back as %v, %v", master, err)
	}
	if _, err := NewMasterPaper(golden(t, "master-public.pem"), ""); err == nil || !strings.Contains(err.Error(), `"PUBLIC KEY"`) {
		t.Errorf("error of a public key is %v", err)
	}
}

// FuzzParsePaper: what is accepted prints as a text that is accepted and is
// the same key.
func FuzzParsePaper(f *testing.F) {
	for _, name := range []string{"none", "scrypt", "pbkdf2"} {
		f.Add([]byte(beforeCode(string(golden(f, name+".paperkey.txt")))))
	}
	f.Add([]byte("<p>" + strings.ReplaceAll(string(golden(f, "none.json")), `"`, "&quot;")))
	f.Add([]byte(strings.ReplaceAll(string(golden(f, "none.json")), `"`, "“")))
	f.Fuzz(func(t *testing.T, text []byte) {
		file, err := ParsePaper(text)
		if err != nil {
			return
		}
		p, err := NewPaper(file, "")
		if err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		if err := p.WriteText(&b); err != nil {
			return // too long for a code
		}
		if back, err := ParsePaper(b.Bytes()); err != nil || !bytes.Equal(back.Bytes(), file.Bytes()) {
			t.Fatalf("%s: %v is read back from\n%s", file.Bytes(), err, b.Bytes())
		}
	})
}
