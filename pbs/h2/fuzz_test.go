package h2

import (
	"context"
	"io"
	"net"
	"net/http"
	"testing"
	"time"
)

// A tape is a connection that plays bytes, and takes everything.
type tape struct {
	net.Conn
	data []byte
}

func (t *tape) Read(p []byte) (int, error) {
	if len(t.data) == 0 {
		return 0, io.EOF
	}
	n := copy(p, t.data[:min(len(t.data), 1+len(t.data)/3)])
	t.data = t.data[n:]
	return n, nil
}

func (t *tape) Write(p []byte) (int, error)      { return len(p), nil }
func (t *tape) Close() error                     { return nil }
func (t *tape) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (t *tape) SetWriteDeadline(time.Time) error { return nil }

// frame makes a frame for the corpus.
func frame(typ, flags byte, stream uint32, payload string) string {
	return string(appendHeader(nil, len(payload), typ, flags, stream)) + payload
}

// Whatever a client sends, serving it ends when the bytes do, and no handler
// is left behind.
func FuzzServe(f *testing.F) {
	// "\x82\x87\x84" is GET https /, by the static table; 0x83 is POST.
	get := frame(frameHeaders, flagEndHeaders|flagEndStream, 1, "\x82\x87\x84")
	post := frame(frameHeaders, flagEndHeaders, 1, "\x83\x87\x84")
	for _, seed := range []string{
		get,
		post + frame(frameData, flagEndStream, 1, "hello"),
		post + frame(frameData, flagPadded|flagEndStream, 1, "\x02hello\x00\x00"),
		post + frame(frameReset, 0, 1, "\x00\x00\x00\x08"),
		frame(frameSettings, 0, 0, "\x00\x04\x00\x00\xff\xff") + frame(frameWindow, 0, 0, "\x7f\xff\xff\xff") + get,
		frame(framePing, 0, 0, "12345678") + frame(frameGoAway, 0, 0, "12345678"),
		frame(frameHeaders, 0, 1, "\x82") + frame(frameContinuation, flagEndHeaders, 1, "\x87\x84"),
		frame(frameHeaders, flagEndHeaders|flagPriority|flagPadded, 3, "\x01\x00\x00\x00\x00\x10\x82\x87\x84\x00"),
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		inside := 0
		h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			n, _ := io.Copy(io.Discard, r.Body)
			w.Write(make([]byte, n%100))
		})
		_ = Serve(context.Background(), &tape{data: append([]byte(preface), data...)}, h, Config{Window: 1 << 20, MaxFrame: 1 << 16, Streams: 10})
		if inside != 0 {
			t.Errorf("%d handlers are left", inside)
		}
	})
}
