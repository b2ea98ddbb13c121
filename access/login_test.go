package access

import (
	"context"
	"crypto/hmac"
	"crypto/sha1"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-mesh/holdfast/access/factor"
	"github.com/holdfast-mesh/holdfast/access/limit"
	"github.com/holdfast-mesh/holdfast/access/ticket"
)

// loginText is what every refused login reads, byte for byte as a real server
// sends it.
const loginText = "permission check failed."

func TestLogin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := newService(t)
		addUsers(t, s, "admin@pbs")
		start := time.Now()
		l := Login{User: "admin@pbs", Password: goodPassword, Source: "192.0.2.1:4711"}
		got, err := s.Login(t.Context(), l)
		if err != nil || got.User != "admin@pbs" || got.Challenge || time.Since(start) != 0 {
			t.Fatalf("%+v, %v after %s", got, err, time.Since(start))
		}
		id, err := s.Check(t.Context(), Credentials{Method: "PUT", Cookie: "PBSAuthCookie=" + got.Text, CSRF: got.CSRF})
		if err != nil || id != "admin@pbs" {
			t.Errorf("the ticket is of %q, %v", id, err)
		}
		l.OTP = "123456"
		if _, err := s.Login(t.Context(), l); err != nil {
			t.Errorf("with a code that nobody asks for: %v", err)
		}
	})
}

// All refusals are the same to the client: text, status and moment.
func TestLoginRefusals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := newService(t)
		addUsers(t, s, "admin@pbs", "other@pbs", "disabled@pbs", "expired@pbs", "changed@pbs")
		addToken(t, s, "admin@pbs!tok")
		if err := s.AddUser(t.Context(), User{ID: "bare@pbs"}, ""); err != nil {
			t.Fatal(err)
		}
		tickets := map[AuthID]string{}
		for _, id := range []AuthID{"admin@pbs", "other@pbs", "disabled@pbs", "changed@pbs"} {
			tickets[id] = s.newTicket(id, time.Now()).Text
		}
		old := s.newTicket("admin@pbs", time.Now().Add(-ticket.Lifetime-time.Second)).Text
		time.Sleep(time.Minute)
		no, past := false, time.Now().Unix()
		for _, err := range []error{
			s.ChangeUser(t.Context(), "disabled@pbs", UserChange{Enable: &no}),
			s.ChangeUser(t.Context(), "expired@pbs", UserChange{Expire: &past}),
			s.SetPassword(t.Context(), "changed@pbs", "another password"),
		} {
			if err != nil {
				t.Fatal(err)
			}
		}
		tests := []struct{ name, user, password, reason string }{
			{"a wrong password", "admin@pbs", "wrong", "wrong password"},
			{"no password", "admin@pbs", "", "wrong password"},
			{"a password with something behind it", "admin@pbs", goodPassword + " ", "wrong password"},
			{"a password of a megabyte", "admin@pbs", strings.Repeat("x", 1<<20), "more than"},
			{"an unknown user", "ghost@pbs", goodPassword, "does not exist"},
			{"a disabled user", "disabled@pbs", goodPassword, "disabled"},
			{"an expired user", "expired@pbs", goodPassword, "expired"},
			{"a user without a password", "bare@pbs", "", "has no password"},
			{"an unknown realm", "admin@nowhere", goodPassword, "does not exist"},
			{"root@pam from afar", "root@pam", goodPassword, "the machine itself"},
			{"a token", "admin@pbs!tok", goodPassword, "token does not log in"},
			{"no user", "", goodPassword, "no realm"},
			{"a ticket of another user", "admin@pbs", tickets["other@pbs"], "another user"},
			{"an old ticket", "admin@pbs", old, "expired"},
			{"a ticket of a disabled user", "disabled@pbs", tickets["disabled@pbs"], "disabled"},
			{"a ticket from before the password", "changed@pbs", tickets["changed@pbs"], "older than the password"},
			{"a ticket of another server", "admin@pbs", ticket.NewKey().Sign(ticket.Claim{Data: "admin@pbs"}, "admin@pbs", time.Now()), "signature"},
		}
		for i, tt := range tests {
			start := time.Now()
			got, err := s.Login(t.Context(), Login{User: tt.user, Password: tt.password, Source: fmt.Sprint("192.0.2.", i)})
			wantRefusal(t, tt.name, err, ErrUnauthenticated, loginText)
			if d := time.Since(start); d != RefusalDelay || got != (Ticket{}) {
				t.Errorf("%s: %+v after %s", tt.name, got, d)
			}
			if err != nil && !strings.Contains(err.Error(), tt.reason) {
				t.Errorf("%s: the log reads %q", tt.name, err)
			}
		}
	})
}

func TestRenewal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := newService(t)
		addUsers(t, s, "admin@pbs")
		got, err := s.Login(t.Context(), Login{User: "admin@pbs", Password: goodPassword})
		for range 20 { // every 15 minutes, as clients do
			if err != nil {
				t.Fatal(err)
			}
			time.Sleep(15 * time.Minute)
			last := got
			got, err = s.Login(t.Context(), Login{User: "admin@pbs", Password: last.Text})
			if got.Text == last.Text {
				t.Fatal("the ticket was not renewed")
			}
		}
		root := s.LoginLocal()
		if root.User != Root || root.Challenge {
			t.Errorf("%+v", root)
		}
		if again, err := s.Login(t.Context(), Login{User: "root@pam", Password: root.Text}); err != nil || again.User != Root {
			t.Errorf("%+v, %v", again, err)
		}
	})
}

func TestRefusalDoesNotOutliveItsRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := newService(t)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start := time.Now()
		_, err := s.Login(ctx, Login{User: "ghost@pbs"})
		wantRefusal(t, "login", err, ErrUnauthenticated, loginText)
		_, err = s.Check(ctx, Credentials{})
		wantRefusal(t, "check", err, ErrUnauthenticated, "authentication failed - no authentication credentials provided.")
		if d := time.Since(start); d != time.Second {
			t.Errorf("it took %s", d)
		}
	})
}

func TestGuessesAreNotLookedAt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := newService(t)
		addUsers(t, s, "admin@pbs")
		login := func(source, password string) error {
			_, err := s.Login(t.Context(), Login{User: "admin@pbs", Password: password, Source: source})
			return err
		}
		var wg sync.WaitGroup // at once, so that waiting helps nobody
		for range 10 {
			wg.Go(func() {
				if err := login("192.0.2.1:1", "guess"); err == nil || !strings.Contains(err.Error(), "wrong password") {
					t.Errorf("%v", err)
				}
			})
		}
		wg.Wait()
		err := login("192.0.2.1:2", goodPassword)
		wantRefusal(t, "the right one after ten guesses", err, ErrUnauthenticated, loginText)
		if err == nil || !strings.Contains(err.Error(), "too many failed logins") {
			t.Errorf("%v", err)
		}
		if err := login("192.0.2.2:1", goodPassword); err != nil {
			t.Errorf("from another address: %v", err)
		}
		time.Sleep(30 * time.Second)
		if err := login("192.0.2.1:3", goodPassword); err != nil {
			t.Errorf("half a minute later: %v", err)
		}
	})
}

func TestConfirmPassword(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := newService(t)
		addUsers(t, s, "admin@pbs")
		if err := s.ConfirmPassword(t.Context(), "admin@pbs", goodPassword, "192.0.2.1"); err != nil {
			t.Error(err)
		}
		start := time.Now()
		own := s.newTicket("admin@pbs", time.Now()).Text
		wantRefusal(t, "a ticket", s.ConfirmPassword(t.Context(), "admin@pbs", own, ""), ErrUnauthenticated, loginText)
		if d := time.Since(start); d != RefusalDelay {
			t.Errorf("after %s", d)
		}
	})
}

func TestLoginsWaitInAShortQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := newService(t)
		addUsers(t, s, "admin@pbs")
		release, full := make(chan struct{}), limit.NewQueue(1, 0)
		s.hashes = full
		var wg sync.WaitGroup
		wg.Go(func() { _ = full.Do(t.Context(), func() { <-release }) })
		synctest.Wait()
		_, err := s.Login(t.Context(), Login{User: "admin@pbs", Password: goodPassword, Source: "192.0.2.1"})
		wantRefusal(t, "busy", err, ErrBusy, "too many logins at once")
		close(release)
		wg.Wait()
		for i := range 50 { // being busy is not a failed login
			if !s.limits.Take(limit.Login{Source: "192.0.2.1", User: fmt.Sprint(i)}, time.Now()) {
				t.Fatal("it was counted")
			}
		}
	})
}

// code is RFC 6238 once more, written by hand for the test.
func code(t *testing.T, secret string, at time.Time) string {
	t.Helper()
	key, err := factor.ParseSecret(secret)
	if err != nil {
		t.Fatal(err)
	}
	mac := hmac.New(sha1.New, key)
	var step [8]byte
	binary.BigEndian.PutUint64(step[:], uint64(at.Unix()/30))
	mac.Write(step[:])
	sum := mac.Sum(nil)
	at4 := sum[sum[19]&0xf:]
	n := (int(at4[0])&0x7f)<<24 | int(at4[1])<<16 | int(at4[2])<<8 | int(at4[3])
	return fmt.Sprintf("%06d", n%1000000)
}

// withTOTP returns a service with admin@pbs, who has a second factor whose
// codes so far are used, its secret and recovery keys.
func withTOTP(t *testing.T) (s *Service, secret string, recovery []string) {
	t.Helper()
	s, _ = newService(t)
	addUsers(t, s, "admin@pbs")
	secret = factor.NewSecret()
	recovery, err := s.SetTOTP(t.Context(), "admin@pbs", secret, code(t, secret, time.Now()))
	if err != nil || len(recovery) != 10 {
		t.Fatalf("%v, %v", recovery, err)
	}
	time.Sleep(time.Minute)
	return s, secret, recovery
}

func TestSecondFactor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, secret, recovery := withTOTP(t)
		password := Login{User: "admin@pbs", Password: goodPassword}
		first, err := s.Login(t.Context(), password)
		if err != nil || !first.Challenge || first.CSRF != "invalid" || !strings.HasPrefix(first.Text, "PBS:!tfa!%7B") {
			t.Fatalf("%+v, %v", first, err)
		}
		_, err = s.Check(t.Context(), Credentials{Method: "GET", Cookie: "PBSAuthCookie=" + first.Text})
		wantRefusal(t, "a challenge as a ticket", err, ErrUnauthenticated, "authentication failed - not the ticket of a user")
		_, err = s.Login(t.Context(), Login{User: "admin@pbs", Password: first.Text})
		wantRefusal(t, "a challenge as a password", err, ErrUnauthenticated, loginText)

		answer := Login{User: "admin@pbs", Challenge: first.Text, Password: "totp:" + code(t, secret, time.Now())}
		if got, err := s.Login(t.Context(), answer); err != nil || got.Challenge {
			t.Fatalf("%+v, %v", got, err)
		}
		_, err = s.Login(t.Context(), answer)
		wantRefusal(t, "the code again", err, ErrUnauthenticated, loginText)
		time.Sleep(time.Minute)
		password.OTP = code(t, secret, time.Now())
		if got, err := s.Login(t.Context(), password); err != nil || got.Challenge {
			t.Errorf("with the password: %+v, %v", got, err)
		}
		answer.Password = "recovery:" + recovery[0]
		if got, err := s.Login(t.Context(), answer); err != nil || got.Challenge {
			t.Errorf("recovery key: %+v, %v", got, err)
		}
		_, err = s.Login(t.Context(), answer)
		wantRefusal(t, "the recovery key again", err, ErrUnauthenticated, loginText)
	})
}

func TestSecondFactorRefusals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, secret, _ := withTOTP(t)
		addUsers(t, s, "other@pbs")
		challenge := func(user string) string {
			c := ticket.Claim{Data: "{}", Challenge: true}
			return s.key.Sign(c, user, time.Now())
		}
		late := challenge("admin@pbs")
		time.Sleep(6 * time.Minute)
		right := func() string { return "totp:" + code(t, secret, time.Now()) }
		tests := []struct{ name, user, challenge, answer, reason string }{
			{"a wrong code", "admin@pbs", challenge("admin@pbs"), "totp:x00000", "wrong one-time code"},
			{"an answer of no kind", "admin@pbs", challenge("admin@pbs"), right()[5:], "neither"},
			{"the password", "admin@pbs", challenge("admin@pbs"), goodPassword, "neither"},
			{"a challenge of another user", "admin@pbs", challenge("other@pbs"), right(), "signature"},
			{"a late answer", "admin@pbs", late, right(), "expired"},
			{"a ticket for a challenge", "admin@pbs", s.newTicket("admin@pbs", time.Now()).Text, right(), "it is none"},
			{"no challenge", "admin@pbs", "x", right(), "not a ticket"},
			{"a user without a second factor", "other@pbs", challenge("other@pbs"), right(), "no second factor"},
		}
		for i, tt := range tests {
			start := time.Now()
			_, err := s.Login(t.Context(), Login{User: tt.user, Challenge: tt.challenge, Password: tt.answer, Source: fmt.Sprint("192.0.2.", i)})
			wantRefusal(t, tt.name, err, ErrUnauthenticated, loginText)
			if err != nil && !strings.Contains(err.Error(), tt.reason) || time.Since(start) != RefusalDelay {
				t.Errorf("%s: the log reads %q", tt.name, err)
			}
		}
	})
}

func TestCodesLockAndUnlock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, secret, recovery := withTOTP(t)
		login := func(otp string) error {
			time.Sleep(time.Minute) // slowly, so that it is not the limiter that refuses
			if otp == "" {
				otp = code(t, secret, time.Now())
			}
			_, err := s.Login(t.Context(), Login{User: "admin@pbs", Password: goodPassword, OTP: otp})
			return err
		}
		lock := func() {
			for range 8 {
				if err := login("x00000"); err == nil || !strings.Contains(err.Error(), "wrong one-time code") {
					t.Fatalf("%v", err)
				}
			}
			if err := login(""); err == nil || !strings.Contains(err.Error(), "locked") {
				t.Fatalf("the right code of a locked user: %v", err)
			}
		}
		lock()
		if err := login(recovery[0]); err != nil {
			t.Fatalf("recovery key: %v", err)
		}
		if err := login(""); err != nil {
			t.Fatalf("after the recovery key: %v", err)
		}
		lock()
		if err := s.UnlockTOTP(t.Context(), "admin@pbs"); err != nil {
			t.Fatal(err)
		}
		if err := login(""); err != nil {
			t.Fatalf("after unlocking: %v", err)
		}
		renewed, err := s.NewRecoveryKeys(t.Context(), "admin@pbs")
		if err != nil || login(recovery[1]) == nil || login(renewed[1]) != nil {
			t.Errorf("old recovery keys work, or new ones do not: %v", err)
		}
		if err := s.RemoveTOTP(t.Context(), "admin@pbs"); err != nil {
			t.Fatal(err)
		}
		if got, err := s.Login(t.Context(), Login{User: "admin@pbs", Password: goodPassword}); err != nil || got.Challenge {
			t.Errorf("%+v, %v", got, err)
		}
		for name, err := range map[string]error{
			"unlock": s.UnlockTOTP(t.Context(), "admin@pbs"), "remove": s.RemoveTOTP(t.Context(), "ghost@pbs"),
		} {
			if !errors.Is(err, ErrNotFound) {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
}

// A code that comes twice at the same moment lets one in.
func TestCodeIsGoodForOneLoginOfMany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, secret, _ := withTOTP(t)
		otp := code(t, secret, time.Now())
		var in atomic.Int64
		var wg sync.WaitGroup
		for i := range 6 {
			wg.Go(func() {
				l := Login{User: "admin@pbs", Password: goodPassword, OTP: otp, Source: fmt.Sprint("192.0.2.", i)}
				if _, err := s.Login(t.Context(), l); err == nil {
					in.Add(1)
				}
			})
		}
		wg.Wait()
		if in.Load() != 1 {
			t.Errorf("%d got in", in.Load())
		}
	})
}

func TestSetTOTPRefuses(t *testing.T) {
	s, _ := newService(t)
	addUsers(t, s, "admin@pbs")
	secret := factor.NewSecret()
	for _, tt := range []struct {
		name         string
		id           AuthID
		secret, code string
		kind         error
	}{
		{"a code that does not fit", "admin@pbs", secret, "x00000", ErrInvalid},
		{"a secret that is none", "admin@pbs", "1", "", ErrInvalid},
		{"root@pam, who has no password", Root, secret, code(t, secret, time.Now()), ErrInvalid},
		{"an unknown user", "ghost@pbs", secret, code(t, secret, time.Now()), ErrNotFound},
	} {
		if _, err := s.SetTOTP(t.Context(), tt.id, tt.secret, tt.code); !errors.Is(err, tt.kind) {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
	if n := len(s.State().SecondFactors); n != 0 {
		t.Errorf("%d second factors", n)
	}
}

func BenchmarkPassword(b *testing.B) {
	p := newPassword(goodPassword, time.Now())
	for b.Loop() {
		if !p.matches(goodPassword) {
			b.Fatal("it does not match")
		}
	}
}

// Machines that share an account log in at once after a power cut, more of them
// than may fail; all get in.
func TestManyGoodLoginsAtOnce(t *testing.T) {
	s, _ := newService(t)
	addUsers(t, s, "pve@pbs")
	errs := make(chan error)
	const machines = 16
	for range machines {
		go func() {
			_, err := s.Login(t.Context(), Login{User: "pve@pbs", Password: goodPassword, Source: "192.0.2.1:1"})
			errs <- err
		}()
	}
	for range machines {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
}
