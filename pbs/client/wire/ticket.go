package wire

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"time"
)

// A Ticket proves for two hours that somebody has logged in. It is a secret.
type Ticket struct {
	User   string    `json:"username"`
	Ticket string    `json:"ticket"`
	CSRF   string    `json:"token"`  // goes with every request that changes something
	Issued time.Time `json:"issued"` // by the clock of this machine
}

// String names the ticket and shows nothing of it.
func (t Ticket) String() string { return "ticket of " + t.User }

// GoString is String, so that %#v shows nothing of the ticket either.
func (t Ticket) GoString() string { return t.String() }

const (
	// ticketLife is how long a ticket is used: PBS accepts one for 7200 s, and
	// its client stops a minute before.
	ticketLife = 7140 * time.Second

	// ticketRenewal is when a ticket is exchanged for a new one, as PBS's
	// client does (PBS protocol notes §1.2).
	ticketRenewal = 15 * time.Minute
)

// ErrLogin says that somebody could not log in. Match it with errors.Is.
var ErrLogin = errors.New("login failed")

var (
	errExpired      = errors.New("the ticket has expired and there is no password")
	errSecondFactor = errors.New("the server asks for a second factor")
	errBadTicket    = errors.New("the server answered with no usable ticket")
)

// An authError says why there is no ticket.
type authError struct {
	user, server string
	err          error
}

func (e *authError) Error() string {
	return fmt.Sprintf("log in as %s to %s: %v", e.user, e.server, e.err)
}

func (e *authError) Unwrap() []error { return []error{ErrLogin, e.err} }

// Hint is printed on its own line below the error.
func (e *authError) Hint() string {
	var refused *APIError
	switch {
	case errors.Is(e.err, errNoPassword):
		return "set PBS_PASSWORD, or PBS_PASSWORD_FILE to the name of a file that holds it"
	case errors.Is(e.err, errExpired):
		return "log in again, or set PBS_PASSWORD"
	case errors.Is(e.err, errSecondFactor):
		return "create an API token for this user and use that: tokens need no second factor"
	case errors.As(e.err, &refused):
		return refused.Hint()
	}
	return ""
}

// An authenticator keeps a ticket fresh.
type authenticator struct {
	srv *Server

	lock   chan struct{} // holds one; a mutex cannot be given up when a context ends
	ticket Ticket        // guarded by lock
}

func (a *authenticator) init(srv *Server) {
	a.srv, a.ticket, a.lock = srv, srv.cfg.Ticket, make(chan struct{}, 1)
}

// Login logs in anew and returns the ticket, for a later [Config]. An API token
// needs none, and has an empty one.
func (srv *Server) Login(ctx context.Context) (Ticket, error) {
	if srv.isToken() || srv.isLocal() {
		return Ticket{}, nil
	}
	return srv.auth.get(ctx, func(Ticket) bool { return true })
}

// authorize puts into h what proves who asks. It returns the ticket that was
// used, "" for an API token.
func (a *authenticator) authorize(ctx context.Context, h http.Header) (string, error) {
	cfg := &a.srv.cfg
	if a.srv.isLocal() {
		return "", nil
	}
	if a.srv.isToken() {
		h.Set("Authorization", "PBSAPIToken "+cfg.User+":"+encodeHeader(cfg.Password))
		return "", nil
	}
	t, err := a.get(ctx, nil)
	if err != nil {
		return "", err
	}
	h.Set("Cookie", "PBSAuthCookie="+encodeHeader(t.Ticket))
	h.Set("CSRFPreventionToken", t.CSRF)
	return t.Ticket, nil
}

// reject says that the server does not accept a ticket any more, and reports
// whether another can be had.
func (a *authenticator) reject(ctx context.Context, ticket string) bool {
	if ticket == "" || a.srv.cfg.Password == "" {
		return false
	}
	_, err := a.get(ctx, func(t Ticket) bool { return t.Ticket == ticket })
	return err == nil
}

// get returns a ticket that is good for a while. Where refuse says so of the
// one that is there, it logs in.
func (a *authenticator) get(ctx context.Context, refuse func(Ticket) bool) (Ticket, error) {
	select {
	case a.lock <- struct{}{}:
		defer func() { <-a.lock }()
	case <-ctx.Done():
		return Ticket{}, ctx.Err()
	}
	age := time.Since(a.ticket.Issued)
	alive := a.ticket.Ticket != "" && age < ticketLife && (refuse == nil || !refuse(a.ticket))
	if alive && age < ticketRenewal {
		return a.ticket, nil
	}
	if alive {
		if t, err := a.login(ctx, a.ticket.Ticket); err == nil {
			a.ticket = t
			return t, nil
		}
		a.srv.cfg.Log.Debug("ticket was not renewed", "server", a.srv.name)
	}
	switch {
	case a.srv.cfg.Password != "":
		t, err := a.login(ctx, a.srv.cfg.Password)
		if err != nil {
			return Ticket{}, err
		}
		a.ticket = t
	case !alive:
		return Ticket{}, &authError{a.srv.cfg.User, a.srv.name, errExpired}
	}
	return a.ticket, nil
}

// login exchanges a password, or a ticket that is still good, for a ticket.
func (a *authenticator) login(ctx context.Context, password string) (Ticket, error) {
	user := a.srv.cfg.User
	body, err := json.Marshal(map[string]string{"username": user, "password": password})
	if err != nil {
		return Ticket{}, err
	}
	start := time.Now()
	// PBS's client begins this path with two slashes, and so do we: there is a
	// server that knows no other (PBS protocol notes §11.2).
	answer, err := Call[struct {
		User   string `json:"username"`
		Ticket string `json:"ticket"`
		CSRF   string `json:"CSRFPreventionToken"`
	}](ctx, a.srv, Request{Method: "POST", Path: "/" + Base + "/access/ticket", Body: body, Kind: JSON, anonymous: true})
	switch {
	case err != nil && ctx.Err() != nil:
		return Ticket{}, ctx.Err()
	case err != nil:
		if refused := (*APIError)(nil); errors.As(err, &refused) {
			err = refused
			return Ticket{}, &authError{user, a.srv.name, err}
		}
		return Ticket{}, err
	case strings.Contains(answer.Ticket, ":!tfa!"):
		return Ticket{}, &authError{user, a.srv.name, errSecondFactor}
	case !ticketPattern.MatchString(answer.Ticket) || !ticketPattern.MatchString(answer.CSRF):
		return Ticket{}, &authError{user, a.srv.name, errBadTicket}
	}
	return Ticket{User: user, Ticket: answer.Ticket, CSRF: answer.CSRF, Issued: start}, nil
}

// ticketPattern is what can stand in a header.
var ticketPattern = regexp.MustCompile(`^[\x21-\x7e]+$`)

// encodeHeader escapes what PBS's clients escape in cookies and in secrets of
// tokens (PBS protocol notes §1.3), and "%", which has to be for the rest to
// be read back.
func encodeHeader(s string) string {
	var b strings.Builder
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c >= 0x7e || strings.IndexByte("\"#<>`?{}%", c) >= 0 {
			fmt.Fprintf(&b, "%%%02X", c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}
