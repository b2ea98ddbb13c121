package manifest

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
)

// appendCanonical appends the form of v that is signed (§5.6): members sorted
// by the bytes of their names, no white space.
func appendCanonical(b []byte, v any) []byte {
	return appendValue(b, v, func(b []byte, _ int) []byte { return b }, ":", 0)
}

// appendPretty appends v as serde_json writes it for people: members sorted, two
// blanks for each level, nothing between the brackets of what is empty.
func appendPretty(b []byte, v any) []byte {
	newline := func(b []byte, level int) []byte {
		b = append(b, '\n')
		for range level {
			b = append(b, "  "...)
		}
		return b
	}
	return appendValue(b, v, newline, ": ", 0)
}

func appendValue(b []byte, v any, newline func([]byte, int) []byte, colon string, level int) []byte {
	switch v := v.(type) {
	case nil:
		return append(b, "null"...)
	case bool:
		return strconv.AppendBool(b, v)
	case json.Number:
		return append(b, v...)
	case string:
		return appendString(b, v)
	case []any:
		b = append(b, '[')
		for i, element := range v {
			b = newline(comma(b, i), level+1)
			b = appendValue(b, element, newline, colon, level+1)
		}
		if len(v) > 0 {
			b = newline(b, level)
		}
		return append(b, ']')
	case object:
		b = append(b, '{')
		for i, name := range slices.Sorted(maps.Keys(v)) {
			b = newline(comma(b, i), level+1)
			b = append(appendString(b, name), colon...)
			b = appendValue(b, v[name], newline, colon, level+1)
		}
		if len(v) > 0 {
			b = newline(b, level)
		}
		return append(b, '}')
	}
	panic(fmt.Sprintf("a JSON value of type %T, which nothing in this package makes", v))
}

func comma(b []byte, i int) []byte {
	if i > 0 {
		return append(b, ',')
	}
	return b
}

// appendString escapes what JSON demands and nothing else, as serde_json does:
// encoding/json would escape U+2028 as well, and a signature would not fit.
func appendString(b []byte, s string) []byte {
	const hex = "0123456789abcdef"
	b = append(b, '"')
	for i := range len(s) {
		switch c := s[i]; c {
		case '"', '\\':
			b = append(b, '\\', c)
		case '\b':
			b = append(b, `\b`...)
		case '\f':
			b = append(b, `\f`...)
		case '\n':
			b = append(b, `\n`...)
		case '\r':
			b = append(b, `\r`...)
		case '\t':
			b = append(b, `\t`...)
		default:
			if c < ' ' {
				b = append(b, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
			} else {
				b = append(b, c)
			}
		}
	}
	return append(b, '"')
}

// hasNull reports whether a null is anywhere in v.
func hasNull(v any) bool {
	switch v := v.(type) {
	case nil:
		return true
	case []any:
		return slices.ContainsFunc(v, hasNull)
	case object:
		for _, member := range v {
			if hasNull(member) {
				return true
			}
		}
	}
	return false
}
