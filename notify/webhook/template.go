package webhook

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strings"

	"github.com/holdfast-mesh/holdfast/notify"
)

// A Template is a text with places that are filled in: {{ NAME }} or
// {{ HELPER NAME }}. Names are title, message, severity, timestamp (Unix
// seconds), count, fields.NAME and secrets.NAME; helpers are json (a JSON text
// with its quotes), escape (the same without them) and url-encode. A field that a
// message does not have is empty; fields alone is all of them, for json.
type Template struct{ parts []part }

// A part is a text or, with a name, a place.
type part struct {
	text, helper, name string
}

// Parse reads a template.
func Parse(text string) (*Template, error) {
	t := &Template{}
	for {
		before, rest, found := strings.Cut(text, "{{")
		t.parts = append(t.parts, part{text: before})
		if !found {
			return t, nil
		}
		inside, after, found := strings.Cut(rest, "}}")
		if !found {
			return nil, fmt.Errorf("{{ in front of %.20q is not closed", rest)
		}
		words := strings.Fields(strings.Trim(inside, "{}")) // {{{ name }}} is the same
		switch len(words) {
		case 1:
			t.parts = append(t.parts, part{name: words[0]})
		case 2:
			if _, known := helpers[words[0]]; !known {
				return nil, fmt.Errorf("there is no helper %q, but json, escape and url-encode", words[0])
			}
			t.parts = append(t.parts, part{helper: words[0], name: words[1]})
		default:
			return nil, fmt.Errorf("{{%.40s}} is neither NAME nor HELPER NAME", inside)
		}
		text = strings.TrimPrefix(after, "}")
		if !strings.HasPrefix(inside, "{") {
			text = after
		}
	}
}

var helpers = map[string]func(any) string{
	"json":       func(v any) string { return jsonText(v) },
	"escape":     func(v any) string { return strings.Trim(jsonText(fmt.Sprint(v)), `"`) },
	"url-encode": func(v any) string { return url.QueryEscape(fmt.Sprint(v)) },
}

func jsonText(v any) string {
	text, _ := json.Marshal(v) // texts and numbers
	return string(text)
}

// Data is what a message fills in.
func Data(m notify.Message, secrets map[string]string) map[string]any {
	fields := m.Fields
	if fields == nil {
		fields = map[string]string{}
	}
	data := map[string]any{
		"title": m.Subject, "message": m.Text, "severity": string(m.Severity), "timestamp": m.Time.Unix(), "count": m.Count, "fields": fields,
	}
	for name, value := range fields {
		data["fields."+name] = value
	}
	for name, value := range secrets {
		data["secrets."+name] = value
	}
	return data
}

// Fill fills the places in.
func (t *Template) Fill(data map[string]any) (string, error) {
	var b strings.Builder
	for _, p := range t.parts {
		if p.name == "" {
			b.WriteString(p.text)
			continue
		}
		value, known := data[p.name]
		if !known && !strings.HasPrefix(p.name, "fields.") {
			return "", fmt.Errorf("nothing is called %q", p.name)
		}
		if !known {
			value = ""
		}
		if help := helpers[p.helper]; help != nil {
			b.WriteString(help(value))
		} else {
			b.WriteString(plain(value))
		}
	}
	return b.String(), nil
}

func plain(v any) string {
	if fields, is := v.(map[string]string); is {
		return jsonText(fields)
	}
	return fmt.Sprint(v)
}
