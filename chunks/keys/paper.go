package keys

import (
	"bytes"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"html"
	"io"
	"slices"
	"strings"
)

// The lines around a key on paper, as the real client prints and finds them.
const (
	paperBegin = "-----BEGIN PROXMOX BACKUP KEY-----"
	paperEnd   = "-----END PROXMOX BACKUP KEY-----"
)

// linesPerCode bounds a QR code of a master key to 650 bytes, about the size
// of the codes of key files, which every telephone reads off paper.
const linesPerCode = 10

// A Paper is a key in a form to print and put away: as text that can be typed
// in again, and as QR codes with the same content. It is as secret as the
// file: a key without passphrase lies open on the paper.
type Paper struct {
	subject string
	parts   []part
}

// A part is what stands together on a page with its QR code.
type part struct{ text, code string }

// NewPaper prints a key file. The subject says in one line what the key is
// for; it may be empty.
func NewPaper(f *File, subject string) (*Paper, error) {
	if err := checkSubject(subject); err != nil {
		return nil, err
	}
	var pretty bytes.Buffer
	if err := json.Indent(&pretty, f.Bytes(), "", "  "); err != nil {
		panic("a key file is no JSON: " + err.Error())
	}
	text := pretty.String()
	return &Paper{subject, []part{{paperBegin + "\n" + text + "\n" + paperEnd + "\n", text}}}, nil
}

// NewMasterPaper prints the private key of a master key, as
// [MarshalMaster] made it or the real client. It is spread over several QR
// codes, which are put together again by appending one to the other.
func NewMasterPaper(text []byte, subject string) (*Paper, error) {
	if err := checkSubject(subject); err != nil {
		return nil, err
	}
	block, err := privateBlock(text)
	if err != nil {
		return nil, err
	}
	p := &Paper{subject: subject}
	lines := slices.Collect(strings.Lines(string(pem.EncodeToMemory(block))))
	for chunk := range slices.Chunk(lines, linesPerCode) {
		text := strings.Join(chunk, "")
		p.parts = append(p.parts, part{text, text})
	}
	return p, nil
}

func checkSubject(subject string) error {
	if strings.ContainsFunc(subject, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return fmt.Errorf("paper key: the subject %.80q has more than one line or control characters", subject)
	}
	return nil
}

// WriteText prints the paper with characters only: the text, then the codes.
func (p *Paper) WriteText(w io.Writer) error {
	var b strings.Builder
	if p.subject != "" {
		fmt.Fprintf(&b, "Subject: %s\n\n", p.subject)
	}
	for _, part := range p.parts {
		b.WriteString(part.text)
	}
	for i, part := range p.parts {
		code, err := encodeQR(part.code)
		if err != nil {
			return fmt.Errorf("print key: %w", err)
		}
		if len(p.parts) > 1 {
			fmt.Fprintf(&b, "\nQR code %d of %d\n", i+1, len(p.parts))
		}
		b.WriteString(halfBlocks(code))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

const paperHead = `<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>Paper key</title>
<style>
pre { font-size: 11pt; white-space: pre-wrap; overflow-wrap: anywhere; }
section { break-inside: avoid; }
img { display: block; width: 12cm; margin: 0 auto; }
</style>
</head>
<body>
`

// WriteHTML prints the paper as a page for a browser, in one file.
func (p *Paper) WriteHTML(w io.Writer) error {
	var b strings.Builder
	b.WriteString(paperHead)
	if p.subject != "" {
		fmt.Fprintf(&b, "<p>Subject: %s</p>\n", html.EscapeString(p.subject))
	}
	for i, part := range p.parts {
		code, err := encodeQR(part.code)
		if err != nil {
			return fmt.Errorf("print key: %w", err)
		}
		fmt.Fprintf(&b, "<section>\n<pre>\n%s</pre>\n", html.EscapeString(part.text))
		fmt.Fprintf(&b, "<img alt=\"QR code %d of %d\" src=\"%s\">\n</section>\n", i+1, len(p.parts), dataURL(svg(code)))
	}
	b.WriteString("</body>\n</html>\n")
	_, err := io.WriteString(w, b.String())
	return err
}

// maxPaper is the size in bytes of the longest text that ParsePaper reads.
// Pages of the real client have 180 KB, most of them one picture.
const maxPaper = 1 << 20

// ParsePaper reads a key file back from paper: what was typed in or scanned,
// or the whole text or page as it was printed, by us or by the real client.
// Long lines may be broken, lines indented, quotation marks be of the kind
// that text programs make of the plain ones. It fails as [Parse] does: with
// [ErrFingerprint] if a mistyped key can be told by its fingerprint.
func ParsePaper(text []byte) (*File, error) {
	if len(text) > maxPaper {
		return nil, fmt.Errorf("read paper key: %d bytes, at most %d are allowed", len(text), maxPaper)
	}
	body, err := paperBody(string(text))
	if err != nil {
		return nil, fmt.Errorf("read paper key: %w", err)
	}
	f, err := Parse([]byte(body))
	if err != nil {
		// The marks inside a hint may be meant, so only the second try alters them.
		plain, second := Parse([]byte(typedMarks.Replace(body)))
		if second != nil {
			return nil, fmt.Errorf("read paper key: %w", err)
		}
		return plain, nil
	}
	return f, nil
}

var typedMarks = strings.NewReplacer("“", `"`, "”", `"`, "„", `"`, "‟", `"`, "«", `"`, "»", `"`, "\u00a0", " ")

// paperBody joins the lines of the key, without the space around them: a
// break in the middle of a value came from the paper's width.
func paperBody(text string) (string, error) {
	if strings.HasPrefix(strings.TrimSpace(text), "<") {
		text = html.UnescapeString(text)
	}
	var outside, inside strings.Builder
	keys, open := 0, false
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(line, "-") && strings.Contains(line, "BEGIN PROXMOX BACKUP KEY"):
			keys++
			open = true
		case strings.HasPrefix(line, "-") && strings.Contains(line, "END PROXMOX BACKUP KEY"):
			open = false
		case open:
			inside.WriteString(line)
		default:
			outside.WriteString(line)
		}
	}
	switch {
	case keys == 0:
		return outside.String(), nil
	case keys > 1:
		return "", fmt.Errorf("there are %d keys, want 1", keys)
	case open:
		return "", fmt.Errorf("the line %q is missing", paperEnd)
	}
	return inside.String(), nil
}
