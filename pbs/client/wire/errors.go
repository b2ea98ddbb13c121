package wire

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"strings"
	"unicode"
)

// An APIError is a refusal by the server. It is an fs.ErrNotExist if the
// status is 404.
type APIError struct {
	Server  string // HOST:PORT
	Status  int    // of HTTP
	Message string // what the server said, one line for a person
	Method  string
	Path    string // without parameters
	Cure    string // what the server says to do about it, one line; "": it says nothing, as PBS does not
}

func (e *APIError) Error() string {
	return fmt.Sprintf("%s refused %s %s: %s (status %d)", e.Server, e.Method, e.Path, e.Message, e.Status)
}

// Is makes a 404 recognisable as fs.ErrNotExist.
func (e *APIError) Is(target error) bool {
	return target == fs.ErrNotExist && e.Status == http.StatusNotFound
}

// hints are cures for what servers say, most specific first. The texts are
// those of PBS (PBS protocol notes §0.4, §3.1, §11.1).
var hints = []struct{ says, cure string }{
	{"another backup is already running", "wait until the other backup of this group has ended, or stop its task"},
	{"locked by another operation", "wait until the backup, restore or deletion that uses this snapshot has ended"},
	{"possibly running or in use", "wait until the backup or restore that uses this snapshot has ended"},
	{"backup timestamp is older", "compare the clock of this machine with the clocks of others that back up to this group"},
	{"backup directory already exists", "wait a second, so that the new backup gets a time of its own"},
	{"backup owner check failed", "back up as the owner, under another backup ID, or change the owner of the group"},
	{"namespace not found", "create the namespace first; a backup does not"},
	{"no such datastore", "check the datastore's name, and that the user may see it"},
	{"maintenance mode", "the datastore's maintenance must end first; its operator knows when"},
	{"does not exist", "list the snapshots: the name or the namespace may be another"},
	{"cannot remove protected snapshot", "take the protection off first"},
	{"already contains a log", "each snapshot has room for one log"},
	{"does not have permission to change owner", "only an administrator of the datastore may; users may pass groups to and from their own tokens"},
	{"inactive or non-existent", "check the name of the new owner"},
}

// Hint is printed on its own line below the error.
func (e *APIError) Hint() string {
	if e.Cure != "" {
		return e.Cure
	}
	for _, h := range hints {
		if strings.Contains(e.Message, h.says) {
			return h.cure
		}
	}
	switch e.Status {
	case http.StatusUnauthorized:
		return "check the user, its realm (such as @pam or @pbs), the password or the token's secret, and that none of them has expired"
	case http.StatusForbidden:
		return "the user lacks a privilege: give it a role on the datastore, and if it is an API token give the token the role too"
	case http.StatusRequestEntityTooLarge, http.StatusRequestURITooLong:
		return "make the text shorter"
	case http.StatusServiceUnavailable, http.StatusBadGateway, http.StatusGatewayTimeout:
		return "the server is starting or overloaded: try again in a minute"
	}
	return ""
}

// hintHeader is where Holdfast says what to do about a refusal, and maxHint how much of it
// is believed, in bytes.
const (
	hintHeader = "Holdfast-Hint"
	maxHint    = 1024
)

// maxMessage is how much of a refusal is read, in bytes.
const maxMessage = 16 << 10

// refusal makes an error of an answer that is not a success.
func refusal(server, method, path string, status int, text []byte) *APIError {
	e := &APIError{Server: server, Status: status, Message: OneLine(string(text)), Method: method, Path: plain(path)}
	if e.Message == "" {
		e.Message = http.StatusText(status)
	}
	return e
}

// plain is a path for people: without the second slash that some calls begin with.
func plain(path string) string {
	if strings.HasPrefix(path, "//") {
		return path[1:]
	}
	return path
}

// refused is refusal of an answer of HTTP/1.1. It reads, and does not close, the
// body.
func refused(server string, req *http.Request, resp *http.Response) *APIError {
	text, _ := io.ReadAll(io.LimitReader(resp.Body, maxMessage)) // half a message is better than none
	e := refusal(server, req.Method, req.URL.Path, resp.StatusCode, text)
	hint := resp.Header.Get(hintHeader)
	e.Cure = OneLine(hint[:min(len(hint), maxHint)])
	return e
}

// OneLine makes what a server said fit to be printed on a terminal.
func OneLine(s string) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t':
			return ' '
		case !unicode.IsPrint(r):
			return -1
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
	return strings.TrimSpace(s)
}

// A LostError says that a connection ended before its work was done.
type LostError struct {
	Server string
	Doing  string // "upload chunk 1a2b3c4d", "POST /finish"
	Err    error
}

func (e *LostError) Error() string {
	return fmt.Sprintf("%s: connection to %s was lost: %v", e.Doing, e.Server, e.Err)
}

func (e *LostError) Unwrap() error { return e.Err }

// Hint is printed on its own line below the error.
func (e *LostError) Hint() string {
	if strings.HasSuffix(e.Doing, "/finish") {
		return "the server may have finished the backup all the same: list the snapshots before you start another"
	}
	return "look at the network and at the server's log, then try again"
}

// An AnswerError says that an answer is not what it has to be.
type AnswerError struct {
	Server string
	What   string // what was asked: "GET /chunk"
	Err    error
}

func (e *AnswerError) Error() string {
	return fmt.Sprintf("%s answered %s with something else: %v", e.Server, e.What, e.Err)
}

func (e *AnswerError) Unwrap() error { return e.Err }

// Hint is printed on its own line below the error.
func (e *AnswerError) Hint() string {
	return "check that host and port are those of a Proxmox Backup Server, and its version"
}

var (
	errTooLong = errors.New("it is too long")
	errNoData  = errors.New("it has no data")
)
