package wire

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/holdfast-mesh/holdfast/catalog/naming"
	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/replication/plan"
	"github.com/holdfast-mesh/holdfast/replication/rate"
	"github.com/holdfast-mesh/holdfast/replication/swarm"
)

// ClientConfig says whom a Client asks.
type ClientConfig struct {
	Peer  string                                      // required: its name, for people
	Store string                                      // required: the datastore there
	Dial  func(ctx context.Context) (net.Conn, error) // required: a connection to the peer's service
	In    *rate.Bucket                                // limits what is received; nil: nothing does
}

// A Client reads one datastore of a peer. It is a swarm.Source.
type Client struct {
	cfg  ClientConfig
	http *http.Client
	flow flow

	mu   sync.Mutex
	tag  string // of the last catalogue
	key  string // what it was of
	side plan.Side
}

// NewClient returns a client. It connects when it is asked something.
func NewClient(cfg ClientConfig) (*Client, error) {
	if cfg.Peer == "" || cfg.Store == "" || cfg.Dial == nil {
		return nil, errors.New("wire: a client needs a peer, a datastore and a way to get there")
	}
	c := &Client{cfg: cfg, flow: flow{now: time.Now}}
	c.http = &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			conn, err := cfg.Dial(ctx)
			if err != nil {
				return nil, err
			}
			return &quietConn{Conn: conn}, nil
		},
		MaxIdleConnsPerHost: 2, IdleConnTimeout: time.Minute, DisableCompression: true,
	}}
	return c, nil
}

// Close closes idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Name names the peer and its datastore.
func (c *Client) Name() string { return c.cfg.Peer + ":" + c.cfg.Store }

// quietConn is a connection that fails when the other end sends nothing for
// long while something is read.
type quietConn struct{ net.Conn }

func (c *quietConn) Read(p []byte) (int, error) {
	_ = c.SetReadDeadline(time.Now().Add(2 * quiet))
	return c.Conn.Read(p)
}

// do sends a request and returns the answer if it is a good one.
func (c *Client) do(ctx context.Context, method, path string, query url.Values, body []byte, head ...string) (*http.Response, error) {
	query.Set("store", c.cfg.Store)
	r, err := http.NewRequestWithContext(ctx, method, "http://peer/v1/"+path+"?"+query.Encode(), bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	for i := 0; i+1 < len(head); i += 2 {
		r.Header.Set(head[i], head[i+1])
	}
	resp, err := c.http.Do(r)
	if err != nil {
		var u *url.Error
		if errors.As(err, &u) {
			err = u.Err // the rest of it is an address that means nothing to people
		}
		return nil, fmt.Errorf("ask %s: %w", c.Name(), err)
	}
	if resp.StatusCode >= 400 {
		defer resp.Body.Close()
		return nil, c.refused(resp)
	}
	return resp, nil
}

func (c *Client) refused(resp *http.Response) error {
	text, _ := io.ReadAll(io.LimitReader(resp.Body, 1024))
	return &Error{Peer: c.Name(), Status: resp.StatusCode, Text: strings.TrimSpace(string(text))}
}

// Ping asks for nothing, and returns how long that took.
func (c *Client) Ping(ctx context.Context) (time.Duration, error) {
	start := time.Now()
	resp, err := c.do(ctx, http.MethodGet, "ping", url.Values{}, nil)
	if err != nil {
		return 0, err
	}
	return time.Since(start), resp.Body.Close()
}

// Catalog lists what the peer shows us of a namespace and those below it; a
// negative depth means all. What has not changed is not sent again.
func (c *Client) Catalog(ctx context.Context, ns naming.Namespace, depth int) (plan.Side, error) {
	q := url.Values{"ns": {string(ns)}}
	if depth >= 0 {
		q.Set("depth", strconv.Itoa(depth))
	}
	key := q.Encode()
	c.mu.Lock()
	tag, side := c.tag, c.side
	if c.key != key {
		tag = ""
	}
	c.mu.Unlock()
	resp, err := c.do(ctx, http.MethodGet, "catalog", q, nil, "If-None-Match", tag)
	if err != nil {
		return plan.Side{}, err
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusNotModified && tag != "" {
		return side, nil
	}
	b, err := io.ReadAll(io.LimitReader(&rate.Reader{Ctx: ctx, R: resp.Body, Bucket: c.cfg.In}, maxCatalog))
	if err == nil {
		side, err = decodeSide(b)
	}
	if err != nil {
		return plan.Side{}, fmt.Errorf("read the catalogue of %s: %w", c.Name(), err)
	}
	c.mu.Lock()
	c.tag, c.key, c.side = resp.Header.Get("ETag"), key, side
	c.mu.Unlock()
	return side, nil
}

// ErrUnreadable says that a peer has a snapshot and cannot read it; others it may.
var ErrUnreadable = errors.New("it is there and cannot be read: see the log of that node")

// Files calls fn with the files of each snapshot, in the order asked for, the
// manifest first; with none if the snapshot is not there, or not for us. What
// follows on an [ErrUnreadable] has to be asked for again.
func (c *Client) Files(ctx context.Context, list []Snapshot, fn func(i int, files []File) error) error {
	type name struct {
		NS   naming.Namespace `json:"ns"`
		Snap naming.Snapshot  `json:"snapshot"`
	}
	names := make([]name, 0, len(list))
	for _, s := range list {
		names = append(names, name{s.Namespace, s.Snapshot})
	}
	body, err := json.Marshal(names)
	if err != nil {
		return err
	}
	resp, err := c.do(ctx, http.MethodPost, "files", url.Values{saysUnreadable: {"1"}}, body)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	r := bufio.NewReaderSize(&rate.Reader{Ctx: ctx, R: resp.Body, Bucket: c.cfg.In}, 64<<10)
	for i := range list {
		files, err := parseFiles(r)
		if err != nil {
			return fmt.Errorf("read %s of %s: %w", list[i], c.Name(), noEOF(err))
		}
		if err := fn(i, files); err != nil {
			return err
		}
	}
	return nil
}

// parseFiles reads the files of one snapshot.
func parseFiles(r io.Reader) ([]File, error) {
	var head [8]byte
	n := uint32(stillReading)
	for n == stillReading {
		if _, err := io.ReadFull(r, head[:4]); err != nil {
			return nil, err
		}
		n = binary.LittleEndian.Uint32(head[:])
	}
	if n == unreadable {
		return nil, ErrUnreadable
	}
	if n > maxFiles {
		return nil, errFormat
	}
	var list []File
	for range n {
		if _, err := io.ReadFull(r, head[:2]); err != nil {
			return nil, err
		}
		name := make([]byte, binary.LittleEndian.Uint16(head[:]))
		if _, err := io.ReadFull(r, name); err != nil {
			return nil, err
		}
		if err := naming.CheckArchive(string(name)); err != nil {
			return nil, fmt.Errorf("%w: %w", errFormat, err)
		}
		if _, err := io.ReadFull(r, head[:8]); err != nil {
			return nil, err
		}
		size := binary.LittleEndian.Uint64(head[:])
		if size > maxFile {
			return nil, errFormat
		}
		// Memory grows with what arrives, not with what is announced.
		var data bytes.Buffer
		if _, err := io.CopyN(&data, r, int64(size)); err != nil {
			return nil, err
		}
		list = append(list, File{string(name), data.Bytes()})
	}
	return list, nil
}

// Have reports which of ds the peer holds and would give us.
func (c *Client) Have(ctx context.Context, ds []chunks.Digest) ([]bool, error) {
	have := make([]bool, 0, len(ds))
	for len(ds) > 0 {
		part := ds[:min(len(ds), maxHave)]
		ds = ds[len(part):]
		resp, err := c.do(ctx, http.MethodPost, "have", url.Values{}, appendDigests(nil, part))
		if err != nil {
			return nil, err
		}
		bits := make([]byte, (len(part)+7)/8)
		_, err = io.ReadFull(resp.Body, bits)
		resp.Body.Close()
		if err != nil {
			return nil, fmt.Errorf("read what %s has: %w", c.Name(), noEOF(err))
		}
		for i := range part {
			have = append(have, bits[i/8]&(1<<(i%8)) != 0)
		}
	}
	return have, nil
}

// Open opens a stream of chunks. See swarm.Source.
func (c *Client) Open(ctx context.Context) (swarm.Stream, error) {
	began := time.Now()
	conn, err := c.cfg.Dial(ctx)
	if err != nil {
		return nil, err
	}
	dialled := time.Now()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	_ = conn.SetDeadline(time.Now().Add(quiet))
	_, err = fmt.Fprintf(conn, "GET /v1/chunks?store=%s HTTP/1.1\r\nHost: peer\r\nConnection: Upgrade\r\nUpgrade: %s\r\n\r\n", url.QueryEscape(c.cfg.Store), Protocol)
	if err != nil {
		conn.Close()
		return nil, err
	}
	in := bufio.NewReaderSize(&rate.Reader{Ctx: ctx, R: conn, Bucket: c.cfg.In}, 64<<10)
	resp, err := http.ReadResponse(in, nil)
	if err == nil && resp.StatusCode != http.StatusSwitchingProtocols {
		err = c.refused(resp)
	}
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("open a stream of %s: %w", c.Name(), err)
	}
	_ = conn.SetDeadline(time.Time{})
	s := &stream{conn: conn, in: in, flow: &c.flow}
	c.flow.opened(s, min(dialled.Sub(began), time.Since(dialled))) // each of both is a round trip, or more
	return s, nil
}
