package access

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
)

// The kinds of refusal, to be matched with errors.Is. Every one comes as an
// [*Error]; what is none of these is a failure of the store or the machine.
var (
	ErrUnauthenticated = errors.New("not authenticated")
	ErrForbidden       = errors.New("not permitted")
	ErrNotFound        = errors.New("not found")
	ErrExists          = errors.New("already there")
	ErrModified        = errors.New("modified by somebody else")
	ErrInvalid         = errors.New("not valid")
	ErrBusy            = errors.New("too busy")
)

// An Error is a refusal. Text is for the client and says no more than a client
// may know; Error adds what only the log may say, so that a failed login looks
// the same whatever was wrong with it.
type Error struct {
	Kind   error  // one of the kinds above
	Param  string // the parameter at fault, by its name in the API, or ""
	Text   string // for the client
	Reason string // for the log, in place of Text; "" if Text says it all
	Cure   string // what to do about it, or ""
}

func (e *Error) Error() string { return cmp.Or(e.Reason, e.Text) }

// Unwrap returns the kind.
func (e *Error) Unwrap() error { return e.Kind }

// Hint says what an operator can do about it, or "".
func (e *Error) Hint() string { return e.Cure }

// Status is the HTTP status that a PBS answers with: 401, 403, 503, and 400
// for everything else, also for what does not exist (PBS protocol notes §0.4).
func (e *Error) Status() int {
	switch e.Kind {
	case ErrUnauthenticated:
		return http.StatusUnauthorized
	case ErrForbidden:
		return http.StatusForbidden
	case ErrBusy:
		return http.StatusServiceUnavailable
	}
	return http.StatusBadRequest
}

// unauthenticated refuses the credentials of a request. The client may read
// why, as a real server lets it.
func unauthenticated(format string, args ...any) error {
	return &Error{Kind: ErrUnauthenticated, Text: "authentication failed - " + fmt.Sprintf(format, args...)}
}

// loginFailed refuses a login. The client is told nothing, the log is.
func loginFailed(user, format string, args ...any) error {
	return &Error{
		Kind: ErrUnauthenticated, Text: "permission check failed.",
		Reason: "log in as " + quote(user) + ": " + fmt.Sprintf(format, args...),
	}
}

func notFound(format string, args ...any) error {
	return &Error{Kind: ErrNotFound, Text: fmt.Sprintf(format, args...)}
}

func alreadyThere(format string, args ...any) error {
	return &Error{Kind: ErrExists, Text: fmt.Sprintf(format, args...)}
}

func invalid(param, format string, args ...any) error {
	return &Error{Kind: ErrInvalid, Param: param, Text: fmt.Sprintf(format, args...)}
}

// quote makes text from outside safe to print, and short.
func quote(s string) string { return `"` + printable(s) + `"` }

// singleQuote is quote in the manner of the messages of a PBS.
func singleQuote(s string) string { return "'" + printable(s) + "'" }

func printable(s string) string {
	const most = 100 // bytes; longer than every valid name of ours but a path
	short := strings.ToValidUTF8(s[:min(len(s), most)], "\uFFFD")
	text := strconv.Quote(short)
	text = text[1 : len(text)-1]
	if len(s) > most {
		text += "…"
	}
	return text
}
