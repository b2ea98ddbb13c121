package front

import "bytes"

// A head passes bytes of HTTP/1 on as they come, and adds an empty Host line
// to the head of an HTTP/1.1 request that has none: some clients send none with
// the request for an upgrade, and net/http refuses that before a handler could
// decide (PBS protocol notes §13.1). All else stays as it is. The zero value
// is before the first byte.
type head struct {
	stage    stage
	line     []byte // of what decides, the beginning of the line; at most maxKept
	withheld bool   // a "\r" at the beginning of a line
	host     bool   // seen
	fix      bool   // it is a request of HTTP/1.1
}

// A stage is what the next byte belongs to.
type stage uint8

const (
	requestLine stage = iota
	fieldLine
	body // and all behind it, until the next request
)

// maxKept is how much of a line is kept. A request line is longer only if it
// is refused anyway: paths may have 3,072 bytes.
const maxKept = 4096

const added = "Host:\r\n"

// reset says that the next byte begins a request.
func (h *head) reset() { *h = head{line: h.line[:0]} }

// passing tells whether bytes pass unchanged until the next reset.
func (h *head) passing() bool { return h.stage == body }

// feed appends to out what is passed on for in.
func (h *head) feed(out, in []byte) []byte {
	for i, c := range in {
		if h.stage == body {
			return append(out, in[i:]...)
		}
		out = h.step(out, c)
	}
	return out
}

func (h *head) step(out []byte, c byte) []byte {
	first := len(h.line) == 0
	switch {
	case h.stage == fieldLine && first && c == '\r' && !h.withheld:
		h.withheld = true
		return out
	case h.stage == fieldLine && first && c == '\n': // the empty line
		if h.fix && !h.host {
			out = append(out, added...)
		}
		h.stage = body
	}
	out = h.release(out)
	out = append(out, c)
	switch {
	case h.stage == body:
	case c == '\n':
		h.endLine()
	case len(h.line) < maxKept:
		h.line = append(h.line, c)
	}
	return out
}

// release appends what was withheld.
func (h *head) release(out []byte) []byte {
	if h.withheld {
		h.withheld = false
		out = append(out, '\r')
	}
	return out
}

func (h *head) endLine() {
	line := bytes.TrimSuffix(h.line, []byte("\r"))
	switch {
	case h.stage == fieldLine:
		name, _, _ := bytes.Cut(line, []byte(":"))
		h.host = h.host || bytes.EqualFold(bytes.TrimSpace(name), []byte("host"))
	case len(line) > 0: // net/http refuses what an empty line is before, or skips it
		h.fix = isRequest(line)
		h.stage = fieldLine
	}
	h.line = h.line[:0]
}

// isRequest tells whether a line is METHOD TARGET HTTP/1.1.
func isRequest(line []byte) bool {
	method, rest, _ := bytes.Cut(line, []byte(" "))
	target, version, _ := bytes.Cut(rest, []byte(" "))
	for _, c := range method {
		if c < 'A' || c > 'Z' {
			return false
		}
	}
	return len(method) > 0 && len(target) > 0 && string(version) == "HTTP/1.1"
}
