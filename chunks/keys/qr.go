package keys

import (
	"encoding/base64"
	"fmt"
	"strings"

	"rsc.io/qr"
)

// quiet is the white margin in modules that a reader needs around a QR code
// (ISO/IEC 18004 §5.3.8).
const quiet = 4

// encodeQR draws text with error correction level M, which the real client
// uses too: a seventh of the code may be stained.
func encodeQR(text string) (*qr.Code, error) {
	code, err := qr.Encode(text, qr.M)
	if err != nil {
		return nil, fmt.Errorf("draw %d bytes as QR code: %w", len(text), err)
	}
	return code, nil
}

// halfBlocks draws the code with characters that are one module wide and two
// high, dark on white paper, with its margin.
func halfBlocks(code *qr.Code) string {
	var b strings.Builder
	b.WriteString(strings.Repeat("\n", quiet/2))
	for y := 0; y < code.Size; y += 2 {
		b.WriteString(strings.Repeat(" ", quiet))
		for x := range code.Size {
			upper, lower := code.Black(x, y), code.Black(x, y+1)
			switch {
			case upper && lower:
				b.WriteRune('█')
			case upper:
				b.WriteRune('▀')
			case lower:
				b.WriteRune('▄')
			default:
				b.WriteByte(' ')
			}
		}
		b.WriteByte('\n')
	}
	b.WriteString(strings.Repeat("\n", quiet/2))
	return b.String()
}

// svg draws the code as a picture with its margin: one path whose every
// stroke is a run of dark modules.
func svg(code *qr.Code) string {
	size := code.Size + 2*quiet
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" shape-rendering="crispEdges">`, size, size)
	fmt.Fprintf(&b, `<rect width="%d" height="%d" fill="#fff"/><path d="`, size, size)
	for y := range code.Size {
		for x := 0; x < code.Size; x++ {
			start := x
			for code.Black(x, y) {
				x++
			}
			if x > start {
				fmt.Fprintf(&b, "M%d %dh%dv1h-%dz", start+quiet, y+quiet, x-start, x-start)
			}
		}
	}
	b.WriteString(`"/></svg>`)
	return b.String()
}

// dataURL makes an svg stand in an HTML page that has no other files.
func dataURL(svg string) string {
	return "data:image/svg+xml;base64," + base64.StdEncoding.EncodeToString([]byte(svg))
}
