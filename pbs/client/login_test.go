package client_test

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-mesh/holdfast/pbs/client"
)

// A gate is a server that lets people in, and answers every request for the
// version.
type gate struct {
	logins  []string // the passwords
	proofs  []string // what requests came with
	forgets bool     // tickets that were given out before
	issued  int
	answer  string // to a login, instead of a ticket
}

func (g *gate) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "//api2/json/access/ticket":
		body, _ := io.ReadAll(r.Body)
		g.logins = append(g.logins, string(body))
		if strings.Contains(string(body), "wrong") {
			http.Error(w, "permission check failed.", http.StatusUnauthorized)
			return
		}
		g.issued++
		answer := g.answer
		if answer == "" {
			answer = fmt.Sprintf(`{"data":{"username":"elsa@pbs","ticket":"PBS:elsa@pbs:%08X::x{%d}","CSRFPreventionToken":"csrf%d"}}`, time.Now().Unix(), g.issued, g.issued)
		}
		io.WriteString(w, answer)
	case "/api2/json/version":
		g.proofs = append(g.proofs, r.Header.Get("Cookie")+"|"+r.Header.Get("CSRFPreventionToken")+"|"+r.Header.Get("Authorization"))
		if g.forgets && strings.HasSuffix(r.Header.Get("Cookie"), "x%7B1%7D") {
			http.Error(w, "authentication failed - ticket with bad signature", http.StatusUnauthorized)
			return
		}
		io.WriteString(w, `{"data":{"version":"4.0","release":"1","repoid":"x"}}`)
	default:
		http.Error(w, "no such file", http.StatusNotFound)
	}
}

// gated runs a test with a client of g, in a time of its own.
func gated(t *testing.T, g *gate, change func(*client.Config), test func(ctx context.Context, t *testing.T, c *client.Client)) {
	t.Helper()
	farCertificate()
	synctest.Test(t, func(t *testing.T) {
		s := newFarServer(t)
		defer s.close()
		s.http.Handler = g
		cfg := s.config(t)
		cfg.Repository.User = "elsa@pbs"
		if change != nil {
			change(&cfg)
		}
		test(t.Context(), t, connect(t, cfg))
	})
}

func ask(ctx context.Context, t *testing.T, c *client.Client) {
	t.Helper()
	if v, err := c.Version(ctx); err != nil || v.String() != "4.0.1" {
		t.Errorf("got %v, %v", v, err)
	}
}

func TestATicketIsRenewed(t *testing.T) {
	g := &gate{}
	gated(t, g, nil, func(ctx context.Context, t *testing.T, c *client.Client) {
		for _, pause := range []time.Duration{0, 14 * time.Minute, 10 * time.Minute, 3 * time.Hour} {
			time.Sleep(pause)
			ask(ctx, t, c)
		}
	})
	if len(g.logins) != 3 || !strings.Contains(g.logins[0], `"secret"`) || !strings.Contains(g.logins[1], `"PBS:elsa@pbs:`) || !strings.Contains(g.logins[2], `"secret"`) {
		t.Errorf("the logins are %q, want one with the password, one with the ticket, and one with the password when that is too old", g.logins)
	}
	if want := "::x%7B1%7D|csrf1|"; !strings.HasSuffix(g.proofs[0], want) || !strings.HasPrefix(g.proofs[0], "PBSAuthCookie=PBS:elsa@pbs:") {
		t.Errorf("the first request came with %q, want %q", g.proofs[0], want)
	}
}

func TestATicketThatTheServerForgotIsReplaced(t *testing.T) {
	g := &gate{}
	gated(t, g, nil, func(ctx context.Context, t *testing.T, c *client.Client) {
		ask(ctx, t, c)
		g.forgets = true
		ask(ctx, t, c)
		ask(ctx, t, c)
	})
	if len(g.logins) != 2 || len(g.proofs) != 4 {
		t.Errorf("there were %d logins and %d requests, want 2 and 4", len(g.logins), len(g.proofs))
	}
}

func TestATicketOfAnEarlierLoginIsUsed(t *testing.T) {
	g := &gate{}
	var ticket client.Ticket
	gated(t, g, nil, func(ctx context.Context, t *testing.T, c *client.Client) {
		var err error
		if ticket, err = c.Login(ctx); err != nil {
			t.Fatal(err)
		}
		ticket.Issued = time.Time{} // the other bubble has a time of its own
	})
	withTicket := func(age time.Duration) func(*client.Config) {
		return func(cfg *client.Config) {
			cfg.Password, cfg.Ticket = "", ticket
			cfg.Ticket.Issued = time.Now().Add(-age)
		}
	}
	gated(t, g, withTicket(time.Minute), func(ctx context.Context, t *testing.T, c *client.Client) { ask(ctx, t, c) })
	if len(g.logins) != 1 {
		t.Errorf("the logins are %q", g.logins)
	}
	gated(t, g, withTicket(2*time.Hour), func(ctx context.Context, t *testing.T, c *client.Client) {
		_, err := c.Version(ctx)
		if !errors.Is(err, client.ErrLogin) || !strings.Contains(err.Error(), "has expired") {
			t.Errorf("got %v", err)
		}
	})
}

func TestATokenNeedsNoLogin(t *testing.T) {
	g := &gate{}
	token := func(cfg *client.Config) { cfg.Repository.User, cfg.Password = "elsa@pbs!laptop", "a b%" }
	gated(t, g, token, func(ctx context.Context, t *testing.T, c *client.Client) { ask(ctx, t, c) })
	if want := "||PBSAPIToken elsa@pbs!laptop:a%20b%25"; len(g.logins) != 0 || g.proofs[0] != want {
		t.Errorf("%d logins, and the request came with %q, want %q", len(g.logins), g.proofs[0], want)
	}
}

func TestALoginThatFailsSaysWhy(t *testing.T) {
	for _, row := range []struct{ name, password, answer, want, hint string }{
		{"a wrong password", "wrong", "", "permission check failed. (status 401)", "check the user, its realm"},
		{"a second factor", "p", `{"data":{"username":"elsa@pbs","ticket":"PBS:!tfa!%7B%7D:6553F100::c2ln","CSRFPreventionToken":"invalid"}}`, "second factor", "API token"},
		{"no ticket", "p", `{"data":{}}`, "no usable ticket", ""},
		{"a ticket that would forge a header", "p", `{"data":{"ticket":"a\r\nX: y","CSRFPreventionToken":"t"}}`, "no usable ticket", ""},
		{"another kind of server", "p", `<html>hello</html>`, "something else", "Proxmox Backup Server"},
		{"no data", "p", `{"date":1}`, "it has no data", "Proxmox Backup Server"},
	} {
		t.Run(row.name, func(t *testing.T) {
			g := &gate{answer: row.answer}
			gated(t, g, func(cfg *client.Config) { cfg.Password = row.password }, func(ctx context.Context, t *testing.T, c *client.Client) {
				_, err := c.Version(ctx)
				if err == nil || !strings.Contains(err.Error(), row.want) || !strings.Contains(hint(err), row.hint) {
					t.Errorf("got %v with the hint %q", err, hint(err))
				}
			})
		})
	}
}

// hint returns what an error says about its cure.
func hint(err error) string {
	var h interface{ Hint() string }
	if errors.As(err, &h) {
		return h.Hint()
	}
	return ""
}

func TestServersAreKnownByTheirCertificate(t *testing.T) {
	srv := httptest.NewUnstartedServer(&gate{})
	srv.Config.ErrorLog = log.New(io.Discard, "", 0) // clients turn away
	srv.StartTLS()
	defer srv.Close()
	addr, right := srv.Listener.Addr().String(), certificateOf(srv)
	wrong := strings.Repeat("ab:", 31) + "ab"
	roots := x509.NewCertPool()
	roots.AddCert(srv.Certificate())
	for _, row := range []struct {
		name, pinned string
		roots        *x509.CertPool
		want         []string // of the error; none if there is none
	}{
		{"the pinned one", right, nil, nil},
		{"the pinned one in capitals", strings.ToUpper(right), nil, nil},
		{"one that authorities vouch for", "", roots, nil},
		{"authorities count more than the pin", wrong, roots, nil},
		{"another one", wrong, nil, []string{"wrong certificate", right, wrong}},
		{"one that nobody vouches for", "", nil, []string{"not known here", right}},
	} {
		t.Run(row.name, func(t *testing.T) {
			cfg := config(t, addr, row.pinned)
			cfg.Roots = row.roots
			c := connect(t, cfg)
			_, err := c.Version(t.Context())
			_, upgrading := c.Begin(t.Context(), "", first, nil)
			if row.want == nil {
				if err != nil || errors.As(upgrading, new(*client.CertificateError)) {
					t.Errorf("got %v and %v", err, upgrading)
				}
				return
			}
			for _, err := range []error{err, upgrading} {
				var unknown *client.CertificateError
				if !errors.As(err, &unknown) || unknown.Got != right || unknown.Hint() == "" {
					t.Fatalf("got %v", err)
				}
				for _, want := range row.want {
					if !strings.Contains(err.Error(), want) {
						t.Errorf("%v does not say %s", err, want)
					}
				}
			}
		})
	}
}

func TestUpgradesThatFailSayWhy(t *testing.T) {
	for _, row := range []struct{ name, answer, want string }{
		{"a refusal", "HTTP/1.1 400 Bad Request\r\nContent-Length: 3\r\n\r\nno!", "no! (status 400)"},
		{"a success that is none", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "status 200 instead of 101"},
		{"no HTTP", "SSH-2.0-OpenSSH_9.2\r\n", "malformed HTTP"},
		{"nothing", "", "EOF"},
		{"a head without end", "HTTP/1.1 101 x\r\n" + strings.Repeat("A: b\r\n", 1<<18), "the head of the answer is too long"},
		{"then no HTTP/2", "HTTP/1.1 101 x\r\n\r\nhello", "connection to far.example:8007 was lost"},
	} {
		t.Run(row.name, func(t *testing.T) {
			farCertificate()
			synctest.Test(t, func(t *testing.T) {
				s := newFarServer(t)
				defer s.close()
				s.http.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					conn, _, err := http.NewResponseController(w).Hijack()
					if err != nil {
						t.Error(err)
						return
					}
					io.WriteString(conn, row.answer)
					conn.Close()
				})
				_, err := s.client(t).Begin(t.Context(), "", first, nil)
				if err == nil || !strings.Contains(err.Error(), row.want) {
					t.Errorf("got %v, want %q", err, row.want)
				}
			})
		})
	}
}

func TestAServerThatDoesNotAnswerIsGivenUp(t *testing.T) {
	farCertificate()
	synctest.Test(t, func(t *testing.T) {
		s := newFarServer(t)
		defer s.close()
		release := make(chan struct{})
		defer close(release)
		s.http.Handler = http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release })
		c := s.client(t)
		start := time.Now()
		_, err := c.Version(t.Context())
		if took := time.Since(start); !errors.As(err, new(*client.LostError)) || took > 3*time.Minute {
			t.Errorf("after %v: %v", took, err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := c.Version(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
	})
}

func TestAServerThatIsNotThereIsTold(t *testing.T) {
	srv := httptest.NewTLSServer(&gate{})
	c := connect(t, config(t, srv.Listener.Addr().String(), certificateOf(srv)))
	srv.Close()
	_, err := c.Version(t.Context())
	_, upgrading := c.OpenSnapshot(t.Context(), "", first)
	for _, err := range []error{err, upgrading} {
		if err == nil || !strings.Contains(err.Error(), "connect to 127.0.0.1:") || !strings.Contains(hint(err), "firewall") {
			t.Errorf("got %v with the hint %q", err, hint(err))
		}
	}
}
