package wire

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/holdfast-mesh/holdfast/chunks"
)

// Config says which server is meant, and who asks. The zero value of every
// optional field means the default written beside it.
type Config struct {
	Host    string // required: its name or address, which its certificate is for
	Address string // required: HOST:PORT
	User    string // required: a user, or an API token

	Password    string         // of the user, or the token's secret; default: there is a Ticket
	Ticket      Ticket         // of an earlier login; default: there is a Password
	Fingerprint string         // of the server's certificate; default: authorities vouch for it
	Roots       *x509.CertPool // authorities; default: those of the system

	// Socket is the path of the control socket of a node on this machine. Who
	// may open it is the operator, so there is neither TLS nor a login;
	// default: a server on the network.
	Socket string

	// Dial connects to the server; default: a TCP connection that is watched
	// by keep-alive packets.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)

	Log *slog.Logger // default: discard
}

// withDefaults returns c completed, or says which field is wrong and why.
func (c Config) withDefaults() (Config, error) {
	c.Log = cmp.Or(c.Log, slog.New(slog.DiscardHandler))
	if c.Socket != "" {
		c.Dial = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{Timeout: dialTimeout}).DialContext(ctx, "unix", c.Socket)
		}
	}
	if c.Dial == nil {
		c.Dial = (&net.Dialer{Timeout: dialTimeout, KeepAliveConfig: keepAlive}).DialContext
	}
	if c.Socket == "" && c.Password == "" && c.Ticket.Ticket == "" {
		return c, &authError{user: c.User, server: c.Address, err: errNoPassword}
	}
	if c.Fingerprint != "" {
		f, err := chunks.ParseFingerprint(c.Fingerprint)
		if err != nil {
			return c, fmt.Errorf("fingerprint of %s: %w", c.Address, err)
		}
		c.Fingerprint = f.String()
	}
	return c, nil
}

// A Server is one that we talk to. It is safe for concurrent use.
type Server struct {
	cfg  Config
	name string // HOST:PORT, for messages
	http *http.Transport
	auth authenticator
}

// New returns a server. It does not connect yet.
func New(cfg Config) (*Server, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	srv := &Server{cfg: cfg, name: cfg.Address}
	srv.http = &http.Transport{
		DialTLSContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			conn, err := srv.dial(ctx)
			if err != nil {
				return nil, err
			}
			return conn.Conn, nil // which may be no TLS
		},
		DisableCompression:     true,
		MaxResponseHeaderBytes: maxHeader,
		IdleConnTimeout:        idleTimeout,
	}
	srv.auth.init(srv)
	return srv, nil
}

// String returns HOST:PORT, for messages.
func (srv *Server) String() string { return srv.name }

// Close frees the connections that wait for another request. Sessions have
// their own.
func (srv *Server) Close() { srv.http.CloseIdleConnections() }

// isLocal reports whether the server is this machine's node, which asks for no
// login.
func (srv *Server) isLocal() bool { return srv.cfg.Socket != "" }

// isToken reports whether an API token asks, which needs no login.
func (srv *Server) isToken() bool { return strings.Contains(srv.cfg.User, "!") }

const (
	dialTimeout = 10 * time.Second // as PBS's clients have it
	idleTimeout = 90 * time.Second // before the connection is closed that nobody uses

	// maxHeader is the longest header of an answer in bytes. PBS's have some
	// hundred, tickets included.
	maxHeader = 1 << 20
)

// keepAlive finds a dead server within two minutes.
var keepAlive = net.KeepAliveConfig{Enable: true, Idle: time.Minute, Interval: 15 * time.Second, Count: 4}

var errNoPassword = errors.New("there is no password")
