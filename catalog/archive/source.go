package archive

import (
	"fmt"
	"path"
	"regexp"
)

// A Kind says what a source is, and so how it is kept.
type Kind string

// The kinds of sources.
const (
	Tree  Kind = "pxar" // a directory and all that is below it
	Image Kind = "img"  // a file or block device, byte for byte
	Conf  Kind = "conf" // a small file
	Log   Kind = "log"  // a small file
)

// A Source is something to back up, and the name that it gets.
type Source struct {
	Name string // with the kind as suffix: "root.pxar"
	Kind Kind
	Path string
}

// sourceGrammar is the "backup spec" of PBS protocol notes §0.5.
var sourceGrammar = regexp.MustCompile(`(?s)^([a-zA-Z0-9_-]+\.(pxar|img|conf|log)):(.+)$`)

// ParseSource reads NAME.pxar:DIR, NAME.img:FILE, NAME.conf:FILE or
// NAME.log:FILE, as the command lines of PBS have it.
func ParseSource(s string) (Source, error) {
	m := sourceGrammar.FindStringSubmatch(s)
	if m == nil || m[1][0] == '-' || len(m[1]) > maxSourceName {
		return Source{}, &failure{
			text: fmt.Sprintf("parse backup source %q: want NAME.KIND:PATH", s),
			cure: "for example root.pxar:/ for a directory, disk.img:/dev/vg/disk for an image, etc.conf:/etc/fstab for a small file; NAME has letters, digits, - and _ only",
			kind: ErrSource,
		}
	}
	return Source{Name: m[1], Kind: Kind(m[2]), Path: m[3]}, nil
}

// maxSourceName is the longest name in bytes: with the suffix of the server
// it must be a file name.
const maxSourceName = 240

// String returns what ParseSource reads.
func (s Source) String() string { return s.Name + ":" + s.Path }

// Archive returns the name that the source's content has in a snapshot.
func (s Source) Archive() string { return ServerName(s.Name) }

// serverSuffixes says what is appended to the names that people use, by their
// last suffix.
var serverSuffixes = map[string]string{
	".pxar": ".didx", ".mpxar": ".didx", ".ppxar": ".didx", ".pcat1": ".didx", ".img": ".fidx",
	".conf": ".blob", ".log": ".blob", ".json": ".blob", ".key": ".blob",
	".didx": "", ".fidx": "", ".blob": "",
}

// ServerName completes the name of an archive, as PBS's client does (PBS
// protocol notes §4.3): "root.pxar" becomes "root.pxar.didx"; a name with no
// known suffix is that of a blob.
func ServerName(name string) string {
	suffix, ok := serverSuffixes[path.Ext(name)]
	if !ok {
		suffix = ".blob"
	}
	return name + suffix
}

// checkSources refuses what cannot become one snapshot.
func checkSources(all []Source) error {
	if len(all) == 0 {
		return &failure{text: "nothing to back up", cure: "name a source, for example root.pxar:/", kind: ErrSource}
	}
	seen := map[string]Source{}
	for _, s := range all {
		if parsed, err := ParseSource(s.String()); err != nil {
			return err
		} else if parsed != s {
			return &failure{text: fmt.Sprintf("back up %s: its kind is %q", s, s.Kind), kind: ErrSource}
		}
		if other, dup := seen[s.Name]; dup {
			return &failure{
				text: fmt.Sprintf("back up %s: %s has the same name", s, other),
				cure: "give each source a name of its own",
				kind: ErrSource,
			}
		}
		seen[s.Name] = s
	}
	return nil
}
