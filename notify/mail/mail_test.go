package mail

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math/big"
	"net"
	netmail "net/mail"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"

	"github.com/holdfast-mesh/holdfast/notify"
)

// A server is a real SMTP server that keeps what it is sent.
type server struct {
	mu    sync.Mutex
	mails []string
	to    []string
	tls   []bool
	deny  bool // every recipient
}

type session struct {
	*server
	conn *smtp.Conn
	in   bool
	need bool
}

func (s *session) AuthMechanisms() []string { return []string{sasl.Plain} }

func (s *session) Auth(string) (sasl.Server, error) {
	return sasl.NewPlainServer(func(_, user, password string) error {
		if user != "op" || password != "secret" {
			return smtp.ErrAuthFailed
		}
		s.in = true
		return nil
	}), nil
}

func (s *session) Mail(string, *smtp.MailOptions) error {
	if s.need && !s.in {
		return smtp.ErrAuthRequired
	}
	return nil
}

func (s *session) Rcpt(to string, _ *smtp.RcptOptions) error {
	if s.deny {
		return &smtp.SMTPError{Code: 550, EnhancedCode: smtp.EnhancedCode{5, 1, 1}, Message: "no such mailbox"}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.to = append(s.to, to)
	return nil
}

func (s *session) Data(r io.Reader) error {
	text, err := io.ReadAll(r)
	_, protected := s.conn.TLSConnectionState()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mails, s.tls = append(s.mails, string(text)), append(s.tls, protected)
	return err
}

func (s *session) Reset()        {}
func (s *session) Logout() error { return nil }

// serve runs a server until the test ends, and returns its port and who signed
// its certificate.
func serve(t *testing.T, s *server, mode Mode, login bool) (port int, roots *x509.CertPool) {
	t.Helper()
	cert, roots := certificate(t)
	srv := smtp.NewServer(smtp.BackendFunc(func(c *smtp.Conn) (smtp.Session, error) {
		return &session{server: s, conn: c, need: login}, nil
	}))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port = l.Addr().(*net.TCPAddr).Port
	switch config := (&tls.Config{Certificates: []tls.Certificate{cert}}); mode {
	case TLS:
		l = tls.NewListener(l, config)
	case StartTLS:
		srv.TLSConfig = config
	}
	srv.ReadTimeout, srv.WriteTimeout = time.Minute, time.Minute
	done := make(chan error, 1)
	go func() { done <- srv.Serve(l) }()
	t.Cleanup(func() {
		srv.Close()
		<-done
	})
	return port, roots
}

func certificate(t *testing.T) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}

var message = notify.Message{
	ID: "abc", Subject: "Größe: 3 Fehler", Text: "chunk … is damaged\n.\nend", Severity: notify.Error, Time: time.Unix(1767225600, 0),
}

func TestSend(t *testing.T) {
	tests := []struct {
		name           string
		mode           Mode
		user, password string
		needs, trusts  bool
		plain          bool // the server has no TLS
		want           string
	}{
		{"TLS and a login", TLS, "op", "secret", true, true, false, ""},
		{"STARTTLS and a login", StartTLS, "op", "secret", true, true, false, ""},
		{"no TLS, no login", Insecure, "", "", false, true, false, ""},
		{"a wrong password", StartTLS, "op", "wrong", true, true, false, "Authentication failed"},
		{"no login where one is needed", StartTLS, "", "", true, true, false, "authenticate"},
		{"a certificate that nobody signed", TLS, "op", "secret", true, false, false, "certificate"},
		{"a server without STARTTLS", StartTLS, "op", "secret", true, true, true, "STARTTLS"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := &server{}
			serverMode := tt.mode
			if tt.plain {
				serverMode = Insecure
			}
			port, roots := serve(t, s, serverMode, tt.needs)
			config := &tls.Config{ServerName: "127.0.0.1", RootCAs: roots}
			if !tt.trusts {
				config.RootCAs = x509.NewCertPool()
			}
			target, err := New(Config{
				Server: "127.0.0.1", Port: port, Mode: tt.mode, Username: tt.user, Password: tt.password,
				From: "holdfast@example.com", To: []string{"a@example.com", "b@example.com"}, TLS: config,
			})
			if err != nil {
				t.Fatal(err)
			}
			err = target.Send(t.Context(), message)
			s.mu.Lock()
			defer s.mu.Unlock()
			if tt.want != "" {
				if err == nil || !strings.Contains(err.Error(), tt.want) || len(s.mails) > 0 || strings.Contains(err.Error(), "secret") {
					t.Errorf("error %v with %d mails, want %q", err, len(s.mails), tt.want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if len(s.mails) != 1 || strings.Join(s.to, " ") != "a@example.com b@example.com" || s.tls[0] != (tt.mode != Insecure) {
				t.Fatalf("%d mails to %v, TLS %v", len(s.mails), s.to, s.tls)
			}
			check(t, s.mails[0])
		})
	}
}

// check reads a mail as a mail program does.
func check(t *testing.T, text string) {
	t.Helper()
	m, err := netmail.ReadMessage(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(m.Body)
	if err != nil {
		t.Fatal(err)
	}
	h := m.Header
	if h.Get("Message-ID") != "<abc@example.com>" || h.Get("Auto-Submitted") != "auto-generated" || !strings.Contains(h.Get("From"), "Holdfast") || h.Get("Date") == "" {
		t.Errorf("headers %v", h)
	}
	if !strings.Contains(string(body), "is damaged") || !strings.Contains(string(body), "end") {
		t.Errorf("body %q", body)
	}
	if !strings.Contains(h.Get("Subject"), "=?UTF-8?") {
		t.Errorf("subject %q", h.Get("Subject"))
	}
}

func TestRefusals(t *testing.T) {
	s := &server{deny: true}
	port, _ := serve(t, s, Insecure, false)
	target, err := New(Config{Server: "127.0.0.1", Port: port, Mode: Insecure, From: "h@example.com", To: []string{"a@example.com"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := target.Send(t.Context(), message); err == nil || !strings.Contains(err.Error(), "no such mailbox") {
		t.Errorf("a refused recipient: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := target.Send(ctx, message); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestNewRefuses(t *testing.T) {
	good := Config{Server: "mail.example", From: "a@example.com", To: []string{"b@example.com"}}
	if _, err := New(good); err != nil {
		t.Error(err)
	}
	for name, change := range map[string]func(*Config){
		"no server":              func(c *Config) { c.Server = "" },
		"no recipient":           func(c *Config) { c.To = nil },
		"no sender":              func(c *Config) { c.From = "" },
		"a header in an address": func(c *Config) { c.To = []string{"a@example.com\r\nBcc: x@example.com"} },
		"a header in the author": func(c *Config) { c.Author = "a\r\nBcc: x@example.com" },
		"a password in clear":    func(c *Config) { c.Mode, c.Username = Insecure, "op" },
		"another mode":           func(c *Config) { c.Mode = "ssl" },
		"another port":           func(c *Config) { c.Port = 70000 },
	} {
		c := good
		change(&c)
		if _, err := New(c); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
}
