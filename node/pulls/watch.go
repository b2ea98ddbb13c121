package pulls

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/holdfast-mesh/holdfast/jobs"
	"github.com/holdfast-mesh/holdfast/pbs/settings"
)

// A watched is what is known of the source of a job that runs on change.
type watched struct {
	news atomic.Bool // somebody says that there is some

	mu      sync.Mutex
	tag     string    // of its catalogue, when a run was started last
	next    time.Time // not before, unless somebody says that there is news
	failure time.Duration
}

// How often sources are asked whether something is new: at least, and how much
// longer than it took them to answer; and when a run that failed is tried again,
// at first and at most.
const (
	lookTick     = time.Second
	watchEvery   = 10 * time.Second
	watchShare   = 20
	firstRetry   = 30 * time.Second
	longestRetry = 10 * time.Minute
)

// News says that something is new at a node: jobs that pull from there, and run
// on change, are started within a second or two. Without it, they are started
// when their sources are asked next.
func (p *Pulls) News(node string) {
	for _, j := range p.cfg.Settings.State().SyncJobs {
		if m, err := p.Resolve(j.Remote); j.OnChange && err == nil && m.ID == node {
			p.job(j.ID).watched.news.Store(true)
		}
	}
}

// watch starts jobs that run on change: it asks their sources from time to time
// whether anything is new, which takes some hundred bytes if nothing is.
func (p *Pulls) watch(ctx context.Context) error {
	tick := time.NewTicker(lookTick)
	defer tick.Stop()
	var looking sync.WaitGroup
	defer looking.Wait()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		for _, j := range p.cfg.Settings.State().SyncJobs {
			if w := &p.job(j.ID).watched; j.OnChange && !j.Disable && w.mu.TryLock() { // else it is being looked at
				looking.Go(func() {
					defer w.mu.Unlock()
					p.look(ctx, j, w)
				})
			}
		}
	}
}

// look starts a job if its source is not as it was when it was started last, or
// if that run failed.
func (p *Pulls) look(ctx context.Context, j settings.SyncJob, w *watched) {
	if time.Now().Before(w.next) && !w.news.Load() {
		return
	}
	s, err := p.Schedule(j.ID)
	if err != nil || s.Running || s.Held {
		return // it has just been made, or runs, or waits for its window
	}
	w.news.Store(false)
	began := time.Now()
	tag, err := p.tag(ctx, j, w.tag)
	w.next = time.Now().Add(max(watchEvery, watchShare*time.Since(began)))
	failed := w.tag != "" && s.Last != nil && s.State != "OK" && !strings.HasPrefix(s.State, "WARNINGS")
	switch {
	case err != nil:
		p.cfg.Log.Debug("the source of a job cannot be asked whether it has something new", "job", j.ID, "err", err)
		return
	case tag != w.tag:
		w.failure = 0
	case !failed:
		w.failure = 0
		return
	case w.failure == 0: // it has failed now
		w.failure = firstRetry
		w.next = time.Now().Add(w.failure)
		return
	}
	if err = p.begin(j.ID, "something is new at its source"); err != nil {
		if !errors.Is(err, jobs.ErrRunning) {
			p.cfg.Log.Warn("a job is not started though something is new at its source", "job", j.ID, "err", err)
		}
		return
	}
	w.tag = tag
	if w.failure > 0 {
		w.failure = min(2*w.failure, longestRetry)
		w.next = time.Now().Add(w.failure)
	}
}

// tag asks the source of a job for the tag of its catalogue, given the one that
// is known.
func (p *Pulls) tag(ctx context.Context, j settings.SyncJob, known string) (string, error) {
	m, err := p.Resolve(j.Remote)
	if err != nil {
		return "", err
	}
	q := url.Values{"store": {j.RemoteStore}, "ns": {string(j.RemoteNS)}}
	if j.MaxDepth != nil {
		q.Set("depth", strconv.Itoa(*j.MaxDepth))
	}
	resp, err := p.get(ctx, m, "catalog?"+q.Encode(), known)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusNotModified:
		return known, nil
	case http.StatusOK:
		return resp.Header.Get("ETag"), nil
	}
	text, _ := io.ReadAll(io.LimitReader(resp.Body, 1024))
	return "", fmt.Errorf("%s refused: %s", m.Name, strings.TrimSpace(string(text)))
}

// get asks a node something, over a connection of its own.
func (p *Pulls) get(ctx context.Context, m Member, what, known string) (*http.Response, error) {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	t := &http.Transport{DisableKeepAlives: true, DisableCompression: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return p.dial(ctx, m.ID)
	}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://peer/v1/"+what, nil)
	if err != nil {
		cancel()
		return nil, err
	}
	if known != "" {
		req.Header.Set("If-None-Match", known)
	}
	resp, err := t.RoundTrip(req)
	if err != nil {
		cancel()
		return nil, err
	}
	resp.Body = body{resp.Body, cancel}
	return resp, nil
}

// answerTime is how long a small question may take.
const answerTime = 30 * time.Second

// A body ends what its context holds when it is closed.
type body struct {
	io.ReadCloser
	cancel context.CancelFunc
}

// Close implements io.Closer.
func (b body) Close() error {
	defer b.cancel()
	return b.ReadCloser.Close()
}
