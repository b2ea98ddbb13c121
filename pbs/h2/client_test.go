package h2

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// all takes an answer whole.
func all(a Answer) ([]byte, error) {
	return append(a.Body, make([]byte, 1+len(a.Body))...)[:len(a.Body)], nil
}

// content is n bytes that show where they belong.
func content(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i>>16 ^ i>>8 ^ i)
	}
	return b
}

// mirror answers with what it was sent, and with as much more as ?more says.
func mirror(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(err)
	}
	more, _ := strconv.Atoi(r.URL.Query().Get("more"))
	if r.URL.Query().Has("sized") {
		w.Header().Set("Content-Length", strconv.Itoa(len(body)+more))
	}
	w.Write(body)
	for _, piece := range bytes.SplitAfter(content(more), []byte{0xff}) {
		w.Write(piece)
	}
}

// servers are who clients talk to: our own server, and that of net/http.
var servers = map[string]func(t *testing.T, h http.HandlerFunc) net.Conn{
	"ours": func(t *testing.T, h http.HandlerFunc) net.Conn {
		near, far := net.Pipe()
		ended := make(chan error, 1)
		go func() { ended <- Serve(t.Context(), far, h, Config{}) }()
		t.Cleanup(func() {
			near.Close()
			if err := <-ended; err != nil {
				t.Errorf("the server says: %v", err)
			}
		})
		return near
	},
	"net/http": func(t *testing.T, h http.HandlerFunc) net.Conn {
		srv := httptest.NewUnstartedServer(h)
		srv.Config.Protocols = new(http.Protocols)
		srv.Config.Protocols.SetUnencryptedHTTP2(true)
		srv.Start()
		t.Cleanup(srv.Close)
		conn, err := net.Dial("tcp", srv.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		return conn
	},
}

func TestClient(t *testing.T) {
	for name, server := range servers {
		t.Run(name, func(t *testing.T) {
			c := NewClient(server(t, mirror), ClientConfig{Streams: 5})
			defer c.Close()
			var wg sync.WaitGroup
			for i, row := range []struct{ send, more int }{
				{0, 0}, {0, 1}, {1, 0}, {70_000, 0}, {0, 70_000}, {3 << 20, 3 << 20}, {0, 9 << 20}, {9 << 20, 0}, {100, 100}, {9 << 20, 1},
			} {
				for _, sized := range []string{"", "&sized"} {
					wg.Go(func() {
						body := content(row.send)
						a, err := c.Do(t.Context(), Request{
							Method: "POST", Authority: "localhost", Path: fmt.Sprint("/?more=", row.more, sized), Body: body,
							Header: [][2]string{{"content-type", "text/plain"}},
						}, all)
						if err != nil || a.Status != 200 || !bytes.Equal(a.Body, append(body, content(row.more)...)) {
							t.Errorf("%d: status %d, %d bytes, %v", i, a.Status, len(a.Body), err)
						}
						if want := int64(row.send + row.more); sized != "" && a.Length != want {
							t.Errorf("%d: length %d, want %d", i, a.Length, want)
						}
					})
				}
			}
			wg.Wait()
		})
	}
}

// An answer that comes before all of the request has is an answer, and the next
// request is as good as the first.
func TestAnEarlyAnswerEndsTheRequest(t *testing.T) {
	for name, server := range servers {
		t.Run(name, func(t *testing.T) {
			c := NewClient(server(t, func(w http.ResponseWriter, r *http.Request) {
				http.Error(w, "no", http.StatusBadRequest)
			}), ClientConfig{})
			defer c.Close()
			for range 3 {
				a, err := c.Do(t.Context(), Request{Method: "POST", Authority: "x", Path: "/", Body: content(40 << 20)}, all)
				if err != nil || a.Status != 400 || string(a.Body) != "no\n" {
					t.Fatalf("status %d, %q, %v", a.Status, a.Body, err)
				}
			}
		})
	}
}

func TestRoomRefuses(t *testing.T) {
	c := NewClient(servers["ours"](t, mirror), ClientConfig{})
	defer c.Close()
	full := errors.New("full")
	a, err := c.Do(t.Context(), Request{Method: "GET", Authority: "x", Path: "/?more=30000000"}, func(a Answer) ([]byte, error) {
		if len(a.Body) == 0 {
			return make([]byte, 0, 1000), nil
		}
		return nil, full
	})
	if err != full || a.Status != 200 || !bytes.Equal(a.Body, content(1000)) {
		t.Errorf("status %d, %d bytes, %v", a.Status, len(a.Body), err)
	}
	if a, err := c.Do(t.Context(), Request{Method: "GET", Authority: "x", Path: "/?more=3"}, all); err != nil || len(a.Body) != 3 {
		t.Errorf("the next: %d bytes, %v", len(a.Body), err)
	}
	if _, err := c.Do(t.Context(), Request{Method: "GET", Authority: "x", Path: "/?more=3"}, func(a Answer) ([]byte, error) { return a.Body, nil }); err == nil {
		t.Error("an answer without room is none")
	}
}

// Who gives a request up waits for nobody: not for an answer, nor for a server
// that takes nothing, nor for its turn.
func TestAClientGivesUp(t *testing.T) {
	for name, server := range map[string]func(net.Conn){
		"answers nothing": func(far net.Conn) { io.Copy(io.Discard, far) },
		"reads nothing":   func(net.Conn) {},
		"reads a little":  func(far net.Conn) { io.CopyN(io.Discard, far, 30_000) },
		"stops in the middle": func(far net.Conn) {
			go io.Copy(io.Discard, far)
			io.WriteString(far, frame(frameSettings, 0, 0, "")+frame(frameHeaders, flagEndHeaders, 1, "\x88")+frame(frameData, 0, 1, "hello"))
			far.Write(appendHeader(nil, 1000, frameData, 0, 1))
			far.Write(make([]byte, 10))
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				near, far := net.Pipe()
				go server(far)
				c := NewClient(near, ClientConfig{})
				ctx, cancel := context.WithCancel(t.Context())
				var wg sync.WaitGroup
				for i := range 5 {
					wg.Go(func() {
						if _, err := c.Do(ctx, Request{Method: "POST", Authority: "x", Path: "/", Body: content(100_000 * (i % 2))}, all); err == nil {
							t.Error("there was an answer")
						}
					})
				}
				time.Sleep(10 * time.Second)
				cancel()
				began := time.Now()
				wg.Wait()
				if took := time.Since(began); took > time.Second {
					t.Errorf("it took %s", took)
				}
				far.Close()
				c.Close()
			})
		})
	}
}

// A server that has gone without a word is missed.
func TestSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		defer far.Close()
		go io.Copy(io.Discard, far)
		c := NewClient(near, ClientConfig{})
		defer c.Close()
		began := time.Now()
		_, err := c.Do(t.Context(), Request{Method: "GET", Authority: "x", Path: "/"}, all)
		if took := time.Since(began); err == nil || !strings.Contains(err.Error(), "silent") || took != 2*time.Minute {
			t.Errorf("after %s: %v", took, err)
		}
	})
}

// What a server does wrong is said, and a connection on which it did is not
// used any more.
func TestServersThatAreWrong(t *testing.T) {
	ok := frame(frameHeaders, flagEndHeaders, 1, "\x88") // :status 200
	sized := frame(frameHeaders, flagEndHeaders, 1, "\x88\x0f\x0d\x013")
	for name, row := range map[string]struct{ send, want string }{
		"body without a head":      {frame(frameData, 0, 1, "x"), "before its head"},
		"end without a head":       {frame(frameHeaders, flagEndHeaders|flagEndStream, 1, ""), "status"},
		"answers what nobody asks": {frame(frameHeaders, flagEndHeaders, 3, "\x88"), "has not begun"},
		"data for nobody":          {frame(frameData, 0, 3, "x"), "has not begun"},
		"too long a frame":         {string(appendHeader(nil, 1<<20+1, frameData, 0, 1)), "at most"},
		"pushes":                   {frame(framePush, 0, 1, "\x00\x00\x00\x02\x82"), "unasked"},
		"gives up":                 {frame(frameReset, 0, 1, "\x00\x00\x00\x02"), "gave the request up (2)"},
		"gives up in the middle":   {ok + frame(frameData, 0, 1, "x") + frame(frameReset, 0, 1, "\x00\x00\x00\x02"), "gave the request up (2)"},
		"says goodbye":             {frame(frameGoAway, 0, 0, "\x00\x00\x00\x00\x00\x00\x00\x0b"), "ends the connection (11)"},
		"goes":                     {"", "unexpected EOF"},
		"goes in the middle":       {ok + frame(frameData, 0, 1, "x"), "unexpected EOF"},
		"too short":                {sized + frame(frameData, flagEndStream, 1, "xy"), "unexpected EOF"},
		"too long":                 {sized + frame(frameData, flagEndStream, 1, "xyzz"), "longer than the 3 bytes"},
		"a bad length":             {frame(frameHeaders, flagEndHeaders, 1, "\x88\x0f\x0d\x02-3"), "length"},
		"a bad status":             {frame(frameHeaders, flagEndHeaders, 1, "\x48\x03abc"), "status"},
	} {
		t.Run(name, func(t *testing.T) {
			near, far := net.Pipe()
			go func() {
				b := make([]byte, 4096)
				for seen := ""; !strings.Contains(seen, "asked"); {
					n, err := far.Read(b)
					if seen += string(b[:n]); err != nil {
						return
					}
				}
				go io.Copy(io.Discard, far)
				io.WriteString(far, row.send)
				if strings.HasPrefix(row.want, "unexpected") {
					far.Close()
				}
			}()
			c := NewClient(near, ClientConfig{})
			defer c.Close()
			a, err := c.Do(t.Context(), Request{Method: "POST", Authority: "x", Path: "/", Body: []byte("asked")}, all)
			if err == nil || err == io.EOF || !strings.Contains(err.Error(), row.want) {
				t.Errorf("got status %d, %v, want %q", a.Status, err, row.want)
			}
			far.Close()
		})
	}
}

// Heads that come before the answer, trailers and padding change nothing.
func TestWhatAServerMaySend(t *testing.T) {
	near, far := net.Pipe()
	defer far.Close()
	go io.Copy(io.Discard, far)
	c := NewClient(near, ClientConfig{})
	defer c.Close()
	go func() {
		time.Sleep(10 * time.Millisecond)
		for !c.begun(1) {
			time.Sleep(time.Millisecond)
		}
		io.WriteString(far, frame(frameSettings, 0, 0, "\x00\x03\x00\x00\x00\x01")+
			frame(frameHeaders, flagEndHeaders, 1, "\x48\x03103")+
			frame(frameHeaders, 0, 1, "")+frame(frameContinuation, flagEndHeaders, 1, "\x88")+
			frame(frameData, flagPadded, 1, "\x03he\x00\x00\x00")+
			frame(0x42, 0, 0, "unknown")+frame(framePing, 0, 0, "12345678")+
			frame(frameData, 0, 1, "")+frame(frameData, 0, 1, "llo")+
			frame(frameHeaders, flagEndHeaders|flagEndStream, 1, "\x00\x01a\x01b"))
	}()
	a, err := c.Do(t.Context(), Request{Method: "GET", Authority: "x", Path: "/"}, all)
	if err != nil || a.Status != 200 || string(a.Body) != "hello" || a.Length != -1 {
		t.Errorf("got %+v, %v", a, err)
	}
}

// Whatever a server sends, the client ends when the bytes do.
func FuzzClient(f *testing.F) {
	ok := frame(frameHeaders, flagEndHeaders, 1, "\x88")
	for _, seed := range []string{
		ok + frame(frameData, flagEndStream, 1, "hello"),
		ok + frame(frameData, flagPadded|flagEndStream, 1, "\x02hello\x00\x00"),
		frame(frameHeaders, flagEndHeaders|flagEndStream, 1, "\x88"),
		frame(frameHeaders, flagEndHeaders, 1, "\x88\x0f\x0d\x013") + frame(frameData, flagEndStream, 1, "xyz"),
		frame(frameGoAway, 0, 0, "\x00\x00\x00\x01\x00\x00\x00\x00") + ok,
		frame(frameSettings, 0, 0, "\x00\x04\x00\x00\x00\x00") + frame(frameWindow, 0, 1, "\x00\x00\x00\x05") + ok,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c := NewClient(&tape{data: data}, ClientConfig{})
		a, err := c.Do(t.Context(), Request{Method: "POST", Authority: "x", Path: "/", Body: content(70_000)}, func(a Answer) ([]byte, error) {
			if len(a.Body) > 1000 {
				return nil, errors.New("enough")
			}
			return all(a)
		})
		if err == nil && (a.Status < 200 || a.Length >= 0 && int64(len(a.Body)) != a.Length) {
			t.Errorf("got %+v", a)
		}
		c.Close()
	})
}

// Only as many requests run at the same time as the server takes, and as the
// client was told; the others wait for their turn.
func TestRequestsWaitForTheirTurn(t *testing.T) {
	for _, tt := range []struct{ server, client, want int }{{2, 100, 2}, {100, 3, 3}} {
		synctest.Test(t, func(t *testing.T) {
			near, far := net.Pipe()
			defer far.Close()
			var mu sync.Mutex
			running, most := 0, 0
			ended := make(chan error, 1)
			go func() {
				ended <- Serve(t.Context(), far, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
					mu.Lock()
					running++
					most = max(most, running)
					mu.Unlock()
					time.Sleep(time.Second)
					mu.Lock()
					running--
					mu.Unlock()
				}), Config{Streams: tt.server})
			}()
			c := NewClient(near, ClientConfig{Streams: tt.client})
			synctest.Wait() // its settings have come
			var wg sync.WaitGroup
			for range 10 {
				wg.Go(func() {
					if a, err := c.Do(t.Context(), Request{Method: "GET", Authority: "x", Path: "/"}, all); err != nil || a.Status != 200 {
						t.Errorf("status %d, %v", a.Status, err)
					}
				})
			}
			wg.Wait()
			if most != tt.want {
				t.Errorf("%d requests ran at the same time, want %d", most, tt.want)
			}
			c.Close()
			<-ended
		})
	}
}
