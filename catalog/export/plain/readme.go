package plain

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/holdfast-mesh/holdfast/catalog"
)

// readme writes how a snapshot is restored with tools that every Linux has.
func readme(w io.Writer, m *catalog.Manifest, r Report) error {
	var b strings.Builder
	fmt.Fprintf(&b, "Backup %s, exported by Holdfast.\n\n", m.Snapshot())
	b.WriteString("These are plain files. No backup software is needed to read them.\n\n")
	b.WriteString("1. Check that nothing was damaged since:\n\n       sha256sum --check " + sumsName + "\n")
	var trees, images []string
	for _, f := range r.Files {
		_, isTree := cutTree(f.From)
		switch {
		case strings.HasSuffix(f.From, ".fidx"):
			images = append(images, fmt.Sprintf("       dd if=%s of=/dev/DISK bs=4M conv=fsync\n       cp --sparse=always %s FILE\n", f.Name, f.Name))
		case isTree:
			trees = append(trees, fmt.Sprintf("       tar --extract --file=%s --directory=TARGET \\\n"+
				"           --preserve-permissions --same-owner --numeric-owner --acls --xattrs --xattrs-include='*'\n", f.Name))
		}
	}
	section(&b, "2. Restore a directory, as root, into an existing directory TARGET:", trees)
	section(&b, "3. Restore a disk image, to a block device or to a file:", images)
	b.WriteString("\nThe other files are what they were. index.json says what the backup consisted of.\n" +
		"Tar keeps names, contents, owners, modes, times, links, devices, extended attributes,\n" +
		"capabilities and ACLs; it does not keep inode flags (chattr), project ids and sockets.\n")
	for _, name := range slices.Sorted(maps.Keys(r.Trees)) {
		t := r.Trees[name]
		if t.Skipped+t.Dropped > 0 {
			fmt.Fprintf(&b, "%s: %d sockets left out, %d entries without their flags.\n", name, t.Skipped, t.Dropped)
		}
	}
	section(&b, "Content that could not be read, and is zero or missing here:", r.Damaged)
	_, err := io.WriteString(w, b.String())
	return err
}

func section(b *strings.Builder, title string, lines []string) {
	if len(lines) == 0 {
		return
	}
	b.WriteString("\n" + title + "\n\n")
	for _, l := range lines {
		b.WriteString(strings.TrimSuffix(l, "\n") + "\n")
	}
}
