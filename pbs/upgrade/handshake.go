package upgrade

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"
)

// The protocols that a connection can be upgraded to.
const (
	Backup = "proxmox-backup-protocol-v1"
	Reader = "proxmox-backup-reader-protocol-v1"
)

// Check says whether r asks for protocol. A "Connection: upgrade" header is
// not insisted on: some clients leave it out (§13.4).
func Check(r *http.Request, protocol string) error {
	asked := r.Header.Values("Upgrade")
	switch {
	case len(asked) == 0:
		return Errorf(http.StatusBadRequest, "missing Upgrade header")
	case asked[0] != protocol:
		return Errorf(http.StatusBadRequest, "invalid protocol name")
	case r.ProtoMajor >= 2:
		return Errorf(http.StatusBadRequest, "unexpected http version '%s' (expected version < 2)", r.Proto)
	}
	return nil
}

// answerTime is how long a client may take to accept the answer's 150 bytes.
const answerTime = 30 * time.Second

// ErrTakenOver is in an error of [Handshake] after which nobody can answer the
// client any more.
var ErrTakenOver = errors.New("the connection is closed")

// Handshake answers r, which [Check] has passed, with 101 and takes over its
// connection, which has no deadline any more: QEMU says nothing for hours
// where a guest writes nothing. What the client sent ahead is read first. After
// an error with the connection already taken over, it is closed.
func Handshake(w http.ResponseWriter, r *http.Request, protocol string) (net.Conn, error) {
	if err := Check(r, protocol); err != nil {
		return nil, err
	}
	conn, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return nil, fmt.Errorf("take over the connection of %s: %w", r.RemoteAddr, err)
	}
	ahead, err := rw.Reader.Peek(rw.Reader.Buffered())
	if err == nil {
		ahead = bytes.Clone(ahead)
		err = answer(conn, protocol)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("answer %s with 101: %w", r.RemoteAddr, err), conn.Close(), ErrTakenOver)
	}
	return &resumed{conn, io.MultiReader(bytes.NewReader(ahead), conn)}, nil
}

func answer(conn net.Conn, protocol string) error {
	if err := conn.SetDeadline(time.Now().Add(answerTime)); err != nil {
		return err
	}
	_, err := fmt.Fprintf(conn, "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: %s\r\ndate: %s\r\n\r\n",
		protocol, time.Now().UTC().Format(http.TimeFormat))
	if err != nil {
		return err
	}
	return conn.SetDeadline(time.Time{})
}

// resumed is a connection of which somebody has read ahead.
type resumed struct {
	net.Conn
	r io.Reader
}

func (c *resumed) Read(p []byte) (int, error) { return c.r.Read(p) }

// NetConn returns the connection below, as that of crypto/tls does.
func (c *resumed) NetConn() net.Conn { return c.Conn }
