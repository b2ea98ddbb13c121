package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net"
	"net/mail"
	"strings"
	"time"

	"github.com/emersion/go-smtp"
)

// schedule gives sites more to do by themselves, and prints when all of it runs.
func (d *demo) schedule(ctx context.Context) error {
	dc := d.site("dc")
	for _, args := range [][]string{
		{"datastore", "update", storeName, "--gc-schedule", "sat 02:00"},
		{"job", "create", "prune", "daily", "--store", storeName, "--schedule", "daily", "--keep-daily", "7", "--keep-weekly", "4"},
		{"job", "create", "verify", "nightly", "--store", storeName, "--schedule", "22:00", "--outdated-after", "30"},
		{"job", "rule", "nightly", "--window", "22-6", "--stagger"},
		{"job", "plan", "daily"},
	} {
		if _, err := d.must(d.operator(ctx, args...)); err != nil {
			return err
		}
	}
	for _, args := range [][]string{
		{"job", "create", "prune", "copies", "--store", storeName, "--ns", copiesNS, "--schedule", "05:00", "--keep-daily", "30"},
		{"job", "pause", "home-to-dc"},
		{"job", "why", "home-to-dc"},
		{"job", "resume", "home-to-dc"},
		{"job", "history", "home-to-dc"},
	} {
		if _, err := d.must(d.at(ctx, dc, args...)); err != nil {
			return err
		}
	}
	out := ""
	err := d.wait(ctx, time.Minute, "home knows the jobs of dc", func() bool {
		b, err := d.operator(ctx, "job", "calendar", "--hours", "168").Output()
		out = string(b)
		return err == nil && strings.Contains(out, "sync:home-to-dc") && strings.Contains(out, "prune:copies")
	})
	if err != nil {
		return err
	}
	fmt.Println("  the first two days of the week to come:")
	if _, err := d.must(d.operator(ctx, "job", "calendar", "--hours", "48")); err != nil {
		return err
	}
	d.say("one table has the times of the jobs of all sites, and which get in each other's way")
	return nil
}

// A mailbox is an SMTP server that keeps what it gets.
type mailbox struct{ got chan []byte }

func (m mailbox) NewSession(*smtp.Conn) (smtp.Session, error) { return m, nil }
func (mailbox) Mail(string, *smtp.MailOptions) error          { return nil }
func (mailbox) Rcpt(string, *smtp.RcptOptions) error          { return nil }
func (mailbox) Reset()                                        {}
func (mailbox) Logout() error                                 { return nil }

func (m mailbox) Data(r io.Reader) error {
	b, err := io.ReadAll(r)
	if err == nil {
		m.got <- b
	}
	return err
}

// mails lets a job fail, and prints the mail that a person gets of it.
func (d *demo) mails(ctx context.Context) error {
	box := mailbox{make(chan []byte, 16)}
	srv := smtp.NewServer(box)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- srv.Serve(l) }()
	defer func() { _ = srv.Close(); <-ended }()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	dc := d.site("dc")
	for _, args := range [][]string{
		{"notify", "target", "create", "smtp", "mail", "--server", "127.0.0.1", "--port", port, "--mode", "insecure", "--from-address", "backup@example.org", "--mailto", "you@example.org"},
		{"notify", "matcher", "create", "bad", "--severity", "warning,error", "--target", "mail"},
		{"job", "create", "pull", "forgotten", "--remote", "home", "--remote-store", "old-disk", "--store", storeName, "--ns", "forgotten"},
	} {
		if _, err := d.must(d.at(ctx, dc, args...)); err != nil {
			return err
		}
	}
	if status, _, err := d.holdfast(d.at(ctx, dc, "job", "run", "forgotten")); err != nil || status != 1 {
		return fmt.Errorf("a pull of a datastore that is not there ended with status %d: %w", status, err)
	}
	select {
	case raw := <-box.got:
		text, err := readable(raw)
		if err != nil {
			return fmt.Errorf("the mail makes no sense: %w", err)
		}
		for line := range strings.Lines(text) {
			fmt.Print("  | " + line)
		}
		fmt.Println()
		if !strings.Contains(text, "forgotten") {
			return errors.New("the mail does not say which job has failed")
		}
	case <-time.After(3 * time.Minute):
		return errors.New("no mail came")
	case <-ctx.Done():
		return ctx.Err()
	}
	for _, args := range [][]string{{"notify", "status"}, {"job", "remove", "forgotten"}, {"notify", "matcher", "remove", "bad"}, {"notify", "target", "remove", "smtp", "mail"}} {
		if _, err := d.must(d.at(ctx, dc, args...)); err != nil {
			return err
		}
	}
	d.say("a job that failed was told by mail, once")
	return nil
}

// readable is a mail as a person reads it.
func readable(raw []byte) (string, error) {
	m, err := mail.ReadMessage(bytes.NewReader(raw))
	if err != nil {
		return "", err
	}
	var out strings.Builder
	for _, h := range []string{"From", "To", "Subject"} {
		text, err := new(mime.WordDecoder).DecodeHeader(m.Header.Get(h))
		if err != nil {
			return "", err
		}
		fmt.Fprintf(&out, "%s: %s\n", h, text)
	}
	out.WriteString("\n")
	kind, params, err := mime.ParseMediaType(m.Header.Get("Content-Type"))
	body, encoding := m.Body, m.Header.Get("Content-Transfer-Encoding")
	if err == nil && strings.HasPrefix(kind, "multipart/") {
		part, err := multipart.NewReader(m.Body, params["boundary"]).NextRawPart()
		if err != nil {
			return "", err
		}
		body, encoding = part, part.Header.Get("Content-Transfer-Encoding")
	}
	if strings.EqualFold(encoding, "quoted-printable") {
		body = quotedprintable.NewReader(body)
	}
	text, err := io.ReadAll(body)
	out.Write(bytes.ReplaceAll(text, []byte("\r\n"), []byte("\n")))
	return out.String(), err
}
