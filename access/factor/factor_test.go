package factor

import (
	"encoding/json"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"
)

var rfcSecret = []byte("12345678901234567890")

// TestVectorsOfRFC6238 are the SHA-1 rows of appendix B, of whose eight digits
// authenticators show the last six.
func TestVectorsOfRFC6238(t *testing.T) {
	for at, want := range map[int64]string{
		59: "94287082", 1111111109: "07081804", 1111111111: "14050471", 1234567890: "89005924", 2000000000: "69279037", 20000000000: "65353130",
	} {
		if got := totp(rfcSecret, at/codeStep); got != want[2:] {
			t.Errorf("at %d: %s, want %s", at, got, want[2:])
		}
	}
}

func TestCode(t *testing.T) {
	at := time.Unix(1111111109, 0)
	now := at.Unix() / codeStep
	tests := []struct {
		name string
		code string
		good bool
	}{
		{"the code of now is good", totp(rfcSecret, now), true},
		{"the one before too", totp(rfcSecret, now-1), true},
		{"the next one too", totp(rfcSecret, now+1), true},
		{"two steps ago is too old", totp(rfcSecret, now-2), false},
		{"two steps ahead is too early", totp(rfcSecret, now+2), false},
		{"an empty code", "", false},
		{"a code cut short", totp(rfcSecret, now)[:5], false},
		{"a code with more behind it", totp(rfcSecret, now) + "0", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := Factor{Secret: rfcSecret, Failures: 3}
			if err := f.TryCode(tt.code, at); (err == nil) != tt.good {
				t.Errorf("%v", err)
			}
			if want := map[bool]int{true: 0, false: 4}[tt.good]; f.Failures != want {
				t.Errorf("%d failures, want %d", f.Failures, want)
			}
		})
	}
}

func TestCodeIsGoodOnce(t *testing.T) {
	at := time.Unix(1111111109, 0)
	now := at.Unix() / codeStep
	f := Factor{Secret: rfcSecret}
	if err := f.TryCode(totp(rfcSecret, now), at); err != nil {
		t.Fatal(err)
	}
	for _, step := range []int64{now, now - 1} {
		if err := f.TryCode(totp(rfcSecret, step), at); err == nil || !strings.Contains(err.Error(), "before") {
			t.Errorf("step %d: %v", step-now, err)
		}
	}
	if f.Failures != 0 {
		t.Errorf("a second look at a good code counts as %d failures", f.Failures)
	}
	if err := f.TryCode(totp(rfcSecret, now+1), at); err != nil {
		t.Errorf("the next one: %v", err)
	}
}

func TestCodesLockAfterTooManyWrongOnes(t *testing.T) {
	at := time.Unix(1111111109, 0)
	keys, sums := NewRecovery("admin@pbs")
	f := Factor{Secret: rfcSecret, Recovery: sums}
	for range maxFailures {
		if f.Locked() {
			t.Fatal("locked too early")
		}
		if f.TryCode("000000", at) == nil {
			t.Fatal("000000 is good")
		}
	}
	right := totp(rfcSecret, at.Unix()/codeStep)
	if err := f.TryCode(right, at); err == nil || !f.Locked() {
		t.Errorf("the right code of a locked factor: %v", err)
	}
	if got := f.Challenge(); got != `{"totp":false,"recovery":[0,1,2,3,4,5,6,7,8,9]}` {
		t.Errorf("challenge %s", got)
	}
	if err := f.TryRecovery("admin@pbs", keys[3]); err != nil {
		t.Errorf("recovery key: %v", err)
	}
	if err := f.TryCode(right, at); err != nil {
		t.Errorf("after the recovery key: %v", err)
	}
	if got := f.Challenge(); got != `{"totp":true,"recovery":[0,1,2,4,5,6,7,8,9]}` {
		t.Errorf("challenge %s", got)
	}
}

func TestRecoveryKeys(t *testing.T) {
	keys, sums := NewRecovery("admin@pbs")
	if len(keys) != 10 || len(slices.Compact(slices.Sorted(slices.Values(keys)))) != 10 || len(keys[0]) != 19 {
		t.Fatalf("keys %q", keys)
	}
	for i, key := range keys {
		if strings.Contains(sums[i], strings.ReplaceAll(key, "-", "")) {
			t.Errorf("the sum of %s shows it", key)
		}
	}
	f := Factor{Secret: rfcSecret, Recovery: sums}
	if err := f.Check(); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name, user, key string
		good            bool
	}{
		{"a key is good", "admin@pbs", keys[0], true},
		{"but once", "admin@pbs", keys[0], false},
		{"capitals and blanks do not matter", "admin@pbs", strings.ToUpper(strings.ReplaceAll(keys[1], "-", " ")), true},
		{"it is of no use to others", "other@pbs", keys[2], false},
		{"nothing is no key, though used ones are stored as nothing", "admin@pbs", "", false},
		{"a sum is no key", "admin@pbs", sums[4], false},
	}
	for _, tt := range tests {
		if err := f.TryRecovery(tt.user, tt.key); (err == nil) != tt.good {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
	if left := f.RecoveryLeft(); !slices.Equal(left, []int{2, 3, 4, 5, 6, 7, 8, 9}) {
		t.Errorf("left %v", left)
	}
	if err := f.Check(); err != nil {
		t.Errorf("after use: %v", err)
	}
}

func TestCheckRefuses(t *testing.T) {
	for name, f := range map[string]Factor{
		"no secret":               {},
		"a short secret":          {Secret: make([]byte, 9)},
		"a long secret":           {Secret: make([]byte, 65)},
		"negative failures":       {Secret: rfcSecret, Failures: -1},
		"too many keys":           {Secret: rfcSecret, Recovery: make([]string, 11)},
		"a sum that is no sum":    {Secret: rfcSecret, Recovery: []string{"hello"}},
		"a sum that is too short": {Secret: rfcSecret, Recovery: []string{"00ff"}},
	} {
		if f.Check() == nil {
			t.Errorf("%s was taken", name)
		}
	}
}

func TestCloneSharesNothing(t *testing.T) {
	keys, sums := NewRecovery("a@pbs")
	f := Factor{Secret: slices.Clone(rfcSecret), Recovery: sums}
	c := f.Clone()
	if err := c.TryRecovery("a@pbs", keys[0]); err != nil {
		t.Fatal(err)
	}
	c.Secret[0]++
	if len(f.RecoveryLeft()) != 10 || f.Secret[0] != rfcSecret[0] {
		t.Error("the first changed with its clone")
	}
}

func TestSecretAndURI(t *testing.T) {
	secret := NewSecret()
	b, err := ParseSecret(secret)
	if err != nil || len(b) != newSecret || secret == NewSecret() {
		t.Fatalf("%s: %d bytes, %v", secret, len(b), err)
	}
	if spoken, err := ParseSecret(strings.ToLower(secret[:4] + " " + secret[4:8] + "-" + secret[8:] + "=")); err != nil || !slices.Equal(spoken, b) {
		t.Errorf("as people type it: %v", err)
	}
	text := URI("back up & co", "a b?@pbs", secret)
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "otpauth" || u.Host != "totp" || u.Path != "/back up & co:a b?@pbs" {
		t.Fatalf("%s: %+v, %v", text, u, err)
	}
	q := u.Query()
	if q.Get("secret") != secret || q.Get("issuer") != "back up & co" || q.Get("digits") != "6" || q.Get("period") != "30" {
		t.Errorf("%s", text)
	}
}

func TestStoredFormIsStable(t *testing.T) {
	text, err := json.Marshal(Factor{Secret: []byte("0123456789"), LastStep: 7, Failures: 2, Recovery: []string{"", "ab"}})
	const want = `{"totp-secret":"MDEyMzQ1Njc4OQ==","last-step":7,"failures":2,"recovery":["","ab"]}`
	if err != nil || string(text) != want {
		t.Errorf("%s, want %s", text, want)
	}
}

func FuzzParseSecret(f *testing.F) {
	f.Add(NewSecret())
	f.Add("gezd gnbv-GY3TQOJQ")
	f.Add("AA\nAA")
	f.Fuzz(func(t *testing.T, s string) {
		b, err := ParseSecret(s)
		if err != nil {
			return
		}
		if (Factor{Secret: b}).Check() != nil {
			t.Errorf("%q gives a factor that is refused", s)
		}
		if again, err := ParseSecret(secretText.EncodeToString(b)); err != nil || !slices.Equal(again, b) {
			t.Errorf("%q does not come back", s)
		}
	})
}
