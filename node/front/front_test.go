package front

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-mesh/holdfast/node/certificate"
)

// pipes is a listener in memory, for virtual time.
type pipes struct {
	conns chan net.Conn
	done  chan struct{}
}

func newPipes() *pipes { return &pipes{make(chan net.Conn), make(chan struct{})} }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	select {
	case <-p.done:
	default:
		close(p.done)
	}
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipe"} }

// dial connects to the server behind p.
func (p *pipes) dial() net.Conn {
	here, there := net.Pipe()
	p.conns <- there
	return here
}

// serve runs a server until the returned function is called.
func serve(t *testing.T, cfg Config, h http.HandlerFunc) (p *pipes, stop func()) {
	t.Helper()
	chain, key, err := certificate.Make([]string{"localhost"}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(chain, key)
	if err != nil {
		t.Fatal(err)
	}
	p = newPipes()
	cfg.Listener, cfg.Handler = p, h
	cfg.Certificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &pair, nil }
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	return p, func() {
		t.Helper()
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
		if open, _ := s.Open(); open != 0 {
			t.Errorf("%d connections are left", open)
		}
	}
}

func secure(c net.Conn, version uint16) *tls.Conn {
	return tls.Client(c, &tls.Config{InsecureSkipVerify: true, MinVersion: version, MaxVersion: version})
}

// ask sends text and reads an answer.
func ask(t *testing.T, c net.Conn, r *bufio.Reader, text string) (*http.Response, string) {
	t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(body)
}

func echo(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	fmt.Fprintf(w, "%s %s host=%q body=%q", r.Method, r.URL, r.Host, body)
}

// A client that leaves the Host line out is served, on the first request of a
// connection and on later ones (PBS protocol notes §13.1).
func TestNoHost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, stop := serve(t, Config{}, echo)
		c := secure(p.dial(), tls.VersionTLS13)
		r := bufio.NewReader(c)
		for _, tt := range []struct{ send, want string }{
			{"GET /api2/json/backup HTTP/1.1\r\nUpgrade: x\r\n\r\n", `GET /api2/json/backup host="" body=""`},
			{"POST /a HTTP/1.1\r\nContent-Length: 18\r\n\r\nGET / HTTP/1.1\r\n\r\n", `POST /a host="" body="GET / HTTP/1.1\r\n\r\n"`},
			{"GET /b HTTP/1.1\r\nHost: me\r\n\r\n", `GET /b host="me" body=""`},
			{"GET /c HTTP/1.1\r\n\r\n", `GET /c host="" body=""`},
		} {
			if resp, body := ask(t, c, r, tt.send); resp.StatusCode != 200 || body != tt.want {
				t.Errorf("%q: %d %s, want %s", tt.send, resp.StatusCode, body, tt.want)
			}
		}
		c.Close()
		stop()
	})
}

// Plain HTTP is sent on to TLS, and reaches no handler.
func TestPlainHTTP(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, stop := serve(t, Config{}, func(http.ResponseWriter, *http.Request) { t.Error("the handler was called") })
		for method, want := range map[string]int{"GET": 301, "HEAD": 301, "POST": 308, "DELETE": 308} {
			c := p.dial()
			fmt.Fprintf(c, "%s /x HTTP/1.1\r\nHost: pbs:8007\r\nContent-Length: 0\r\n\r\n", method)
			resp, err := http.ReadResponse(bufio.NewReader(c), &http.Request{Method: method})
			if err != nil || resp.StatusCode != want || resp.Header.Get("Location") != "https://pbs:8007" {
				t.Errorf("%s: %v, %v", method, resp, err)
			}
			c.Close()
		}
		c := p.dial() // neither
		io.WriteString(c, "\x00\x01")
		if b, err := io.ReadAll(c); len(b) > 0 || err != nil {
			t.Errorf("answer to noise: %q, %v", b, err)
		}
		stop()
	})
}

func TestVersions(t *testing.T) {
	tests := []struct {
		name         string
		least, offer uint16
		works        bool
	}{
		{"1.3 always", 0, tls.VersionTLS13, true},
		{"1.2 is refused unless it is asked for", 0, tls.VersionTLS12, false},
		{"1.2 by option", tls.VersionTLS12, tls.VersionTLS12, true},
		{"1.1 never", tls.VersionTLS12, tls.VersionTLS11, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p, stop := serve(t, Config{MinVersion: tt.least}, echo)
				raw := p.dial()
				c := secure(raw, tt.offer)
				if err := c.Handshake(); (err == nil) != tt.works {
					t.Errorf("handshake: %v", err)
				}
				raw.Close()
				stop()
			})
		})
	}
}

// Clients that are slow in one of the ways that there are, are dropped, and
// only they.
func TestSlowClients(t *testing.T) {
	big := strings.Repeat("x", 1<<20)
	tests := []struct {
		name string
		do   func(c net.Conn) // until it blocks; then nothing more comes
		most time.Duration
	}{
		{"says nothing", func(net.Conn) {}, HeadTime},
		{"stops in the handshake", func(c net.Conn) { c.Write([]byte{recordHandshake, 3, 1}) }, HeadTime},
		{"stops in the head", func(c net.Conn) { io.WriteString(secure(c, tls.VersionTLS13), "GET / HTTP/1.1\r\nA") }, HeadTime},
		{"stops in the body", func(c net.Conn) {
			io.WriteString(secure(c, tls.VersionTLS13), "POST / HTTP/1.1\r\nContent-Length: 100\r\n\r\nabc")
		}, 2 * StallTime}, // and takes nothing of the answer, on a connection without a buffer
		{"sends a byte a second", func(c net.Conn) {
			s := secure(c, tls.VersionTLS13)
			_, err := io.WriteString(s, "POST / HTTP/1.1\r\nContent-Length: 100000\r\n\r\n")
			for range 1000 {
				if err != nil {
					break
				}
				time.Sleep(time.Second)
				_, err = s.Write([]byte{'x'})
			}
		}, StallTime},
		{"takes nothing of the answer", func(c net.Conn) { io.WriteString(secure(c, tls.VersionTLS13), "GET /big HTTP/1.1\r\n\r\n") }, StallTime},
		{"asks for nothing more", func(c net.Conn) {
			s := secure(c, tls.VersionTLS13)
			io.WriteString(s, "GET / HTTP/1.1\r\n\r\n")
			http.ReadResponse(bufio.NewReader(s), nil)
		}, IdleTime},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p, stop := serve(t, Config{}, func(w http.ResponseWriter, r *http.Request) {
					if r.URL.Path == "/big" {
						io.WriteString(w, big)
						return
					}
					echo(w, r)
				})
				c := p.dial()
				tt.do(c)
				begun := time.Now()
				time.Sleep(tt.most + 6*time.Second) // a good-bye in TLS may take five
				if _, err := c.Write([]byte{0}); !errors.Is(err, io.ErrClosedPipe) {
					t.Errorf("after %s the connection is still there: %v", time.Since(begun), err)
				}
				c.Close()
				stop()
			})
		})
	}
}

// A body may take long, if enough comes; and a handler may work as long as it
// likes.
func TestPatience(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, stop := serve(t, Config{}, func(w http.ResponseWriter, r *http.Request) {
			io.Copy(io.Discard, r.Body)
			time.Sleep(10 * StallTime)
			if r.Context().Err() != nil {
				t.Error("the context of the request has ended while the handler worked")
			}
		})
		c := secure(p.dial(), tls.VersionTLS13)
		io.WriteString(c, "POST / HTTP/1.1\r\nContent-Length: 6144000\r\n\r\n")
		for range 20 {
			time.Sleep(StallTime - time.Second)
			if _, err := c.Write(make([]byte, 300<<10)); err != nil {
				t.Fatal(err)
			}
		}
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil || resp.StatusCode != 200 {
			t.Fatal(resp, err)
		}
		c.Close()
		stop()
	})
}

// A session that took its connection over is left alone, and ends with Run.
func TestSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ended := false
		p, stop := serve(t, Config{}, func(w http.ResponseWriter, r *http.Request) {
			conn, rw, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			stop := context.AfterFunc(r.Context(), func() { conn.Close() })
			defer stop()
			go conn.Write([]byte("hello")) // nobody takes it for hours
			line, err := rw.ReadString('\n')
			if line != "later\n" {
				t.Errorf("read %q, %v", line, err)
			}
			_, err = rw.ReadByte()
			ended = err != nil
		})
		raw := p.dial()
		c := secure(raw, tls.VersionTLS13)
		io.WriteString(c, "GET / HTTP/1.1\r\nUpgrade: x\r\n\r\n")
		time.Sleep(10 * time.Hour)
		hello := make([]byte, 5)
		if _, err := io.ReadFull(c, hello); err != nil || string(hello) != "hello" {
			t.Errorf("%q, %v", hello, err)
		}
		if _, err := io.WriteString(c, "later\n"); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		go io.Copy(io.Discard, raw) // the good-bye
		stop()
		if !ended {
			t.Error("the session goes on after the end")
		}
		raw.Close()
	})
}

// One source cannot take all connections, and all together no more than there
// may be; room comes back.
func TestTooMany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, stop := serve(t, Config{PerSource: 2, Conns: 5}, echo)
		first, second := p.dial(), p.dial()
		third := p.dial()
		if _, err := third.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("the third of two: %v", err)
		}
		first.Close()
		synctest.Wait()
		fourth := secure(p.dial(), tls.VersionTLS13)
		if _, body := ask(t, fourth, bufio.NewReader(fourth), "GET /d HTTP/1.1\r\n\r\n"); !strings.HasPrefix(body, "GET /d") {
			t.Errorf("after one has gone: %q", body)
		}
		second.Close()
		fourth.Close()
		stop()
	})
}

func TestSource(t *testing.T) {
	for addr, want := range map[string]string{
		"192.0.2.7:99": "192.0.2.7", "[::ffff:192.0.2.7]:99": "192.0.2.7", "[2001:db8:1:2:3:4:5:6]:1": "2001:db8:1:2::", "[fe80::1%eth0]:1": "fe80::",
	} {
		a, err := net.ResolveTCPAddr("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		if got := source(a).String(); got != want {
			t.Errorf("%s counts for %s, want %s", addr, got, want)
		}
	}
}
