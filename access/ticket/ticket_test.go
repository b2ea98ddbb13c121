package ticket

import (
	"encoding/json"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"
)

var at = time.Unix(0x65A1B2C3, 0)

// pveTicket is how PVE finds the age of a ticket (protocol notes §1.2), and
// pveChallenge how it knows that there is a second factor to ask for.
var (
	pveTicket    = regexp.MustCompile(`^\S+:([A-Z0-9]{8})::[^:\s]+$`)
	pveChallenge = regexp.MustCompile(`^[^\s:]+:!tfa!([^:]+):`)
)

func TestTicketsOfARealServerAreRead(t *testing.T) {
	text, err := os.ReadFile("testdata/real-server.json")
	if err != nil {
		t.Fatal(err)
	}
	var recorded []struct{ Username, Ticket, CSRF, Date string }
	if err := json.Unmarshal(text, &recorded); err != nil || len(recorded) == 0 {
		t.Fatalf("%d recordings, %v", len(recorded), err)
	}
	ours := NewKey()
	for _, r := range recorded {
		when, err := http.ParseTime(r.Date)
		if err != nil {
			t.Fatal(err)
		}
		c, err := Parse(r.Ticket)
		if err != nil || c.Data != r.Username || c.Challenge || len(c.signature) != 64 {
			t.Errorf("%s: %+v, %v", r.Ticket, c, err)
		}
		if off := when.Sub(time.Unix(c.At, 0)).Abs(); off > time.Second {
			t.Errorf("%s: time is off by %s", r.Ticket, off)
		}
		if c.String() != r.Ticket {
			t.Errorf("%s is written as %s", r.Ticket, c)
		}
		if err := ours.Check(c, r.Username, when); err == nil {
			t.Errorf("%s: the ticket of another server was taken", r.Ticket)
		}
		if err := ours.CheckCSRF(r.CSRF, r.Username, when); err == nil || !strings.Contains(err.Error(), "wrong signature") {
			t.Errorf("%s: the token of another server: %v", r.CSRF, err)
		}
		if got := ours.Sign(Claim{Data: r.Username}, r.Username, when); len(got) != len(r.Ticket) {
			t.Errorf("ours has another form than %s: %s", r.Ticket, got)
		}
	}
}

func TestTicketHasTheFormThatPVEKnows(t *testing.T) {
	k := NewKey()
	for _, user := range []string{
		"root@pam", "admin@pbs", "a!b@pbs", "!tfa!x@pbs", "a%3Ab@pbs", "jörg@pbs", "a;b,c\"d'@pbs", "a+b@c@pbs", strings.Repeat("x", 60) + "@pbs",
		strings.Repeat("\U0001F4BE", 60) + "@pbs",
	} {
		text := k.Sign(Claim{Data: user}, user, at)
		if m := pveTicket.FindStringSubmatch(text); m == nil || m[1] != "65A1B2C3" {
			t.Errorf("%s: PVE does not find the age", text)
		}
		if strings.ContainsAny(text, "!; ,\"") || strings.Count(text, ":") != 4 || pveChallenge.MatchString(text) {
			t.Errorf("%s: looks like something else", text)
		}
		c, err := Parse(text)
		if err != nil || c.Data != user || c.Challenge {
			t.Errorf("%s: read as %+v, %v", text, c, err)
		} else if err := k.Check(c, user, at); err != nil {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestChallengeIsForItsUserOnly(t *testing.T) {
	k := NewKey()
	text := k.Sign(Claim{Data: `{"totp":true,"recovery":[0,1]}`, Challenge: true}, "admin@pbs", at)
	if m := pveChallenge.FindStringSubmatch(text); m == nil || !strings.HasPrefix(m[1], "%7B%22totp%22") {
		t.Errorf("%s: PVE does not see a challenge", text)
	}
	c, err := Parse(text)
	if err != nil || !c.Challenge || c.Data != `{"totp":true,"recovery":[0,1]}` {
		t.Fatalf("%+v, %v", c, err)
	}
	if err := k.Check(c, "admin@pbs", at); err != nil {
		t.Error(err)
	}
	if err := k.Check(c, "other@pbs", at); err == nil {
		t.Error("another user answers the challenge")
	}
	// A challenge that is turned into a ticket by leaving the mark out.
	plain := strings.Replace(text, challengePrefix, "", 1)
	if c, err := Parse(plain); err == nil && k.Check(c, c.Data, at) == nil {
		t.Error("a challenge was made a ticket")
	}
}

func TestAge(t *testing.T) {
	k := NewKey()
	tests := []struct {
		name      string
		age       time.Duration
		good      bool // as a ticket and CSRF token
		challenge bool // as a challenge
	}{
		{"a new one is good", 0, true, true},
		{"after five minutes a challenge is at its end", 5 * time.Minute, true, true},
		{"then it has expired", 5*time.Minute + time.Second, true, false},
		{"after two hours a ticket is at its end", 2 * time.Hour, true, false},
		{"then it has expired too", 2*time.Hour + time.Second, false, false},
		{"a clock may be five minutes behind", -5 * time.Minute, true, true},
		{"but not more", -5*time.Minute - time.Second, false, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for _, challenge := range []bool{false, true} {
				c, err := Parse(k.Sign(Claim{Data: "a@pbs", Challenge: challenge}, "a@pbs", at))
				if err != nil {
					t.Fatal(err)
				}
				want := tt.good
				if challenge {
					want = tt.challenge
				}
				if err := k.Check(c, "a@pbs", at.Add(tt.age)); (err == nil) != want {
					t.Errorf("challenge %v: %v", challenge, err)
				}
			}
			if err := k.CheckCSRF(k.CSRF("a@pbs", at), "a@pbs", at.Add(tt.age)); (err == nil) != tt.good {
				t.Errorf("csrf token: %v", err)
			}
		})
	}
}

func TestParseRefuses(t *testing.T) {
	const sig = "AAAA"
	for _, s := range []string{
		"", "::", "PBS", "PBS:a@pbs:65A1B2C3", "PBS:a@pbs::" + sig, "PVE:a@pbs:65A1B2C3::" + sig, "PBS:a@pbs:65a1b2c3::" + sig,
		"PBS:a@pbs:065A1B2C3::" + sig, "PBS:a@pbs:165A1B2C3::" + sig, "PBS:a@pbs:+5A1B2C3::" + sig, "PBS:a:b@pbs:65A1B2C3::" + sig,
		"PBS:a b@pbs:65A1B2C3::" + sig, "PBS:a%4@pbs:65A1B2C3::" + sig, "PBS:a@pbs%:65A1B2C3::" + sig, "PBS:%61@pbs:65A1B2C3::" + sig,
		"PBS:a%3a@pbs:65A1B2C3::" + sig, "PBS:a@pbs:65A1B2C3::AAAB\n", "PBS:a@pbs:65A1B2C3::AB", "PBS:a@pbs:65A1B2C3::AA==", "PBS:a@pbs:65A1B2C3::AAAA::AAAA",
		"PBS:" + strings.Repeat("a", 1024) + ":65A1B2C3::" + sig,
	} {
		if c, err := Parse(s); err == nil {
			t.Errorf("%q was read as %+v", s, c)
		}
	}
}

func TestCSRFRefuses(t *testing.T) {
	k := NewKey()
	good := k.CSRF("a@pbs", at)
	if err := k.CheckCSRF(good, "a@pbs", at); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ name, token, user string }{
		{"another user", good, "b@pbs"},
		{"no token", "", "a@pbs"},
		{"no signature", good[:8], "a@pbs"},
		{"an empty signature", good[:9], "a@pbs"},
		{"a signature cut short", good[:len(good)-4], "a@pbs"},
		{"another time", "65A1B2C4" + good[8:], "a@pbs"},
		{"no time", "xxxxxxxx" + good[8:], "a@pbs"},
		{"no base64", good[:9] + "bad", "a@pbs"},
	} {
		if err := k.CheckCSRF(tt.token, tt.user, at); err == nil {
			t.Errorf("%s: it was taken", tt.name)
		}
	}
}

func TestKeysShareTicketsIfTheyAreTheSame(t *testing.T) {
	k := NewKey()
	text, err := k.PEM()
	if err != nil {
		t.Fatal(err)
	}
	again, err := ParseKey(text)
	if err != nil {
		t.Fatal(err)
	}
	c, err := Parse(k.Sign(Claim{Data: "a@pbs"}, "a@pbs", at))
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Check(c, "a@pbs", at); err != nil {
		t.Errorf("ticket: %v", err)
	}
	if err := again.CheckCSRF(k.CSRF("a@pbs", at), "a@pbs", at); err != nil {
		t.Errorf("csrf token: %v", err)
	}
	if NewKey().Check(c, "a@pbs", at) == nil || NewKey().CheckCSRF(k.CSRF("a@pbs", at), "a@pbs", at) == nil {
		t.Error("another key takes them too")
	}
}

func TestParseKeyRefuses(t *testing.T) {
	const p256 = `-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgevZzL1gdAFr88hb2
OF/2NxApJCzGCEDdfSp6VQO30hyhRANCAAQRWz+jn65BtOMvdyHKcvjBeBSDZH2r
1RTwjmYSi9R/zpBnuQ4EiMnCqfMPWiZqB4QdbAd0E7oH50VpuZ1P087G
-----END PRIVATE KEY-----
`
	for name, text := range map[string]string{
		"nothing": "", "no PEM": "hello", "another kind of PEM": "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
		"no PKCS #8": "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "a key of another kind": p256,
	} {
		_, err := ParseKey([]byte(text))
		hinted, ok := err.(interface{ Hint() string })
		if !ok || hinted.Hint() == "" {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A ticket that anybody changes in any place is not good any more, and what
// is read is written the same.
func FuzzTicketIsNotMalleable(f *testing.F) {
	k := NewKey()
	good := k.Sign(Claim{Data: "admin@pbs"}, "admin@pbs", at)
	f.Add(good)
	f.Add(k.Sign(Claim{Data: "{}", Challenge: true}, "admin@pbs", at))
	f.Add(good + "\n")
	f.Add("PBS:a%3Ab@pbs:6B00FD14::IxdnQFIXSX1kOaDhcuRtusIJZR5ZoHLdRUyYolchSWeNlQ/dLtBBDUgZJKQ6FgeWwH0Gr5OwvczVEk6j2GlyCA")
	f.Fuzz(func(t *testing.T, s string) {
		c, err := Parse(s)
		if err != nil {
			return
		}
		if c.String() != s {
			t.Errorf("%q is written as %q", s, c)
		}
		if s != good && !c.Challenge && k.Check(c, c.Data, at) == nil {
			t.Errorf("%q is good", s)
		}
	})
}

func FuzzUnescapeUndoesEscape(f *testing.F) {
	f.Add("a:b%!")
	f.Add("%zz%4")
	f.Fuzz(func(t *testing.T, s string) {
		if back, err := Unescape(escape(s)); err != nil || back != s {
			t.Errorf("%q came back as %q, %v", s, back, err)
		}
		if plain, err := Unescape(s); err == nil && len(plain) > len(s) {
			t.Errorf("%q grew to %q", s, plain)
		}
	})
}

func FuzzCSRF(f *testing.F) {
	k := NewKey()
	good := k.CSRF("admin@pbs", at)
	f.Add(good)
	f.Add("6B00FD14:bad")
	f.Fuzz(func(t *testing.T, s string) {
		if s != good && k.CheckCSRF(s, "admin@pbs", at) == nil {
			t.Errorf("%q is good", s)
		}
	})
}

func FuzzParseKey(f *testing.F) {
	text, _ := NewKey().PEM()
	f.Add(text)
	f.Fuzz(func(t *testing.T, text []byte) {
		k, err := ParseKey(text)
		if err != nil {
			return
		}
		if _, err := k.PEM(); err != nil {
			t.Errorf("what was read cannot be written: %v", err)
		}
	})
}
