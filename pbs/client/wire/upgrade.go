package wire

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/holdfast-mesh/holdfast/pbs/bulk"
)

// The protocols that a connection can be upgraded to (PBS protocol notes §3.1,
// §4.1).
const (
	BackupProtocol = "proxmox-backup-protocol-v1"
	ReaderProtocol = "proxmox-backup-reader-protocol-v1"
)

// Upgrade opens a connection, logs in if need be and has it upgraded to
// HTTP/2, by the method called what, in the given protocol. The session ends
// with ctx.
func (srv *Server) Upgrade(ctx context.Context, what, protocol string, q url.Values) (*Session, error) {
	// Two slashes, as with the login: see there.
	r := Request{Method: "GET", Path: "/" + Base + "/" + what, Query: q}
	s, used, err := srv.tryUpgrade(ctx, r, protocol)
	if forgotten(err) && srv.auth.reject(ctx, used) {
		s, _, err = srv.tryUpgrade(ctx, r, protocol)
	}
	if err != nil && ctx.Err() != nil {
		return nil, ctx.Err()
	}
	return s, err
}

// tryUpgrade is one attempt. It says which ticket was used.
func (srv *Server) tryUpgrade(ctx context.Context, r Request, protocol string) (s *Session, ticket string, err error) {
	req, err := srv.newRequest(ctx, r)
	if err != nil {
		return nil, "", err
	}
	if ticket, err = srv.auth.authorize(ctx, req.Header); err != nil {
		return nil, "", err
	}
	req.Header.Set("Connection", "upgrade")
	req.Header.Set("Upgrade", protocol)
	conn, err := srv.dial(ctx)
	if err != nil {
		return nil, ticket, err
	}
	up, err := srv.shakeHands(ctx, conn, req)
	if err != nil {
		conn.drop()
		return nil, ticket, err
	}
	return newSession(ctx, srv.name, up), ticket, nil
}

// shakeHands sends the request for the upgrade and reads the answer.
func (srv *Server) shakeHands(ctx context.Context, conn link, req *http.Request) (*upgraded, error) {
	stop := context.AfterFunc(ctx, conn.drop)
	defer stop()
	conn.SetDeadline(time.Now().Add(answerTimeout))
	lost := func(err error) error {
		return &LostError{Server: srv.name, Doing: "GET " + plain(req.URL.Path), Err: err}
	}
	asked := time.Now()
	if err := req.Write(conn); err != nil {
		return nil, lost(err)
	}
	head := &bounded{r: conn, left: maxHeader}
	buffered := bufio.NewReader(head)
	resp, err := http.ReadResponse(buffered, req)
	if err != nil {
		return nil, lost(err)
	}
	if resp.StatusCode != http.StatusSwitchingProtocols {
		defer resp.Body.Close()
		if resp.StatusCode/100 == 2 {
			return nil, &AnswerError{srv.name, "the request for an upgrade", fmt.Errorf("status %d instead of 101", resp.StatusCode)}
		}
		return nil, refused(srv.name, req, resp)
	}
	conn.trip = min(conn.trip, time.Since(asked))
	conn.SetDeadline(time.Time{})
	conn.Conn = bulk.Over(conn.Conn)
	return &upgraded{conn, buffered}, nil
}

// bounded reads no more than it may: the head of an answer has no bound of
// its own.
type bounded struct {
	r    io.Reader
	left int
}

var errLongHead = errors.New("the head of the answer is too long")

func (b *bounded) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, errLongHead
	}
	n, err := b.r.Read(p[:min(len(p), b.left)])
	b.left -= n
	return n, err
}

var _ net.Conn = (*upgraded)(nil)
