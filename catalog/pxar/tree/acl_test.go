//go:build linux

package tree

import (
	"bytes"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/holdfast-mesh/holdfast/catalog/pxar/tree/inode"
	"golang.org/x/sys/unix"
)

// aclBytes puts an attribute together from "tag perm id" in hex, as setfacl
// on Linux left them.
func aclBytes(t testing.TB, text string) []byte {
	t.Helper()
	b, err := hex.DecodeString("02000000" + strings.ReplaceAll(text, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// A directory with a default ACL gives it to all that is made in it; what is
// extracted must have the permissions of the archive all the same.
func TestInheritedACLsAreNotExtracted(t *testing.T) {
	data, _ := archiveOf(t, plant(t, map[string]string{"a/b/x": "1", "f": "2", "there/x": "1"}), Options{})
	target := plant(t, map[string]string{"there/": ""})
	acl := aclBytes(t, "0100 0700 ffffffff 0200 0700 39300000 0400 0700 ffffffff 1000 0700 ffffffff 2000 0700 ffffffff")
	for _, dir := range []string{target, target + "/there"} {
		if err := unix.Setxattr(dir, inode.XattrDefaultACL, acl, 0); err != nil {
			t.Skipf("set an ACL: %v", err)
		}
	}
	mustExtract(t, data, target, ExtractOptions{AllowExistingDirs: true})
	if again, _ := archiveOf(t, target, Options{}); !bytes.Equal(again, data) {
		t.Errorf("archived again it is different:\n%q\nwant\n%q", again, data)
	}
	for _, name := range []string{"", "/a", "/f", "/a/b/x", "/there/x"} {
		for _, attr := range []string{inode.XattrAccessACL, inode.XattrDefaultACL} {
			if _, err := unix.Getxattr(target+name, attr, nil); err != unix.ENODATA {
				t.Errorf("%s of %q: %v", attr, name, err)
			}
		}
	}
}
