package upgrade

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/holdfast-mesh/holdfast/chunks"
)

// maxParams is the longest body with parameters in bytes, as in PBS. An append
// of 1024 chunks has 85 KiB.
const maxParams = 512 << 10

// Params are the parameters of a request. The methods that read them note what
// is wrong; when all are read, Err returns it.
type Params struct {
	values url.Values
	wrong  []wrong
}

// A wrong is what is wrong with a parameter.
type wrong struct{ name, why string }

func (w wrong) String() string { return fmt.Sprintf("'%s': %s", w.name, w.why) }

// bare reports whether it is said without the name of a parameter.
func (w wrong) bare() bool { return w.name == "" }

// A paramsError says what is wrong with parameters.
type paramsError []wrong

func (e paramsError) Error() string {
	if i := slices.IndexFunc(e, wrong.bare); i >= 0 {
		return e[i].why
	}
	if len(e) == 1 {
		return "parameter verification failed - " + e[0].String()
	}
	text := "parameter verification failed:"
	for _, w := range e {
		text += "\n- " + w.String()
	}
	return text
}

// WrongParams returns what is wrong with each parameter, if that is what err
// says, and else nothing.
func WrongParams(err error) map[string]string {
	all := map[string]string{}
	var e paramsError
	if errors.As(err, &e) {
		for _, w := range e {
			if !w.bare() {
				all[w.name] = w.why
			}
		}
	}
	return all
}

// QueryParams returns the parameters in r's URL, which are all there are where
// the body is a file or a chunk. If one of them cannot be read, that is what Err
// says: what is done without a parameter that was meant may be something else.
func QueryParams(r *http.Request) *Params {
	values, err := url.ParseQuery(r.URL.RawQuery)
	p := &Params{values: values}
	if err != nil {
		p.Fail("", "read the parameters in the URL: %v", err)
	}
	return p
}

// AllParams returns those of the URL and of the body, a form or a JSON object
// (§3.2). Where both have one of a name, that of the body counts.
func AllParams(r *http.Request) (*Params, error) {
	p := QueryParams(r)
	body, err := io.ReadAll(io.LimitReader(r.Body, maxParams+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("read the parameters: %w", err)
	case len(body) > maxParams:
		return nil, Errorf(http.StatusBadRequest, "Request body too large")
	case len(bytes.TrimSpace(body)) == 0:
		return p, nil
	}
	kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	switch kind {
	case "application/json":
		return p, p.addJSON(body)
	case "application/x-www-form-urlencoded":
		form, err := url.ParseQuery(string(body))
		for name, values := range form {
			p.values[name] = values
		}
		return p, err
	}
	return nil, Errorf(http.StatusBadRequest, "unsupported content type %q", kind)
}

// addJSON adds the members of an object as if they came in a form.
func (p *Params) addJSON(body []byte) error {
	var members map[string]json.RawMessage
	if err := json.Unmarshal(body, &members); err != nil {
		return fmt.Errorf("parse the parameters: %w", err)
	}
	for name, raw := range members {
		values, err := jsonValues(raw)
		if err != nil {
			return fmt.Errorf("parse parameter %.40q: %w", name, err)
		}
		p.values[name] = values
	}
	return nil
}

func jsonValues(raw json.RawMessage) ([]string, error) {
	list := []json.RawMessage{raw}
	if raw[0] == '[' {
		if err := json.Unmarshal(raw, &list); err != nil {
			return nil, err
		}
	}
	values := make([]string, 0, len(list))
	for _, v := range list {
		switch v[0] {
		case '"':
			var s string
			if err := json.Unmarshal(v, &s); err != nil {
				return nil, err
			}
			values = append(values, s)
		case '{', '[':
			return nil, fmt.Errorf("it is neither a text, a number nor a list of those")
		case 'n': // null: as if it were not there
		default:
			values = append(values, string(v))
		}
	}
	return values, nil
}

// Err returns what was wrong with the parameters read so far, in the words of
// PBS, or nil.
func (p *Params) Err() error {
	if len(p.wrong) == 0 {
		return nil
	}
	return paramsError(p.wrong)
}

// Fail notes that a parameter is wrong, and why. With the name "" the text
// stands for itself.
func (p *Params) Fail(name, format string, args ...any) {
	p.wrong = append(p.wrong, wrong{name, fmt.Sprintf(format, args...)})
}

// Set gives a parameter one value, as if it had come with the request.
func (p *Params) Set(name, value string) { p.values[name] = []string{value} }

// Texts returns all values of a parameter, none if there is none.
func (p *Params) Texts(name string) []string { return p.values[name] }

// Maybe reads a parameter that need not be there, with one of the methods of
// p; it returns nil if it is not there.
func Maybe[T any](p *Params, name string, read func(name string) T) *T {
	if !p.Has(name) {
		return nil
	}
	v := read(name)
	return &v
}

// Has reports whether there is a parameter of that name.
func (p *Params) Has(name string) bool { return len(p.values[name]) > 0 }

// Text returns a parameter as it was sent.
func (p *Params) Text(name string) string {
	if !p.Has(name) {
		p.Fail(name, "parameter is missing and it is not optional.")
		return ""
	}
	return p.values[name][0]
}

// Parsed returns a parameter that parse reads, and the zero value if it cannot.
func Parsed[T any](p *Params, name string, parse func(string) (T, error)) (v T) {
	if text := p.Text(name); p.Has(name) {
		var err error
		if v, err = parse(text); err != nil {
			p.Fail(name, "%v", err)
		}
	}
	return v
}

// Int returns a number between low and high.
func (p *Params) Int(name string, low, high int64) int64 {
	return Parsed(p, name, func(text string) (int64, error) {
		n, err := parseInt(text)
		switch {
		case err != nil:
			return 0, err
		case n < low:
			return 0, fmt.Errorf("value must have a minimum value of %d (got %d)", low, n)
		case n > high:
			return 0, fmt.Errorf("value must have a maximum value of %d (got %d)", high, n)
		}
		return n, nil
	})
}

func parseInt(s string) (int64, error) {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("invalid digit found in string")
	}
	return n, nil
}

// Bool returns a boolean, false if there is none.
func (p *Params) Bool(name string) bool {
	if !p.Has(name) {
		return false
	}
	return Parsed(p, name, func(s string) (bool, error) {
		switch strings.ToLower(s) {
		case "1", "on", "yes", "true":
			return true, nil
		case "0", "off", "no", "false":
			return false, nil
		}
		return false, Errorf(http.StatusBadRequest, "Unable to parse boolean option.")
	})
}

// Digest returns a digest or another SHA-256.
func (p *Params) Digest(name string) chunks.Digest { return Parsed(p, name, chunks.ParseDigest) }

// Digests returns a list of digests, Ints one of numbers. Both may be empty.
func (p *Params) Digests(name string) []chunks.Digest { return list(p, name, chunks.ParseDigest) }

// Ints returns a list of numbers.
func (p *Params) Ints(name string) []int64 { return list(p, name, parseInt) }

func list[T any](p *Params, name string, parse func(string) (T, error)) []T {
	if _, ok := p.values[name]; !ok {
		p.Fail(name, "parameter is missing and it is not optional.")
		return nil
	}
	all := make([]T, 0, len(p.values[name]))
	for i, text := range p.values[name] {
		v, err := parse(text)
		if err != nil {
			p.Fail(name, "[%d]: %v", i, err)
			return nil // one is enough: there may be thousands
		}
		all = append(all, v)
	}
	return all
}
