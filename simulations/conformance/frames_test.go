package conformance

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/holdfast-mesh/holdfast/pbs/upgrade"
)

// A raw is a client that no library stands before: what it sends is written
// here byte by byte, or as frames.
type raw struct {
	t      *testing.T
	conn   *tls.Conn
	r      *bufio.Reader
	framer *http2.Framer
	next   uint32 // stream
	out    bytes.Buffer

	answers map[uint32]*answer
	begun   []http2.Setting // what the server began with
	window  int             // what it granted the connection beyond 65,535
}

// An answer is what came on a stream.
type answer struct {
	status string
	header map[string]string
	body   []byte
	ended  bool
}

func (a *answer) String() string { return a.status + " " + string(a.body) }

func (w *wire) dial() *raw {
	w.t.Helper()
	conn, err := tls.Dial("tcp", w.addr, &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(30 * time.Second))
	r := &raw{t: w.t, conn: conn, r: bufio.NewReader(conn), next: 1, answers: map[uint32]*answer{}}
	r.framer = http2.NewFramer(&r.out, r.r)
	r.framer.SetMaxReadFrameSize(upgrade.MaxFrame)
	r.framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	return r
}

// flush writes what is in the buffer, behind a head of HTTP/1.
func (r *raw) flush(head string) {
	r.t.Helper()
	_, err := r.conn.Write(append([]byte(head), r.out.Bytes()...))
	r.out.Reset()
	if err != nil {
		r.t.Fatal(err)
	}
}

// lines makes a head out of lines.
func lines(l ...string) string { return strings.Join(l, "\r\n") + "\r\n\r\n" }

// response reads an answer of HTTP/1.
func (r *raw) response() (int, string) {
	r.t.Helper()
	resp, err := http.ReadResponse(r.r, nil)
	if err != nil {
		r.t.Fatal(err)
	}
	if resp.StatusCode == http.StatusSwitchingProtocols {
		return resp.StatusCode, resp.Header.Get("Upgrade")
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

// preface begins HTTP/2 as the official client does.
func (r *raw) preface() {
	r.out.WriteString(http2.ClientPreface)
	r.framer.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1<<31 - 2}, http2.Setting{ID: http2.SettingMaxFrameSize, Val: upgrade.MaxFrame})
	r.framer.WriteWindowUpdate(0, 1<<31-2-65535)
}

// session asks for a session with these headers, and begins HTTP/2.
func (w *wire) session(target string, headers ...string) *raw {
	w.t.Helper()
	r := w.dial()
	r.flush(lines(append([]string{"GET " + target + " HTTP/1.1"}, headers...)...))
	if status, text := r.response(); status != http.StatusSwitchingProtocols {
		w.t.Fatalf("%s: %d %s", target, status, text)
	}
	r.preface()
	return r
}

// backup is a session as the official client asks for one.
func (w *wire) rawBackup(group string, at int) *raw {
	w.t.Helper()
	typ, id, _ := strings.Cut(group, "/")
	return w.session(fmt.Sprintf("//api2/json/backup?backup-id=%s&backup-time=%d&backup-type=%s&benchmark=false&debug=true&store=store1", id, at, typ),
		"host: 127.0.0.1:8007", "connection: upgrade", "upgrade: "+upgrade.Backup, w.admin())
}

// send puts a request into the buffer, and returns its stream. The first fields
// are those of the pseudo headers, in the order :method, :scheme, :authority,
// :path; an empty one is left out. Pieces are frames of the body.
func (r *raw) send(pseudo [4]string, fields []string, pieces ...[]byte) uint32 {
	var block bytes.Buffer
	e := hpack.NewEncoder(&block)
	for i, name := range []string{":method", ":scheme", ":authority", ":path"} {
		if pseudo[i] != "" {
			e.WriteField(hpack.HeaderField{Name: name, Value: pseudo[i]})
		}
	}
	for _, f := range fields {
		name, value, _ := strings.Cut(f, ": ")
		e.WriteField(hpack.HeaderField{Name: name, Value: value})
	}
	id := r.next
	r.next += 2
	r.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block.Bytes(), EndHeaders: true, EndStream: len(pieces) == 0})
	for i, p := range pieces {
		r.framer.WriteData(id, i == len(pieces)-1, p)
	}
	return id
}

const form, octets, jsonType = "content-type: application/x-www-form-urlencoded", "content-type: application/octet-stream", "content-type: application/json"

// ask sends a request as the official client does, and waits for its answer.
func (r *raw) ask(method, path, kind string, body ...[]byte) *answer {
	r.t.Helper()
	id := r.send([4]string{method, "https", "localhost:8007", path}, []string{kind, "user-agent: proxmox-backup-client/1.0"}, body...)
	r.flush("")
	return r.wait(id)
}

// want asks without a body and compares the answer.
func (r *raw) want(method, path, prefix string) {
	r.t.Helper()
	if got := r.ask(method, path, form).String(); !strings.HasPrefix(got, prefix) {
		r.t.Errorf("%s %s: %s, want %s", method, path, got, prefix)
	}
}

// wait reads frames until a stream has ended.
func (r *raw) wait(id uint32) *answer {
	r.t.Helper()
	for r.answers[id] == nil || !r.answers[id].ended {
		f, err := r.framer.ReadFrame()
		if err != nil {
			r.t.Fatalf("stream %d: %v", id, err)
		}
		stream := r.answers[f.Header().StreamID]
		if stream == nil {
			stream = &answer{header: map[string]string{}}
			r.answers[f.Header().StreamID] = stream
		}
		switch f := f.(type) {
		case *http2.SettingsFrame:
			f.ForeachSetting(func(s http2.Setting) error {
				r.begun = append(r.begun, s)
				return nil
			})
		case *http2.WindowUpdateFrame:
			if f.StreamID == 0 && r.window == 0 {
				r.window = int(f.Increment)
			}
		case *http2.MetaHeadersFrame:
			for _, h := range f.Fields {
				stream.header[h.Name] = h.Value
			}
			stream.status, stream.ended = f.PseudoValue("status"), f.StreamEnded()
		case *http2.DataFrame:
			stream.body, stream.ended = append(stream.body, f.Data()...), f.StreamEnded()
		case *http2.RSTStreamFrame, *http2.GoAwayFrame:
			r.t.Fatalf("stream %d: the server says %v", id, f)
		}
	}
	return r.answers[id]
}
