// Package webhook sends notifications as HTTP requests of the operator's own
// making: a URL, headers and a body with places in them that are filled in.
package webhook

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/holdfast-mesh/holdfast/notify"
)

// Config is a request. URL, the values of headers, and the body are templates;
// see [Template].
type Config struct {
	Method  string // default: POST
	URL     string // required
	Headers map[string]string
	Body    string
	Secrets map[string]string // {{ secrets.NAME }}; no error shows them
	Client  *http.Client      // default: one that follows no redirects
}

// A Target sends requests.
type Target struct {
	cfg     Config
	url     *Template
	body    *Template
	headers map[string]*Template
}

// sendTime bounds a request, whatever its context says.
const sendTime = time.Minute

// New checks the configuration. It connects to nobody.
func New(cfg Config) (*Target, error) {
	if cfg.Method == "" {
		cfg.Method = http.MethodPost
	}
	if cfg.Client == nil {
		cfg.Client = &http.Client{
			Timeout:       sendTime,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, // secrets stay where they were sent
		}
	}
	cfg.Method = strings.ToUpper(cfg.Method)
	switch cfg.Method {
	case http.MethodGet, http.MethodPost, http.MethodPut:
	default:
		return nil, fmt.Errorf("webhook: method is %q, want get, post or put", cfg.Method)
	}
	t := &Target{cfg: cfg, headers: map[string]*Template{}}
	var errs []error
	parse := func(what, text string) *Template {
		p, err := Parse(text)
		if err == nil {
			_, err = p.Fill(Data(notify.Message{}, cfg.Secrets))
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("webhook: %s: %w", what, err))
		}
		return p
	}
	t.url, t.body = parse("url", cfg.URL), parse("body", cfg.Body)
	for name, text := range cfg.Headers {
		if name == "" || strings.ContainsAny(name, " :\r\n") {
			errs = append(errs, fmt.Errorf("webhook: %q is no name of a header", name))
		}
		t.headers[name] = parse("header "+name, text)
	}
	if len(errs) == 0 {
		address, _ := t.url.Fill(Data(notify.Message{}, cfg.Secrets)) // it was filled before
		if u, err := url.Parse(address); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
			errs = append(errs, errors.New("webhook: the url is none: it begins with http:// or https://, and a host"))
		}
	}
	return t, errors.Join(errs...)
}

// Send makes the request. Any answer but one of the 200s is a failure.
func (t *Target) Send(ctx context.Context, m notify.Message) error {
	if err := t.send(ctx, m); err != nil {
		return t.withoutSecrets(err)
	}
	return nil
}

func (t *Target) send(ctx context.Context, m notify.Message) error {
	data := Data(m, t.cfg.Secrets)
	address, err := t.url.Fill(data)
	if err != nil {
		return err
	}
	body, err := t.body.Fill(data)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, t.cfg.Method, address, strings.NewReader(body))
	if err != nil {
		return err
	}
	for name, text := range t.headers {
		value, err := text.Fill(data)
		if err != nil {
			return err
		}
		req.Header.Set(name, strings.Join(strings.Fields(value), " ")) // a header is one line
	}
	r, err := t.cfg.Client.Do(req)
	if err != nil {
		return err
	}
	defer r.Body.Close() // it was only read
	said, _ := io.ReadAll(io.LimitReader(r.Body, 300))
	if r.StatusCode < 200 || r.StatusCode > 299 {
		return fmt.Errorf("%s %s: %s: %s", t.cfg.Method, req.URL.Host, r.Status, bytes.TrimSpace(said))
	}
	return nil
}

// withoutSecrets returns an error that shows none.
func (t *Target) withoutSecrets(err error) error {
	text := err.Error()
	if u := (*url.Error)(nil); errors.As(err, &u) { // it has the URL, of which part may be secret
		text = u.Err.Error()
		if address, perr := url.Parse(u.URL); perr == nil {
			text = fmt.Sprintf("%s %s: %v", t.cfg.Method, address.Host, u.Err)
		}
	}
	for _, secret := range t.cfg.Secrets {
		if secret != "" {
			text = strings.ReplaceAll(text, secret, "***")
		}
	}
	return errors.New("webhook: " + text)
}
