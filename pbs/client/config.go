package client

import (
	"cmp"
	"context"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net"

	"golang.org/x/sync/semaphore"

	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/pbs/client/wire"
)

const (
	// DefaultInFlight is how many bytes are set aside for chunks on their way.
	// A line of 3.5 Gbit/s over 150 ms holds 64 MiB; restores set aside a
	// quarter more than chunks turn out to need.
	DefaultInFlight = 96 << 20

	// minInFlight leaves room for two of the largest chunks.
	minInFlight = 2 * chunks.MaxBlob

	// maxInFlight bounds what a typing error can take of the memory.
	maxInFlight = 4 << 30
)

// What fails on the way to a server; see package wire.
type (
	APIError         = wire.APIError
	AnswerError      = wire.AnswerError
	CertificateError = wire.CertificateError
	LostError        = wire.LostError
	Ticket           = wire.Ticket
)

// ErrLogin says that somebody could not log in. Match it with errors.Is.
var ErrLogin = wire.ErrLogin

// Config says which server a [Client] talks to, and how. The zero value of
// every optional field means the default written beside it.
type Config struct {
	Repository Repository // required

	// Password is that of the user, or the secret of the API token. It may be
	// missing if there is a Ticket.
	Password string

	// Ticket is what an earlier login returned. It is used while it lasts, and
	// saves the login; default: none.
	Ticket Ticket

	// Fingerprint is that of the server's certificate, 32 pairs of hexadecimal
	// digits joined by colons; default: authorities must vouch for it.
	Fingerprint string

	Roots *x509.CertPool // authorities; default: those of the system

	// Socket is the path of the control socket of the node on this machine,
	// which asks for no login; default: a server on the network.
	Socket string

	// Dial connects to the server; default: a TCP connection that is watched
	// by keep-alive packets.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)

	InFlight int64        // bytes of chunks on their way at a time, in each direction, and three quarters as much again that was not asked for yet, where the server is far; default 96 MiB
	Log      *slog.Logger // default: discard
}

// withDefaults returns c completed, or says which field is wrong and why.
func (c Config) withDefaults() (Config, error) {
	c.Repository = c.Repository.withDefaults()
	c.InFlight = cmp.Or(c.InFlight, DefaultInFlight)
	c.Log = cmp.Or(c.Log, slog.New(slog.DiscardHandler))
	if c.InFlight < minInFlight || c.InFlight > maxInFlight {
		return c, fmt.Errorf("client: %d bytes in flight, want %d to %d", c.InFlight, int64(minInFlight), int64(maxInFlight))
	}
	return c, c.Repository.check()
}

// A Client talks to one datastore of one server. It is safe for concurrent
// use.
type Client struct {
	cfg    Config
	server *wire.Server

	// Bytes of chunks on their way. What is expected is fetched beside the rest.
	sending, receiving, expecting *semaphore.Weighted
}

// New returns a client. It does not connect yet.
func New(cfg Config) (*Client, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	server, err := wire.New(wire.Config{
		Host: cfg.Repository.Host, Address: cfg.Repository.Address(), User: cfg.Repository.User,
		Password: cfg.Password, Ticket: cfg.Ticket, Fingerprint: cfg.Fingerprint,
		Roots: cfg.Roots, Socket: cfg.Socket, Dial: cfg.Dial, Log: cfg.Log,
	})
	if err != nil {
		return nil, err
	}
	return &Client{
		cfg: cfg, server: server,
		sending: semaphore.NewWeighted(cfg.InFlight), receiving: semaphore.NewWeighted(cfg.InFlight),
		expecting: semaphore.NewWeighted(cfg.InFlight / 4 * 3),
	}, nil
}

// Repository returns which datastore the client talks to.
func (c *Client) Repository() Repository { return c.cfg.Repository }

// String names the datastore for messages.
func (c *Client) String() string {
	if c.cfg.Socket != "" {
		return "datastore " + c.cfg.Repository.Store
	}
	return "PBS " + c.cfg.Repository.String()
}

// Login logs in anew and returns the ticket, for a later [Config]. An API token
// needs none, and has an empty one.
func (c *Client) Login(ctx context.Context) (Ticket, error) { return c.server.Login(ctx) }

// Close frees the connections that wait for another request. Backups and
// snapshots that are open have their own.
func (c *Client) Close() { c.server.Close() }
