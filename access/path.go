package access

import "strings"

const (
	// maxNamespaces is how deep namespaces nest (PBS protocol notes §0.5).
	maxNamespaces = 7
	// maxPath holds a remote, its store and the longest namespace of 256
	// bytes, with room to spare.
	maxPath = 512
	// maxComponent is the longest name of a directory.
	maxComponent = 255
)

// pathGrammar has every longest ACL path (PBS protocol notes §7.1); "*" is
// any safe id. What a pattern begins with is a path too.
var pathGrammar = func() (patterns [][]string) {
	namespaces := strings.Repeat("/*", maxNamespaces)
	for _, p := range []string{
		"access/acl", "access/users", "access/domains", "access/openid/*",
		"datastore/*" + namespaces,
		"remote/*/*" + namespaces,
		"system/certificates", "system/disks", "system/log", "system/notifications",
		"system/status", "system/encryption-keys/*", "system/tasks", "system/time",
		"system/services/*", "system/network/dns", "system/network/interfaces/*",
		"tape/device/*", "tape/pool/*", "tape/job/*",
	} {
		patterns = append(patterns, strings.Split(p, "/"))
	}
	return patterns
}()

// ParsePath returns an ACL path in its one spelling: a slash before every
// component and none at the end, "/" for the root. Doubled and trailing
// slashes are dropped; a path outside the tree of §7.1 is [ErrInvalid].
func ParsePath(s string) (string, error) {
	if len(s) > maxPath || !strings.HasPrefix(s, "/") {
		return "", invalidPath(s)
	}
	path := joinPath(s)
	if path == "/" {
		return path, nil
	}
	parts := strings.Split(path[1:], "/")
	for _, part := range parts {
		if !isSafeID(part, 1, maxComponent) {
			return "", invalidPath(s)
		}
	}
	for _, pattern := range pathGrammar {
		if begins(pattern, parts) {
			return path, nil
		}
	}
	return "", invalidPath(s)
}

func invalidPath(s string) error {
	return &Error{
		Kind: ErrInvalid, Text: "invalid acl path " + singleQuote(s) + ".",
		Cure: "paths begin with /access, /datastore, /remote, /system or /tape, as in /datastore/STORE/NAMESPACE",
	}
}

func begins(pattern, parts []string) bool {
	if len(parts) > len(pattern) {
		return false
	}
	for i, part := range parts {
		if pattern[i] != "*" && pattern[i] != part {
			return false
		}
	}
	return true
}

// joinPath makes one path of parts, each of which may have slashes in it or
// be empty, as the root namespace is.
func joinPath(parts ...string) string {
	var b strings.Builder
	for _, part := range parts {
		for c := range strings.SplitSeq(part, "/") {
			if c != "" {
				b.WriteByte('/')
				b.WriteString(c)
			}
		}
	}
	if b.Len() == 0 {
		return "/"
	}
	return b.String()
}

// above yields the paths that path lies in, from "/" down, without itself.
func above(path string) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		if path == "/" || !yield("/") {
			return
		}
		for i := 1; i < len(path); i++ {
			if path[i] == '/' && !yield(path[:i]) {
				return
			}
		}
	}
}

// isBelow tells whether path lies in dir, or is it.
func isBelow(path, dir string) bool {
	if dir == "/" || path == dir {
		return true
	}
	return len(path) > len(dir) && path[len(dir)] == '/' && strings.HasPrefix(path, dir)
}
