package pbstest

//lint:file-ignore SA1019 a client on a connection that was upgraded by hand; see package upgrade.

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/holdfast-mesh/holdfast/pbs/upgrade"
)

// An Answer is what a server says to one request.
type Answer struct {
	Status int
	Header http.Header
	Body   []byte
}

// Data returns the data of a JSON answer as compact JSON, "" if it is none.
func (a Answer) Data() string {
	var v struct{ Data json.RawMessage }
	if json.Unmarshal(a.Body, &v) != nil {
		return ""
	}
	return string(v.Data)
}

// A Client sends requests as they are, right or wrong, on a connection that
// was upgraded.
type Client struct {
	Conn net.Conn
	h2   *http2.ClientConn
	stop context.CancelFunc
	ctx  context.Context
}

// Connect opens a connection, asks for target, "/api2/json/backup?…", as the
// user who, and upgrades it to HTTP/2 if the server agrees. Without that the
// client is nil.
func (s *Server) Connect(t testing.TB, target, protocol, who string) (*Client, Answer) {
	t.Helper()
	return Connect(t, s.Addr, target, "connection: upgrade", "upgrade: "+protocol, "authorization: PBSAPIToken "+who+":secret")
}

// Connect does the same at any server, with headers as they are given.
func Connect(t testing.TB, addr, target string, headers ...string) (*Client, Answer) {
	t.Helper()
	conn, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nhost: pbs\r\n%s\r\n\r\n", target, strings.Join(headers, "\r\n"))
	r := bufio.NewReader(conn)
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	a := Answer{Status: resp.StatusCode, Header: resp.Header}
	if resp.StatusCode != http.StatusSwitchingProtocols {
		if a.Body, err = io.ReadAll(resp.Body); err != nil {
			t.Fatal(err)
		}
		return nil, a
	}
	return newClient(t, conn, r), a
}

func newClient(t testing.TB, conn net.Conn, r *bufio.Reader) *Client {
	t.Helper()
	transport := &http2.Transport{MaxReadFrameSize: upgrade.MaxFrame, AllowHTTP: true}
	h2, err := transport.NewClientConn(&buffered{conn, r})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	return &Client{Conn: conn, h2: h2, ctx: ctx, stop: cancel}
}

// buffered is a connection of which somebody has read ahead.
type buffered struct {
	net.Conn
	r *bufio.Reader
}

func (b *buffered) Read(p []byte) (int, error) { return b.r.Read(p) }

// Close ends the connection, as clients do when they are ready.
func (c *Client) Close() {
	c.stop()
	c.h2.Close()
	c.Conn.Close()
}

// Do sends a request, with parameters in the query or a JSON body, and returns
// the answer. A kind of "" is that of a request without a body.
func (c *Client) Do(method, target, kind string, body []byte) (Answer, error) {
	return c.Stream(method, target, kind, bytes.NewReader(body))
}

// Stream is Do with a body that comes from a reader.
func (c *Client) Stream(method, target, kind string, body io.Reader) (Answer, error) {
	req, err := http.NewRequestWithContext(c.ctx, method, "https://localhost:8007"+target, body)
	if err != nil {
		return Answer{}, err
	}
	if kind == "" {
		kind = "application/x-www-form-urlencoded"
	}
	req.Header.Set("Content-Type", kind)
	req.Header.Set("User-Agent", "proxmox-backup-client/1.0")
	resp, err := c.h2.RoundTrip(req)
	if err != nil {
		return Answer{}, err
	}
	defer resp.Body.Close()
	a := Answer{Status: resp.StatusCode, Header: resp.Header}
	a.Body, err = io.ReadAll(resp.Body)
	return a, err
}
