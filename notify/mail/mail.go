// Package mail sends notifications by mail, over SMTP.
package mail

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	netmail "net/mail"
	"slices"
	"strings"

	gomail "github.com/wneessen/go-mail"

	"github.com/holdfast-mesh/holdfast/notify"
)

// A Mode says how the connection to a server is protected.
type Mode string

// The modes, in the words of PBS.
const (
	TLS      Mode = "tls"      // from the first byte; port 465
	StartTLS Mode = "starttls" // before anything is said; port 587
	Insecure Mode = "insecure" // not at all; port 25
)

// Config says where mail goes, and how.
type Config struct {
	Server   string      // required; name or address
	Port     int         // default: that of the mode
	Mode     Mode        // default: TLS
	Username string      // "": no login
	Password string      //
	From     string      // required; an address
	Author   string      // the name beside it; default "Holdfast"
	To       []string    // required; addresses
	TLS      *tls.Config // default: the roots of the system
}

var ports = map[Mode]int{TLS: 465, StartTLS: 587, Insecure: 25}

// A Target sends mail.
type Target struct {
	cfg     Config
	options []gomail.Option
}

// New checks the configuration. It connects to nobody.
func New(cfg Config) (*Target, error) {
	if cfg.Mode == "" {
		cfg.Mode = TLS
	}
	if cfg.Port == 0 {
		cfg.Port = ports[cfg.Mode]
	}
	if cfg.Author == "" {
		cfg.Author = "Holdfast"
	}
	switch {
	case cfg.Server == "":
		return nil, errors.New("mail: no server")
	case ports[cfg.Mode] == 0:
		return nil, fmt.Errorf("mail: mode is %q, want tls, starttls or insecure", cfg.Mode)
	case cfg.Port < 1 || cfg.Port > 65535:
		return nil, fmt.Errorf("mail: port is %d, want 1 to 65535", cfg.Port)
	case len(cfg.To) == 0:
		return nil, errors.New("mail: no recipient")
	case cfg.Username != "" && cfg.Mode == Insecure:
		return nil, errors.New("mail: a password is not sent without TLS: use the mode starttls or tls")
	case strings.ContainsAny(cfg.Author, "\r\n"):
		return nil, errors.New("mail: the author has a line break")
	}
	for _, address := range append(slices.Clone(cfg.To), cfg.From) {
		if _, err := netmail.ParseAddress(address); err != nil {
			return nil, fmt.Errorf("mail: %q is no address: %w", address, err)
		}
	}
	t := &Target{cfg: cfg}
	t.options = []gomail.Option{gomail.WithPort(cfg.Port), gomail.WithoutNoop()}
	switch {
	case cfg.Mode == TLS:
		t.options = append(t.options, gomail.WithSSL())
	case cfg.Mode == StartTLS:
		t.options = append(t.options, gomail.WithTLSPolicy(gomail.TLSMandatory))
	default:
		t.options = append(t.options, gomail.WithTLSPolicy(gomail.NoTLS))
	}
	if cfg.TLS != nil {
		t.options = append(t.options, gomail.WithTLSConfig(cfg.TLS))
	}
	if cfg.Username != "" {
		t.options = append(t.options, gomail.WithSMTPAuth(gomail.SMTPAuthAutoDiscover), gomail.WithUsername(cfg.Username), gomail.WithPassword(cfg.Password))
	}
	return t, nil
}

// Send sends m to all recipients, in one mail.
func (t *Target) Send(ctx context.Context, m notify.Message) error {
	mail, err := t.mail(m)
	if err != nil {
		return err
	}
	c, err := gomail.NewClient(t.cfg.Server, t.options...)
	if err != nil {
		return fmt.Errorf("mail: %w", err)
	}
	if err := c.DialAndSendWithContext(ctx, mail); err != nil {
		return &Error{fmt.Errorf("send mail by way of %s:%d: %w", t.cfg.Server, t.cfg.Port, err), t.cfg.Mode}
	}
	return nil
}

func (t *Target) mail(m notify.Message) (*gomail.Msg, error) {
	mail := gomail.NewMsg()
	if err := errors.Join(mail.FromFormat(t.cfg.Author, t.cfg.From), mail.To(t.cfg.To...)); err != nil {
		return nil, fmt.Errorf("mail: %w", err)
	}
	_, domain, _ := strings.Cut(t.cfg.From, "@")
	mail.SetMessageIDWithValue(m.ID + "@" + domain)
	mail.SetDateWithValue(m.Time)
	mail.Subject(m.Subject)
	mail.SetBodyString(gomail.TypeTextPlain, m.Text)
	mail.SetGenHeader("Auto-Submitted", "auto-generated") // so that no holiday answers
	mail.SetGenHeader("X-Holdfast-Severity", string(m.Severity))
	if m.Severity == notify.Error {
		mail.SetImportance(gomail.ImportanceHigh)
	}
	return mail, nil
}

// An Error is a mail that was not sent.
type Error struct {
	Err  error
	mode Mode
}

func (e *Error) Error() string { return e.Err.Error() }
func (e *Error) Unwrap() error { return e.Err }

// Hint says what an operator can do about it.
func (e *Error) Hint() string {
	text := e.Err.Error()
	switch {
	case strings.Contains(text, "first record does not look like a TLS handshake"):
		return "the server does not speak TLS from the first byte on that port: use --mode starttls, usually with port 587"
	case strings.Contains(text, "STARTTLS") && e.mode == StartTLS:
		return "the server offers no STARTTLS on that port: use --mode tls with port 465, or --mode insecure inside your own network"
	case strings.Contains(text, "certificate"):
		return "name the server as its certificate does, or have this machine trust who signed it"
	case strings.Contains(text, "535") || strings.Contains(text, "Authentication"):
		return "the server refuses the login: check --username and the password"
	}
	return ""
}
