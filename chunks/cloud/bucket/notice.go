package bucket

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"
)

// maxQuiet bounds the requests that are watched for it: a large one takes its time.
const maxQuiet = 1 << 20

type noticeKey struct{}

// Notify returns a context with which tell is called when the store does not answer
// a request for some seconds: it is tried again for minutes, and who looks on should know.
func Notify(ctx context.Context, tell func(text string)) context.Context {
	return context.WithValue(ctx, noticeKey{}, sparingly(tell))
}

// sparingly says a thing once of all requests that wait at the same time.
func sparingly(tell func(string)) func(string) {
	var mu sync.Mutex
	var last time.Time
	return func(text string) {
		mu.Lock()
		defer mu.Unlock()
		if now := time.Now(); now.Sub(last) > 30*time.Second {
			last = now
			tell(text)
		}
	}
}

// noticed has whoever wants to know told if r gets no answer; call answered with it.
func (a *Account) noticed(r *http.Request) (answered func()) {
	tell, _ := r.Context().Value(noticeKey{}).(func(string))
	if tell == nil {
		tell = a.cfg.Notice
	}
	if tell == nil || r.ContentLength > maxQuiet {
		return func() {}
	}
	t := time.AfterFunc(a.cfg.Quiet, func() {
		tell(fmt.Sprintf("%s has not answered for %s (%s %s): still waiting, up to %s for each try",
			r.URL.Host, a.cfg.Quiet, strings.ToLower(r.Method), r.URL.Path, a.cfg.Answer))
	})
	return func() { t.Stop() }
}

// foreign says of a reply that no S3 store sends it: a page for people, or a redirect
// that does not come from a store.
func foreign(resp *http.Response) error {
	for name := range resp.Header {
		if strings.HasPrefix(name, "X-Amz-") {
			return nil
		}
	}
	page := strings.HasPrefix(resp.Header.Get("Content-Type"), "text/html")
	sent := resp.StatusCode >= 300 && resp.StatusCode < 400 && resp.StatusCode != http.StatusNotModified
	switch at := resp.Header.Get("Location"); {
	case resp.StatusCode >= 500 || !page && !(sent && at != ""):
		return nil // what stands before a store sends such pages while that is away
	case sent && at != "":
		return fmt.Errorf("%w: it sends us to %s", ErrNoStore, at)
	}
	return fmt.Errorf("%w: it sends a page for people (status %d)", ErrNoStore, resp.StatusCode)
}
