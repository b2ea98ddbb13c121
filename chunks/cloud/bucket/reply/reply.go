// Package reply looks whether a store answers the question that was asked.
//
// A proxy's page for people, JSON, or nothing at all, each with status 200, parse as a
// policy in which nothing is said. So do answers to another question: some stores
// answer what they do not know with a listing.
package reply

import (
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// ErrOther means that something else was answered than what was asked.
var ErrOther = errors.New("the answer is not what was asked for")

type key struct{}

// Expect returns a context in which [Check] wants the name of the first element of
// the answer to begin so; "": nothing.
func Expect(ctx context.Context, root string) context.Context {
	return context.WithValue(ctx, key{}, root)
}

// maxReply is more than any policy has.
const maxReply = 8 << 20

// Check reads an answer with a body, if something is expected of it, and puts back
// what it has read.
func Check(r *http.Request, resp *http.Response) error {
	want, is := r.Context().Value(key{}).(string)
	if !is || want == "" || resp.StatusCode != http.StatusOK || r.Method != http.MethodGet {
		return nil
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxReply))
	if err = errors.Join(err, resp.Body.Close()); err != nil {
		return err
	}
	resp.Body = io.NopCloser(bytes.NewReader(body))
	got, err := root(body)
	switch {
	case err != nil && len(body) == 0:
		return fmt.Errorf("%w: it is empty, want <%s>", ErrOther, want)
	case err != nil:
		return fmt.Errorf("%w: it is no XML, want <%s>", ErrOther, want)
	case !strings.HasPrefix(got, want):
		return fmt.Errorf("%w: it is <%s>, want <%s>", ErrOther, got, want)
	}
	return nil
}

// root is the name of the first element of a document that is whole.
func root(body []byte) (name string, err error) {
	d := xml.NewDecoder(bytes.NewReader(body))
	for {
		t, err := d.Token()
		if err == io.EOF && name != "" {
			return name, nil
		}
		if err != nil {
			return "", err
		}
		if e, is := t.(xml.StartElement); is && name == "" {
			name = e.Name.Local
		}
	}
}
