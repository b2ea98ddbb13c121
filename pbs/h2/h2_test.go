package h2

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2/hpack"
)

// A peer speaks frames as they are, right or wrong.
type peer struct {
	t     *testing.T
	conn  net.Conn
	ended chan error
	got   chan got
}

// got is a frame that came.
type got struct {
	header
	payload []byte
}

func dial(t *testing.T, h http.HandlerFunc, cfg Config) *peer {
	t.Helper()
	near, far := net.Pipe()
	p := &peer{t, near, make(chan error, 1), make(chan got, 1000)}
	go func() { p.ended <- Serve(t.Context(), far, h, cfg) }()
	go func() {
		defer close(p.got)
		for {
			var b [frameHeader]byte
			if _, err := io.ReadFull(near, b[:]); err != nil {
				return
			}
			f := got{header: parseHeader(&b)}
			f.payload = make([]byte, f.length)
			if _, err := io.ReadFull(near, f.payload); err != nil {
				return
			}
			p.got <- f
		}
	}()
	t.Cleanup(func() { near.Close() })
	p.write(preface + frame(frameSettings, 0, 0, ""))
	return p
}

func (p *peer) write(text string) {
	p.t.Helper()
	if _, err := io.WriteString(p.conn, text); err != nil {
		p.t.Error(err)
	}
}

// request makes the head of a request with the headers as they are given.
func request(stream uint32, end bool, fields ...string) string {
	var b bytes.Buffer
	enc := hpack.NewEncoder(&b)
	for _, f := range fields {
		name, value, _ := strings.Cut(f, "=")
		enc.WriteField(hpack.HeaderField{Name: name, Value: value})
	}
	flags := byte(flagEndHeaders)
	if end {
		flags |= flagEndStream
	}
	return frame(frameHeaders, flags, stream, b.String())
}

// answer returns the status and the body of a stream.
func (p *peer) answer(stream uint32) (status, body string) {
	dec := hpack.NewDecoder(4096, func(h hpack.HeaderField) {
		if h.Name == ":status" {
			status = h.Value
		}
	})
	for f := range p.got {
		switch {
		case f.typ == frameGoAway:
			return fmt.Sprint("goaway ", binary.BigEndian.Uint32(f.payload[4:])), ""
		case f.stream != stream:
			continue
		case f.typ == frameReset:
			return fmt.Sprint("reset ", binary.BigEndian.Uint32(f.payload)), body
		case f.typ == frameHeaders:
			dec.Write(f.payload)
		case f.typ == frameData:
			body += string(f.payload)
		}
		if f.has(flagEndStream) && f.typ <= frameHeaders {
			return status, body
		}
	}
	return "the connection ended", body
}

func echo(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	fmt.Fprintf(w, "%s %s %q %s %v", r.Method, r.URL.Path, r.Host, body, err)
}

// Requests as clients in use send them, among them pxar-cli's (§13.7), and
// mistakes that end a stream or the connection.
func TestRequests(t *testing.T) {
	get, post := []string{":method=GET", ":scheme=https", ":authority=localhost:8007", ":path=/x"}, []string{":method=POST", ":scheme=https", ":path=/x"}
	for _, tt := range []struct{ name, send, want string }{
		{"as official clients", request(1, true, get...), `200 GET /x "localhost:8007"  <nil>`},
		{"no slash and no authority", request(1, true, ":method=GET", ":scheme=https", ":path=previous?archive-name=a"), `200 GET /previous ""  <nil>`},
		{"no scheme", request(1, true, ":method=GET", ":path=/x"), `200 GET /x ""  <nil>`},
		{"a body", request(1, false, post...) + frame(frameData, 0, 1, "hel") + frame(frameData, flagEndStream, 1, "lo"), `200 POST /x "" hello <nil>`},
		{"a body with padding", request(1, false, post...) + frame(frameData, flagPadded|flagEndStream, 1, "\x02hello\x00\x00"), `200 POST /x "" hello <nil>`},
		{"a body with trailers", request(1, false, post...) + frame(frameData, 0, 1, "hello") + request(1, true, "x-sum=1"), `200 POST /x "" hello <nil>`},
		{"frames of unknown types", frame(77, 0, 0, "what") + request(1, true, get...), `200 GET /x "localhost:8007"  <nil>`},
		{"a path that is none", request(1, true, ":method=GET", ":path=/%zz"), `200  / ""  <nil>`},
		{"an even stream", request(2, true, get...), "goaway 1 "},
		{"data for no stream", frame(frameData, 0, 5, "x"), "goaway 1 "},
		{"a push", frame(framePush, 0, 1, "1234"), "goaway 1 "},
		{"headers that are none", frame(frameHeaders, flagEndHeaders, 1, "\xff\xff\xff\xff\xff\xff"), "goaway 9 "},
		{"headers without end", request(1, true, ":method=GET", ":path=/x", "x-long="+strings.Repeat("x", maxHeaders+1)), "goaway 9 "},
		{"a ping of seven bytes", frame(framePing, 0, 0, "1234567"), "goaway 6 "},
		{"a frame that is too long", string(appendHeader(nil, 1<<16+1, frameData, 0, 1)), "goaway 6 "},
		{"frames of 100 bytes", frame(frameSettings, 0, 0, "\x00\x05\x00\x00\x00\x64"), "goaway 1 "},
		{"windows beyond what may be", frame(frameWindow, 0, 0, "\x7f\xff\xff\xff"), "goaway 3 "},
		{"padding longer than its frame", request(1, false, post...) + frame(frameData, flagPadded, 1, "\x09hello"), "goaway 1 "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := dial(t, echo, Config{MaxFrame: 1 << 16})
				go p.conn.Write([]byte(tt.send))
				status, body := p.answer(1)
				if got := status + " " + body; got != tt.want {
					t.Errorf("got %s, want %s", got, tt.want)
				}
				p.conn.Close()
				<-p.ended
			})
		})
	}
}

// A handler that panics ends its request, and nothing else.
func TestPanic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := dial(t, func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/bad" {
				panic("oops")
			}
			echo(w, r)
		}, Config{})
		p.write(request(1, true, ":method=GET", ":path=/bad"))
		if status, _ := p.answer(1); status != "reset 2" {
			t.Errorf("the panic: %s", status)
		}
		p.write(request(3, true, ":method=GET", ":path=/x"))
		if status, _ := p.answer(3); status != "200" {
			t.Errorf("after it: %s", status)
		}
	})
}

// A client that sends without looking at the window waits, and is served
// (§13.9); memory for it is bounded by the window.
func TestClientThatIgnoresTheWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const frames, size = 64, 64 << 10
		go_ := make(chan bool)
		p := dial(t, func(w http.ResponseWriter, r *http.Request) {
			<-go_
			n, err := io.Copy(io.Discard, r.Body)
			fmt.Fprint(w, n, err)
		}, Config{Window: 1 << 20})
		sent := make(chan bool)
		go func() {
			p.write(request(1, false, ":method=POST", ":path=/x"))
			for i := range frames {
				flags := byte(0)
				if i == frames-1 {
					flags = flagEndStream
				}
				p.write(frame(frameData, flags, 1, strings.Repeat("x", size)))
			}
			close(sent)
		}()
		time.Sleep(time.Minute)
		select {
		case <-sent:
			t.Error("all was taken, four times the window")
		default:
		}
		close(go_)
		if status, body := p.answer(1); status != "200" || body != fmt.Sprint(frames*size, error(nil)) {
			t.Errorf("%s %s", status, body)
		}
	})
}

// An answer waits for the client's window, of the stream and of the
// connection, and ends when the request is given up.
func TestAnswerHeedsTheWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		wrote := make(chan error, 1)
		p := dial(t, func(w http.ResponseWriter, r *http.Request) {
			_, err := w.Write(make([]byte, 100_000))
			wrote <- err
		}, Config{})
		p.write(request(1, true, ":method=GET", ":path=/x"))
		time.Sleep(time.Minute)
		select {
		case err := <-wrote:
			t.Fatalf("100,000 bytes went into a window of 65,535: %v", err)
		default:
		}
		p.write(frame(frameReset, 0, 1, "\x00\x00\x00\x08"))
		if err := <-wrote; err == nil {
			t.Error("the answer to a request that was given up went out")
		}
		p.write(request(3, true, ":method=GET", ":path=/x") + frame(frameWindow, 0, 0, "\x00\x0f\xff\xff") + frame(frameWindow, 0, 3, "\x00\x0f\xff\xff"))
		if err := <-wrote; err != nil {
			t.Error(err)
		}
		if status, body := p.answer(3); status != "200" || len(body) != 100_000 {
			t.Errorf("%s, %d bytes", status, len(body))
		}
	})
}

// As many requests as there may be, and one more, which is refused; giving
// requests up makes no room before their handlers are out.
func TestTooManyRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := make(chan bool)
		p := dial(t, func(w http.ResponseWriter, r *http.Request) { <-out }, Config{Streams: 2})
		for id := uint32(1); id <= 5; id += 2 {
			p.write(request(id, true, ":method=GET", ":path=/x"))
			if id < 5 {
				p.write(frame(frameReset, 0, id, "\x00\x00\x00\x08"))
			}
		}
		if status, _ := p.answer(5); status != "reset 7" {
			t.Errorf("the third of two: %s", status)
		}
		close(out)
		synctest.Wait()
		p.write(request(7, true, ":method=GET", ":path=/x"))
		if status, _ := p.answer(7); status != "200" {
			t.Errorf("after that: %s", status)
		}
	})
}

// Serve returns after its handlers, whatever they wait for.
func TestEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var read, wait error
		p := dial(t, func(w http.ResponseWriter, r *http.Request) {
			if r.Method == "POST" {
				_, read = r.Body.Read(make([]byte, 10))
				return
			}
			<-r.Context().Done()
			time.Sleep(time.Second)
			wait = context.Cause(r.Context())
		}, Config{})
		p.write(request(1, false, ":method=POST", ":path=/x") + request(3, true, ":method=GET", ":path=/x"))
		synctest.Wait()
		p.conn.Close()
		if err := <-p.ended; err != nil || read == nil || errors.Is(read, io.EOF) || wait == nil {
			t.Errorf("ended with %v; reading got %v, waiting %v", err, read, wait)
		}
	})
}

// A handler that wants more at once than the client may send ahead gets it: the
// client is given room while the handler waits.
func TestReadIsLongerThanTheWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const size, window = 2 * creditStep, creditStep
		p := dial(t, func(w http.ResponseWriter, r *http.Request) {
			n, err := r.Body.Read(make([]byte, size))
			fmt.Fprint(w, n, err)
		}, Config{MaxFrame: 1 << 16, Window: window})
		p.write(request(1, false, ":method=POST", ":scheme=https", ":path=/x"))
		may, sent := window, 0
		for sent < size {
			for may > 0 && sent < size {
				p.write(frame(frameData, 0, 1, strings.Repeat("x", 1<<15)))
				may, sent = may-1<<15, sent+1<<15
			}
			synctest.Wait()
			for sent < size && len(p.got) > 0 {
				if f := <-p.got; f.typ == frameWindow && f.stream == 1 {
					may += int(binary.BigEndian.Uint32(f.payload))
				}
			}
			if may == 0 && sent < size {
				t.Fatalf("no room is given after %d bytes of %d", sent, size)
			}
		}
		if status, body := p.answer(1); status != "200" || body != fmt.Sprint(size, nil) {
			t.Errorf("got %s %q", status, body)
		}
		p.conn.Close()
		<-p.ended
	})
}
