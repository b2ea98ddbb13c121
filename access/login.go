package access

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/holdfast-mesh/holdfast/access/factor"
	"github.com/holdfast-mesh/holdfast/access/limit"
	"github.com/holdfast-mesh/holdfast/access/ticket"
)

// A Ticket is the answer to a login.
type Ticket struct {
	User AuthID
	Text string // PBS:USER:TIME::SIGNATURE, the value of the cookie

	// CSRF is what requests other than GET carry beside the cookie.
	CSRF string

	// Challenge says that this is no ticket yet: the password was right, a
	// second factor is missing, and Text goes into the next login.
	Challenge bool
}

// A Login is what somebody says to get a ticket.
type Login struct {
	User string // NAME@REALM

	// Password is the password; or a ticket of the same user that is still
	// good, to have it renewed; or, with Challenge, the answer to that:
	// "totp:CODE" or "recovery:KEY".
	Password string

	// Challenge is the Text of a [Ticket] that was a challenge, or "".
	Challenge string

	// OTP is the code or a recovery key if it comes with the password, or "".
	OTP string

	// Source is the address that the login comes from, with a port or
	// without, as in http.Request.RemoteAddr.
	Source string
}

// Login returns a ticket. If the user has a second factor that was not given,
// the ticket is a challenge. What does not lead to a ticket is refused with
// [ErrUnauthenticated] after [RefusalDelay], in the same words whatever was
// wrong; [ErrBusy] says that too many others log in.
func (s *Service) Login(ctx context.Context, l Login) (Ticket, error) {
	start := time.Now()
	t, err := s.login(ctx, l, start)
	if errors.Is(err, ErrUnauthenticated) {
		Hold(ctx, start, RefusalDelay)
	}
	return t, err
}

// LoginLocal returns a ticket for root@pam. The caller has made sure that it
// is the operator of this machine who asks, by the rights on a socket.
func (s *Service) LoginLocal() Ticket { return s.newTicket(Root, time.Now()) }

// ConfirmPassword tells whether password is that of the user id, as before a
// change that a stolen ticket must not be enough for. It refuses as Login
// does, and counts as a login.
func (s *Service) ConfirmPassword(ctx context.Context, id AuthID, password, source string) error {
	start := time.Now()
	who := limit.Login{Source: limit.Source(source), User: string(id)}
	err := s.limited(ctx, who, start, func() error { return s.checkPassword(ctx, id, password) })
	if errors.Is(err, ErrUnauthenticated) {
		Hold(ctx, start, RefusalDelay)
	}
	return err
}

func (s *Service) login(ctx context.Context, l Login, now time.Time) (Ticket, error) {
	id, err := ParseAuthID(l.User)
	if err != nil {
		return Ticket{}, loginFailed(l.User, "%v", err)
	}
	if id.IsToken() {
		return Ticket{}, loginFailed(l.User, "a token does not log in, its secret goes into the Authorization header")
	}
	who := limit.Login{Source: limit.Source(l.Source), User: string(id)}
	if c, err := ticket.Parse(l.Password); err == nil && !c.Challenge && l.Challenge == "" {
		return s.renew(id, c, who, now)
	}
	var challenged bool
	err = s.limited(ctx, who, now, func() error {
		if l.Challenge != "" {
			return s.answer(ctx, id, l.Challenge, l.Password, now)
		}
		if err := s.checkPassword(ctx, id, l.Password); err != nil {
			return err
		}
		_, needed := s.store.State().SecondFactors[id]
		if needed && l.OTP != "" {
			return s.secondFactor(ctx, id, l.OTP, now)
		}
		challenged = needed
		return nil
	})
	switch {
	case err != nil:
		return Ticket{}, err
	case challenged:
		return s.newChallenge(id, now), nil
	}
	s.limits.Remember(who, now)
	return s.newTicket(id, now), nil
}

// limited runs attempt unless too many of its kind have failed. While others
// of its kind are being decided it waits for them, at most until a refusal
// would be told.
func (s *Service) limited(ctx context.Context, who limit.Login, now time.Time, attempt func() error) error {
	const pause = 20 * time.Millisecond
	for !s.limits.Take(who, now) {
		if time.Since(now) > RefusalDelay || ctx.Err() != nil || !s.limits.MayWait(who, now) {
			return loginFailed(who.User, "too many failed logins, the last from %s", quote(who.Source))
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
	err := attempt()
	if errors.Is(err, ErrUnauthenticated) {
		s.limits.Failed(who)
	} else {
		s.limits.GiveBack(who, now)
	}
	return err
}

// renew takes a ticket in place of a password.
func (s *Service) renew(id AuthID, c ticket.Claim, who limit.Login, now time.Time) (Ticket, error) {
	if err := s.checkClaim(c, id, now); err != nil {
		return Ticket{}, loginFailed(string(id), "%v", err)
	}
	s.limits.Remember(who, now)
	return s.newTicket(id, now), nil
}

// checkClaim tells whether c is a ticket or challenge of ours for id that is
// good at now. The error is text for the client.
func (s *Service) checkClaim(c ticket.Claim, id AuthID, now time.Time) error {
	if err := s.key.Check(c, string(id), now); err != nil {
		return err
	}
	v := s.current()
	if !v.active(id, now) {
		return errors.New("user account disabled or expired")
	}
	if p, found := v.state.Passwords[id]; id != Root && (!found || c.At < p.Since) {
		return errors.New("ticket is older than the password")
	}
	return nil
}

// checkPassword works as hard for a user who does not exist as for one who
// does, so that the moment when there are too many logins does not tell which
// it was; everything else is told after the same time anyway.
func (s *Service) checkPassword(ctx context.Context, id AuthID, password string) error {
	switch {
	case id.Realm() == realmPAM:
		return loginFailed(string(id), "the realm pam logs in on the machine itself only")
	case len(password) > maxPassword:
		return loginFailed(string(id), "the password has more than %d bytes", maxPassword)
	}
	v := s.current()
	p, found := v.state.Passwords[id]
	if !found {
		p.Hash = decoyHash
	}
	var matches bool
	if err := s.hashing(ctx, func() { matches = p.matches(password) }); err != nil {
		return err
	}
	switch {
	case !v.active(id, time.Now()):
		return loginFailed(string(id), "the user does not exist, is disabled or has expired")
	case !found:
		return loginFailed(string(id), "the user has no password")
	case !matches:
		return loginFailed(string(id), "wrong password")
	}
	return nil
}

// answer checks what was said to a challenge.
func (s *Service) answer(ctx context.Context, id AuthID, challenge, answer string, now time.Time) error {
	c, err := ticket.Parse(challenge)
	if err == nil && !c.Challenge {
		err = errors.New("it is none")
	}
	if err == nil {
		err = s.checkClaim(c, id, now)
	}
	if err != nil {
		return loginFailed(string(id), "challenge: %v", err)
	}
	kind, value, _ := strings.Cut(answer, ":")
	if kind != "totp" && kind != "recovery" {
		return loginFailed(string(id), "the answer to the challenge is neither a one-time code nor a recovery key")
	}
	return s.secondFactor(ctx, id, value, now)
}

// secondFactor checks a one-time code or a recovery key, which differ in their
// length. What it finds is stored before it is told, so that a code works once
// and wrong ones are counted, however many come at once.
func (s *Service) secondFactor(ctx context.Context, id AuthID, value string, now time.Time) error {
	var wrong error
	err := s.store.Update(ctx, func(state *State) error {
		f, found := state.SecondFactors[id]
		if !found {
			wrong = errors.New("the user has no second factor any more")
			return nil
		}
		if len(value) == factor.CodeDigits {
			wrong = f.TryCode(value, now)
		} else {
			wrong = f.TryRecovery(string(id), value)
		}
		state.SecondFactors[id] = f
		return nil
	})
	if err == nil && wrong != nil {
		err = loginFailed(string(id), "%v", wrong)
	}
	return err
}

func (s *Service) newTicket(id AuthID, now time.Time) Ticket {
	return Ticket{
		User: id,
		Text: s.key.Sign(ticket.Claim{Data: string(id)}, string(id), now),
		CSRF: s.key.CSRF(string(id), now),
	}
}

// newChallenge returns what a real server answers in that case; "invalid" is
// there because clients want the field to be a string.
func (s *Service) newChallenge(id AuthID, now time.Time) Ticket {
	c := ticket.Claim{Data: s.store.State().SecondFactors[id].Challenge(), Challenge: true}
	return Ticket{User: id, Text: s.key.Sign(c, string(id), now), CSRF: "invalid", Challenge: true}
}
