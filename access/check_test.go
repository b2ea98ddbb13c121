package access

import (
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

const refused = "authentication failed - "

func TestCheckCookie(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := newService(t)
		addUsers(t, s, "admin@pbs", "disabled@pbs", "jörg!%41@pbs")
		own := s.newTicket("admin@pbs", time.Now())
		odd := s.newTicket("jörg!%41@pbs", time.Now())
		off := s.newTicket("disabled@pbs", time.Now())
		no := false
		if err := s.ChangeUser(t.Context(), "disabled@pbs", UserChange{Enable: &no}); err != nil {
			t.Fatal(err)
		}
		cookie := "PBSAuthCookie=" + own.Text
		token := "PBSAPIToken admin@pbs!tok:" + addToken(t, s, "admin@pbs!tok")
		tests := []struct {
			name string
			c    Credentials
			text string // of the refusal; "": good
		}{
			{"a GET needs no CSRF token", Credentials{"GET", cookie, "", ""}, ""},
			{"everything else does", Credentials{"PUT", cookie, own.CSRF, ""}, ""},
			{"also HEAD", Credentials{"HEAD", cookie, "", ""}, "missing CSRF prevention token"},
			{"no CSRF token", Credentials{"PUT", cookie, "", ""}, "missing CSRF prevention token"},
			{"a bad CSRF token", Credentials{"PUT", cookie, "6B00FD14:bad", ""}, "invalid csrf token - could not decode its signature"},
			{"a CSRF token of another", Credentials{"DELETE", cookie, off.CSRF, ""}, "invalid csrf token - wrong signature"},
			{"percent-encoded, as by Perl", Credentials{"GET", "PBSAuthCookie=" + url.QueryEscape(own.Text), "", ""}, ""},
			{"with a name that is encoded in the ticket", Credentials{"GET", "PBSAuthCookie=" + odd.Text, "", ""}, ""},
			{"and that encoded again", Credentials{"GET", "PBSAuthCookie=" + url.QueryEscape(odd.Text), "", ""}, ""},
			{"among others", Credentials{"GET", "a=b; " + cookie + "; PBSAuthCookieX=c", "", ""}, ""},
			{"of browsers", Credentials{"GET", "__Host-PBSAuthCookie=" + own.Text, "", ""}, ""},
			{"of browsers, which is preferred", Credentials{"GET", "PBSAuthCookie=x; __Host-PBSAuthCookie=" + own.Text, "", ""}, ""},
			{"a cookie wins over a token", Credentials{"GET", "PBSAuthCookie=x", "", token}, "not a ticket"},
			{"another cookie does not", Credentials{"GET", "theme=dark", "", token}, ""},
			{"a bad signature", Credentials{"GET", "PBSAuthCookie=PBS:admin@pbs:6B00FD14::bad", "", ""}, "ticket with bad signature: illegal base64 data at input byte 2"},
			{"a changed ticket", Credentials{"GET", "PBSAuthCookie=" + strings.Replace(own.Text, "admin", "xdmin", 1), "", ""}, "ticket with invalid signature"},
			{"a disabled user", Credentials{"GET", "PBSAuthCookie=" + off.Text, "", ""}, "user account disabled or expired"},
			{"an unknown user", Credentials{"GET", "PBSAuthCookie=" + s.newTicket("ghost@pbs", time.Now()).Text, "", ""}, "user account disabled or expired"},
			{"a token's name in a ticket", Credentials{"GET", "PBSAuthCookie=" + s.newTicket("admin@pbs!tok", time.Now()).Text, "", ""}, "not the ticket of a user"},
			{"nothing", Credentials{"GET", "", "", ""}, "no authentication credentials provided."},
			{"an empty cookie", Credentials{"GET", "PBSAuthCookie=", "", ""}, "not a ticket"},
			{"a long header", Credentials{"GET", cookie + strings.Repeat("x", maxHeader), "", ""}, "header too long"},
		}
		for _, tt := range tests {
			start := time.Now()
			id, err := s.Check(t.Context(), tt.c)
			took := time.Since(start)
			if tt.text == "" {
				if err != nil || id.User() != "admin@pbs" && id != "jörg!%41@pbs" || took != 0 {
					t.Errorf("%s: %q, %v after %s", tt.name, id, err, took)
				}
				continue
			}
			wantRefusal(t, tt.name, err, ErrUnauthenticated, refused+tt.text)
			if id != "" || took != RefusalDelay {
				t.Errorf("%s: %q after %s", tt.name, id, took)
			}
		}
		time.Sleep(2*time.Hour + time.Minute)
		_, err := s.Check(t.Context(), Credentials{Method: "GET", Cookie: cookie})
		wantRefusal(t, "after two hours", err, ErrUnauthenticated, refused+"invalid ticket - expired")
	})
}

// The texts of 07 to 10 and 102 of the recordings of a real server.
func TestCheckToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := newService(t)
		addUsers(t, s, "admin@pbs", "expired@pbs")
		secret := addToken(t, s, "admin@pbs!tok")
		other := addToken(t, s, "admin@pbs!other")
		off := addToken(t, s, "admin@pbs!off")
		gone := addToken(t, s, "expired@pbs!tok")
		no, past := false, time.Now().Unix()
		if err := s.ChangeToken(t.Context(), "admin@pbs!off", TokenChange{Enable: &no}); err != nil {
			t.Fatal(err)
		}
		if err := s.ChangeUser(t.Context(), "expired@pbs", UserChange{Expire: &past}); err != nil {
			t.Fatal(err)
		}
		const inactive, wrong, invalid = "user account or token disabled or expired.", "invalid credentials", "invalid token name"
		tests := []struct{ name, header, text string }{
			{"the official client", "PBSAPIToken admin@pbs!tok:" + secret, ""},
			{"Perl", "PBSAPIToken=admin@pbs!tok:" + secret, ""},
			{"an encoded name", "PBSAPIToken admin%40pbs%21tok:" + secret, ""},
			{"an encoded secret", "PBSAPIToken admin@pbs!tok:" + encodeAll(secret), ""},
			{"a wrong secret", "PBSAPIToken admin@pbs!tok:wrong", wrong},
			{"no secret", "PBSAPIToken admin@pbs!tok:", wrong},
			{"the secret of another token", "PBSAPIToken admin@pbs!tok:" + other, wrong},
			{"the sum that is stored", "PBSAPIToken admin@pbs!tok:" + s.State().TokenSums["admin@pbs!tok"], wrong},
			{"an unknown token", "PBSAPIToken admin@pbs!none:" + secret, inactive},
			{"a disabled token", "PBSAPIToken admin@pbs!off:" + off, inactive},
			{"a token of an expired user", "PBSAPIToken expired@pbs!tok:" + gone, inactive},
			{"as PVE writes its own", "PBSAPIToken=admin@pbs!tok=" + secret, invalid},
			{"a user and his password", "PBSAPIToken admin@pbs:" + goodPassword, invalid},
			{"no token at all", "PBSAPIToken ", invalid},
			{"another scheme", "Bearer " + secret, "no authentication credentials provided."},
			{"a longer scheme", "PBSAPITokens admin@pbs!tok:" + secret, "no authentication credentials provided."},
			{"a long header", "PBSAPIToken " + strings.Repeat("x", maxHeader), "header too long"},
		}
		for _, tt := range tests {
			start := time.Now()
			id, err := s.Check(t.Context(), Credentials{Method: "POST", Authorization: tt.header})
			took := time.Since(start)
			if tt.text == "" {
				if err != nil || id != "admin@pbs!tok" || took != 0 {
					t.Errorf("%s: %q, %v after %s", tt.name, id, err, took)
				}
				continue
			}
			wantRefusal(t, tt.name, err, ErrUnauthenticated, refused+tt.text)
			if id != "" || took != RefusalDelay {
				t.Errorf("%s: %q after %s", tt.name, id, took)
			}
		}
	})
}

func encodeAll(s string) string {
	var b strings.Builder
	for _, c := range []byte(s) {
		b.WriteString("%" + string("0123456789abcdef"[c>>4]) + string("0123456789ABCDEF"[c&15]))
	}
	return b.String()
}

func TestExpiry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := newService(t)
		addUsers(t, s, "a@pbs")
		secret := addToken(t, s, "a@pbs!tok")
		check := func() bool {
			_, err := s.Check(t.Context(), Credentials{Method: "GET", Authorization: "PBSAPIToken a@pbs!tok:" + secret})
			return err == nil
		}
		expire := time.Now().Add(time.Hour).Unix()
		if err := s.ChangeToken(t.Context(), "a@pbs!tok", TokenChange{Expire: &expire}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour - time.Second)
		if !check() || !s.Active("a@pbs!tok") {
			t.Error("it expired a second too early")
		}
		time.Sleep(time.Second)
		if check() || s.Active("a@pbs!tok") || !s.Active("a@pbs") {
			t.Error("it did not expire, or its user did")
		}
		expire = 0
		if err := s.ChangeToken(t.Context(), "a@pbs!tok", TokenChange{Expire: &expire}); err != nil || !check() {
			t.Errorf("0 is not never: %v", err)
		}
	})
}

func FuzzCheckRefusesWhatIsNotGood(f *testing.F) {
	f.Add("PBSAuthCookie=PBS:a@pbs:6B00FD14::bad", "PBSAPIToken=a@pbs!tok:x")
	f.Add("__Host-PBSAuthCookie=%", "PBSAPIToken")
	f.Add(";=;PBSAuthCookie", "PBSAPIToken %zz:%4")
	f.Fuzz(func(t *testing.T, cookie, authorization string) {
		s := &Service{store: fixedStore{newState()}, key: fuzzKey}
		c := Credentials{Method: "GET", Cookie: cookie, Authorization: authorization}
		if id, err := s.check(c, time.Unix(1e9, 0)); err == nil {
			t.Errorf("%+v is of %s", c, id)
		}
	})
}
