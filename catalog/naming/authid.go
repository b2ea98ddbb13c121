package naming

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

const authCure = "write it as NAME@REALM, or as NAME@REALM!TOKEN"

// CheckAuthID checks the name of a user, NAME@REALM, or of one of its API
// tokens, NAME@REALM!TOKEN. NAME has no white space, control characters, ":"
// or "/"; with the realm it has 3 to 64 characters. REALM is a safe id of 2 to
// 32 bytes, TOKEN one of 3 to 64.
func CheckAuthID(id string) error {
	fail := func(format string, args ...any) error {
		return &Error{"user or token", id, fmt.Sprintf(format, args...), authCure}
	}
	if !utf8.ValidString(id) {
		return fail("is not UTF-8")
	}
	at := strings.LastIndexByte(id, '@') // a NAME may have one, the rest cannot
	if at < 0 {
		return fail("has no realm")
	}
	name := id[:at]
	realm, token, isToken := strings.Cut(id[at+1:], "!")
	if name == "" {
		return fail("has no name before its realm")
	}
	if i := strings.IndexFunc(name, isForbiddenInUser); i >= 0 {
		r, _ := utf8.DecodeRuneInString(name[i:])
		return fail("has %q at byte %d", r, i)
	}
	if n := utf8.RuneCountInString(name) + 1 + len(realm); n < minUser || n > maxUser {
		return fail("has %d characters before any token, want %d to %d", n, minUser, maxUser)
	}
	if err := checkSafe("realm", realm, minRealm, maxRealm); err != nil {
		return fmt.Errorf("user or token %.100q: %w", id, err)
	}
	if !isToken {
		return nil
	}
	if err := checkSafe("token name", token, minToken, maxToken); err != nil {
		return fmt.Errorf("user or token %.100q: %w", id, err)
	}
	return nil
}

func isForbiddenInUser(r rune) bool {
	return r == ':' || r == '/' || unicode.IsSpace(r) || unicode.IsControl(r)
}
