package notices

import (
	"encoding/base64"
	"errors"
	"fmt"
	"time"

	"github.com/holdfast-mesh/holdfast/jobs"
	"github.com/holdfast-mesh/holdfast/notify"
	"github.com/holdfast-mesh/holdfast/notify/mail"
	"github.com/holdfast-mesh/holdfast/notify/push"
	"github.com/holdfast-mesh/holdfast/notify/webhook"
	"github.com/holdfast-mesh/holdfast/pbs/api/notifications"
	"github.com/holdfast-mesh/holdfast/pbs/settings"
)

// most is the longest interval of a target.
const most = 7 * 24 * time.Hour

// recipient makes the recipient of what is set up, with its secrets by name.
func recipient(t settings.NotifyTarget, secrets map[string]string) (r notify.Recipient, err error) {
	r.Name = t.Name
	if t.Interval != "" {
		if r.Interval, err = settings.ParseAge(t.Interval); err == nil && r.Interval > most {
			err = fmt.Errorf("interval is %s, want a week at most", t.Interval)
		}
		if err != nil {
			return r, err
		}
	}
	switch t.Type {
	case settings.TargetSMTP:
		r.Target, err = mail.New(mail.Config{
			Server: t.Server, Port: t.Port, Mode: mail.Mode(t.Mode), Username: t.Username, Password: secrets[""],
			From: t.From, Author: t.Author, To: t.MailTo,
		})
	case settings.TargetGotify:
		r.Target, err = push.Gotify(t.Server, secrets[""])
	case settings.TargetNtfy:
		r.Target, err = push.Ntfy(t.Server, t.Topic, t.Username, secrets[""])
	case settings.TargetService:
		r.Target, err = push.New(secrets[""])
	case settings.TargetWebhook:
		r.Target, err = hook(t, secrets)
	default:
		err = fmt.Errorf("its type is %q, which this program does not know", t.Type)
	}
	return r, err
}

func hook(t settings.NotifyTarget, secrets map[string]string) (notify.Target, error) {
	body, err := base64.StdEncoding.DecodeString(t.Body)
	if err != nil {
		return nil, errors.New("the body is no base64")
	}
	c := webhook.Config{Method: t.Method, URL: t.URL, Body: string(body), Headers: map[string]string{}, Secrets: map[string]string{}}
	for _, text := range t.Header {
		name, value, err := notifications.Property(text)
		if err != nil {
			return nil, fmt.Errorf("header: %w", err)
		}
		c.Headers[name] = value
	}
	for _, text := range t.Secret {
		name, _, err := notifications.Property(text)
		if err != nil {
			return nil, fmt.Errorf("secret: %w", err)
		}
		if secrets[name] == "" {
			return nil, fmt.Errorf("the secret %s has no value", name)
		}
		c.Secrets[name] = secrets[name]
	}
	return webhook.New(c)
}

// matcher makes the matcher of what is set up.
func matcher(m settings.NotifyMatcher) (notify.Matcher, error) {
	out := notify.Matcher{Name: m.Name, Any: m.Mode == "any", Invert: m.Invert, Targets: m.Target}
	for _, text := range m.Severity {
		list, err := notify.ParseSeverities(text)
		if err != nil {
			return out, err
		}
		out.Severities = append(out.Severities, list)
	}
	for _, text := range m.Field {
		rule, err := notify.ParseFieldRule(text)
		if err != nil {
			return out, err
		}
		out.Fields = append(out.Fields, rule)
	}
	for _, text := range m.Calendar {
		w, err := jobs.ParseWindow(text)
		if err != nil {
			return out, err
		}
		out.Calendar = append(out.Calendar, func(at time.Time) bool { return w.Contains(at.Local()) })
	}
	return out, nil
}
