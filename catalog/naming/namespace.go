package naming

import (
	"fmt"
	"strings"
)

// A Namespace is a place for groups within a datastore: components joined by
// "/", at most [MaxDepth] of them. The root is "". Namespaces of equal spelling
// are equal; make others with [ParseNamespace] and [Namespace.Child] only.
type Namespace string

// ParseNamespace reads a namespace. Neither a leading nor a trailing nor a
// double slash is allowed.
func ParseNamespace(s string) (Namespace, error) {
	if s == "" {
		return "", nil
	}
	if len(s) > MaxNamespace {
		return "", tooLong(s)
	}
	depth := 0
	for name := range strings.SplitSeq(s, "/") {
		depth++
		if err := checkSafe("namespace component", name, 1, MaxNamespace); err != nil {
			return "", fmt.Errorf("namespace %.100q: %w", s, err)
		}
	}
	if depth > MaxDepth {
		return "", tooDeep(s, depth)
	}
	return Namespace(s), nil
}

func tooLong(s string) error {
	return &Error{"namespace", s, fmt.Sprintf("has %d bytes, want at most %d", len(s), MaxNamespace), "choose shorter names"}
}

func tooDeep(s string, depth int) error {
	return &Error{"namespace", s, fmt.Sprintf("has %d levels, want at most %d", depth, MaxDepth), "put it higher up in the tree"}
}

// CheckComponent checks what a namespace that is made anew is called below
// its parent: a safe id of 1 to [MaxComponent] bytes. Longer names may exist,
// as PBS checks the length only there, and are read.
func CheckComponent(name string) error {
	return checkSafe("namespace component", name, 1, MaxComponent)
}

// Components returns the names from the root down; none for the root.
func (n Namespace) Components() []string {
	if n == "" {
		return nil
	}
	return strings.Split(string(n), "/")
}

// Depth returns the number of components, 0 for the root.
func (n Namespace) Depth() int {
	if n == "" {
		return 0
	}
	return 1 + strings.Count(string(n), "/")
}

// Parent returns the namespace above, and false for the root.
func (n Namespace) Parent() (Namespace, bool) {
	return n[:max(0, strings.LastIndexByte(string(n), '/'))], n != ""
}

// Child returns the namespace called name below n. It fails if name is no
// component, or the result too deep or too long.
func (n Namespace) Child(name string) (Namespace, error) {
	if strings.Contains(name, "/") || name == "" {
		return "", checkSafe("namespace component", name, 1, MaxNamespace)
	}
	return ParseNamespace(n.join(name))
}

// join returns n with rest below it, unchecked.
func (n Namespace) join(rest string) string {
	if n == "" || rest == "" {
		return string(n) + rest
	}
	return string(n) + "/" + rest
}

// Path returns the directory of n below that of the datastore, "ns/a/ns/b" for
// "a/b", and "" for the root (PBS protocol notes §5.8).
func (n Namespace) Path() string {
	if n == "" {
		return ""
	}
	return "ns/" + strings.ReplaceAll(string(n), "/", "/ns/")
}

// Contains reports whether o is n or lies below it.
func (n Namespace) Contains(o Namespace) bool {
	rest, ok := strings.CutPrefix(string(o), string(n))
	return ok && (n == "" || rest == "" || rest[0] == '/')
}

// Map returns where n is found after the tree under from was put under to:
// "a/b/c" from "a/b" to "x" is "x/c". It fails if n is not in that tree, or
// the result too deep or too long.
func (n Namespace) Map(from, to Namespace) (Namespace, error) {
	if !from.Contains(n) {
		return "", fmt.Errorf("namespace %q is not below %q", n, from)
	}
	rest := strings.TrimPrefix(string(n[len(from):]), "/")
	mapped, err := ParseNamespace(to.join(rest))
	if err != nil {
		return "", fmt.Errorf("map namespace %q from %q to %q: %w", n, from, to, err)
	}
	return mapped, nil
}

// MarshalText and UnmarshalText let a namespace stand in JSON and flags.
func (n Namespace) MarshalText() ([]byte, error) { return []byte(n), nil }

// UnmarshalText reads what [ParseNamespace] reads.
func (n *Namespace) UnmarshalText(text []byte) (err error) {
	parsed, err := ParseNamespace(string(text))
	if err == nil {
		*n = parsed
	}
	return err
}
