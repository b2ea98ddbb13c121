package keys

import (
	"encoding/xml"
	"fmt"
	"strings"
	"testing"

	"rsc.io/qr/coding"
)

// A modules is a QR code as read from paper: true is dark, [row][column].
type modules [][]bool

// readBlocks finds the QR codes drawn with half blocks in text.
func readBlocks(text string) []modules {
	var codes []modules
	var code modules
	for line := range strings.Lines(text + "\n\n") {
		line = strings.TrimSuffix(line, "\n")
		if !strings.ContainsAny(line, "█▀▄") {
			if len(code) > 0 {
				codes = append(codes, square(code))
			}
			code = nil
			continue
		}
		var top, bottom []bool
		for _, r := range line {
			top = append(top, r == '█' || r == '▀')
			bottom = append(bottom, r == '█' || r == '▄')
		}
		code = append(code, top, bottom)
	}
	return codes
}

// square cuts the margin off, and the half line that an odd height leaves.
func square(code modules) modules {
	left := len(code[0])
	for _, row := range code {
		for x, dark := range row {
			if dark {
				left = min(left, x)
			}
		}
	}
	size := len(code[0]) - left // the first row ends in a corner mark, without margin
	cut := make(modules, size)
	for y := range cut {
		row := append(code[y], make([]bool, left+size)...)
		cut[y] = row[left : left+size]
	}
	return cut
}

// decode reads a QR code (ISO/IEC 18004). It corrects no errors: every module
// must be the one that the text gives.
func (m modules) decode() (string, coding.Level, error) {
	version, level, mask := coding.Version((len(m)-17)/4), m.level(), m.mask()
	plan, err := coding.NewPlan(version, level, mask)
	if err != nil {
		return "", level, err
	}
	r := bitReader{bytes: make([]byte, plan.DataBytes+plan.CheckBytes)}
	for y, row := range plan.Pixel {
		for x, pixel := range row {
			isData := pixel.Role() == coding.Data || pixel.Role() == coding.Check
			if isData && m[y][x] != (pixel&coding.Black != 0) {
				r.bytes[pixel.Offset()/8] |= 0x80 >> (pixel.Offset() % 8)
			}
		}
	}
	segments, err := r.segments(version)
	if err != nil {
		return "", level, err
	}
	again, err := plan.Encode(segments...)
	if err != nil {
		return "", level, err
	}
	for y, row := range m {
		for x, dark := range row {
			if again.Black(x, y) != dark {
				return "", level, fmt.Errorf("module %d,%d (%v) is wrong", x, y, plan.Pixel[y][x])
			}
		}
	}
	var text strings.Builder
	for _, s := range segments {
		switch s := s.(type) {
		case coding.Num:
			text.WriteString(string(s))
		case coding.Alpha:
			text.WriteString(string(s))
		case coding.String:
			text.WriteString(string(s))
		}
	}
	return text.String(), level, nil
}

// format returns the 5 bits beside the top left mark: level and mask.
func (m modules) format() int {
	bits := 0
	for x := range 5 {
		bits <<= 1
		if m[8][x] {
			bits |= 1
		}
	}
	return bits ^ 0b10101
}

func (m modules) level() coding.Level { return coding.Level(m.format()>>3 ^ 1) }
func (m modules) mask() coding.Mask   { return coding.Mask(m.format() & 7) }

// A bitReader takes numbers off a string of bits.
type bitReader struct {
	bytes []byte
	next  int
}

func (r *bitReader) read(n int) (v int) {
	for range n {
		v <<= 1
		if r.next < 8*len(r.bytes) && r.bytes[r.next/8]&(0x80>>(r.next%8)) != 0 {
			v |= 1
		}
		r.next++
	}
	return v
}

// segments reads numeric, alphanumeric and byte segments up to the end mark.
func (r *bitReader) segments(v coding.Version) (list []coding.Encoding, err error) {
	class := 0
	if v > 9 {
		class = 1
	}
	if v > 26 {
		class = 2
	}
	for {
		switch mode := r.read(4); mode {
		case 0:
			return list, nil
		case 1:
			list = append(list, r.numeric(r.read(10+2*class)))
		case 2:
			list = append(list, r.alpha(r.read(9+2*class)))
		case 4:
			text := make([]byte, r.read([]int{8, 16, 16}[class]))
			for i := range text {
				text[i] = byte(r.read(8))
			}
			list = append(list, coding.String(text))
		default:
			return nil, fmt.Errorf("segment of mode %d", mode)
		}
	}
}

func (r *bitReader) numeric(n int) coding.Num {
	var text string
	for ; n > 0; n -= 3 {
		digits := min(n, 3)
		text += fmt.Sprintf("%0*d", digits, r.read(3*digits+1))
	}
	return coding.Num(text)
}

func (r *bitReader) alpha(n int) coding.Alpha {
	const alphabet = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ $%*+-./:"
	var text []byte
	for ; n > 1; n -= 2 {
		pair := r.read(11)
		text = append(text, alphabet[pair/45%45], alphabet[pair%45])
	}
	if n == 1 {
		text = append(text, alphabet[r.read(6)%45])
	}
	return coding.Alpha(text)
}

// readSVG reads a picture that svg drew back from its bytes.
func readSVG(t *testing.T, picture string) modules {
	t.Helper()
	var parsed struct {
		ViewBox string `xml:"viewBox,attr"`
		Path    struct {
			D string `xml:"d,attr"`
		} `xml:"path"`
	}
	if err := xml.Unmarshal([]byte(picture), &parsed); err != nil {
		t.Fatal(err)
	}
	var size, height int
	if _, err := fmt.Sscanf(parsed.ViewBox, "0 0 %d %d", &size, &height); err != nil || size != height {
		t.Fatalf("view box is %q, %v", parsed.ViewBox, err)
	}
	code := make(modules, size-2*quiet)
	for y := range code {
		code[y] = make([]bool, len(code))
	}
	for stroke := range strings.SplitSeq(strings.TrimSuffix(parsed.Path.D, "z"), "z") {
		var x, y, right, left int
		if _, err := fmt.Sscanf(stroke, "M%d %dh%dv1h-%d", &x, &y, &right, &left); err != nil || left != right {
			t.Fatalf("stroke is %q, %v", stroke, err)
		}
		for i := range right {
			code[y-quiet][x-quiet+i] = true
		}
	}
	return code
}

// wantCodes decodes each code and compares.
func wantCodes(t *testing.T, name string, codes []modules, want ...string) {
	t.Helper()
	if len(codes) != len(want) {
		t.Errorf("%s: %d QR codes, want %d", name, len(codes), len(want))
		return
	}
	for i, code := range codes {
		text, level, err := code.decode()
		if err != nil || text != want[i] || level != coding.M {
			t.Errorf("%s: QR code %d of level %v, %v, says\n%s\nwant level M\n%s", name, i+1, level, err, text, want[i])
		}
	}
}

// TestQRCodesAreReadBack draws texts of all lengths up to the size of a key
// file, and reads them back with a decoder that also reads the real client's.
func TestQRCodesAreReadBack(t *testing.T) {
	text := strings.Repeat("The quick brown fox jumps over 13 lazy dogs. ", 20)
	for n := 1; n <= len(text); n += 37 {
		code, err := encodeQR(text[:n])
		if err != nil {
			t.Fatal(err)
		}
		name := fmt.Sprintf("%d bytes", n)
		wantCodes(t, name+" in half blocks", readBlocks(halfBlocks(code)), text[:n])
		wantCodes(t, name+" as SVG", []modules{readSVG(t, svg(code))}, text[:n])
	}
}

func TestQRCodesHaveTheirMargin(t *testing.T) {
	code, err := encodeQR("margin")
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(halfBlocks(code), "\n")
	if lines[0] != "" || lines[1] != "" || lines[len(lines)-2] != "" || lines[len(lines)-3] != "" {
		t.Errorf("half blocks have no two empty lines above and below: %q", lines)
	}
	for _, line := range lines[2 : len(lines)-3] {
		if !strings.HasPrefix(line, "    ") {
			t.Errorf("line %q begins without a margin", line)
		}
	}
}

func TestTextTooLongForAQRCodeIsRefused(t *testing.T) {
	if _, err := encodeQR(strings.Repeat("x", 3000)); err == nil || !strings.Contains(err.Error(), "draw 3000 bytes as QR code") {
		t.Errorf("error is %v", err)
	}
}
