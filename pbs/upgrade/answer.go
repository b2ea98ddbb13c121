package upgrade

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
)

// An Error is a refusal with its HTTP status. Its text is what the client
// shows to people.
type Error struct {
	Status int
	Err    error
}

// Errorf returns a refusal with a text made as by [fmt.Errorf].
func Errorf(status int, format string, args ...any) error {
	return &Error{status, fmt.Errorf(format, args...)}
}

func (e *Error) Error() string { return e.Err.Error() }

func (e *Error) Unwrap() error { return e.Err }

// HTTPStatus returns the status, for whoever answers the request.
func (e *Error) HTTPStatus() int { return e.Status }

// StatusOf returns the status that an answer with err has: 400, as PBS has it,
// unless err says otherwise (§0.4).
func StatusOf(err error) int {
	var s interface{ HTTPStatus() int }
	if errors.As(err, &s) {
		return s.HTTPStatus()
	}
	return http.StatusBadRequest
}

// PBS sends its errors, which are plain text, with this type as well (§0.4).
const jsonType = "application/json;charset=UTF-8"

// Fail answers with the text of err.
func Fail(w http.ResponseWriter, err error) {
	send(w, StatusOf(err), jsonType, []byte(err.Error()))
}

// Data answers with {"data":v}. It fails if v has no JSON.
func Data(w http.ResponseWriter, v any) error {
	body, err := json.Marshal(map[string]any{"data": v})
	if err != nil {
		return fmt.Errorf("encode the answer: %w", err)
	}
	return send(w, http.StatusOK, jsonType, body)
}

// Octets answers with a file or a chunk. When it fails, b may still be in use
// by the connection that goes down.
func Octets(w http.ResponseWriter, b []byte) error {
	return send(w, http.StatusOK, "application/octet-stream", b)
}

func send(w http.ResponseWriter, status int, typ string, body []byte) error {
	h := w.Header()
	h.Set("Content-Type", typ)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, err := w.Write(body)
	return SendError(err)
}

// SendError wraps an error of sending an answer, so that nobody tries to tell
// the client about it. It returns nil for nil.
func SendError(err error) error {
	if err == nil {
		return nil
	}
	return &sendError{err}
}

// Sent reports whether err came up while an answer was being sent.
func Sent(err error) bool {
	sent := (*sendError)(nil)
	return errors.As(err, &sent)
}

// A sendError says that the client could not be answered, so that nobody
// tries to tell it about that.
type sendError struct{ err error }

func (e *sendError) Error() string { return "send the answer: " + e.err.Error() }

func (e *sendError) Unwrap() error { return e.err }
