package rest

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/holdfast-mesh/holdfast/access"
	"github.com/holdfast-mesh/holdfast/pbs/upgrade"
)

// A format is how answers are wrapped: the component behind /api2.
type format string

const (
	plain format = ""      // errors only, and without a type
	js    format = "json"  // {"data":…}, errors as text (§0.3, §0.4)
	extjs format = "extjs" // everything as an object, with the status in it
)

var formats = map[string]format{"json": js, "extjs": extjs}

// jsonType is the type of answers in JSON; PBS sends errors with it as well.
const jsonType = "application/json;charset=UTF-8"

// HintHeader has what an operator can do about an error. PBS has no such header.
const HintHeader = "Holdfast-Hint"

// data answers with what an endpoint returned.
func (f format) data(w http.ResponseWriter, data any) error {
	if data == any(Written) {
		return nil
	}
	if raw, ok := data.(json.RawMessage); ok && f == js {
		return send(w, http.StatusOK, []byte(`{"data":`), raw, []byte("}")) // long lists: not parsed and copied once more
	}
	body := map[string]any{}
	if a, ok := data.(Answer); ok {
		for name, value := range a.Beside {
			body[name] = value
		}
		data = a.Data
	}
	body["data"] = data
	if f == extjs {
		body["success"], body["status"] = true, http.StatusOK
	}
	text, err := json.Marshal(body)
	if err != nil {
		return fmt.Errorf("encode the answer: %w", err)
	}
	return send(w, http.StatusOK, text)
}

// fail answers with an error.
func (f format) fail(w http.ResponseWriter, err error) {
	status, text := statusOf(err), textOf(err)
	if hinted := interface{ Hint() string }(nil); errors.As(err, &hinted) && hinted.Hint() != "" {
		w.Header().Set(HintHeader, strings.Join(strings.Fields(hinted.Hint()), " "))
	}
	if f == extjs {
		body, _ := json.Marshal(map[string]any{
			"message": text, "errors": upgrade.WrongParams(err), "success": false, "status": status,
		})
		w.Header().Set("Content-Type", jsonType)
		send(w, http.StatusOK, body)
		return
	}
	if _, set := w.Header()["Content-Type"]; f == js && !set {
		w.Header().Set("Content-Type", jsonType)
	} else {
		w.Header()["Content-Type"] = nil
	}
	send(w, status, []byte(text))
}

// send sends an answer, which may come in parts.
func send(w http.ResponseWriter, status int, parts ...[]byte) error {
	h := w.Header()
	if _, set := h["Content-Type"]; !set {
		h.Set("Content-Type", jsonType)
	}
	n := 0
	for _, p := range parts {
		n += len(p)
	}
	h.Set("Content-Length", strconv.Itoa(n))
	w.WriteHeader(status)
	for _, p := range parts {
		if _, err := w.Write(p); err != nil {
			return upgrade.SendError(err)
		}
	}
	return nil
}

// statusOf returns the status of an error: 400 unless it says otherwise.
func statusOf(err error) int {
	if a := (*access.Error)(nil); errors.As(err, &a) {
		return a.Status()
	}
	return upgrade.StatusOf(err)
}

// textOf returns what the client may know of an error.
func textOf(err error) string {
	if a := (*access.Error)(nil); errors.As(err, &a) {
		if a.Param != "" && a.Kind != access.ErrModified {
			return fmt.Sprintf("parameter verification failed - '%s': %s", a.Param, a.Text)
		}
		return a.Text
	}
	return err.Error()
}
