//go:build linux

package inode

import (
	"bytes"
	"encoding/hex"
	"os"
	"strings"
	"testing"

	"github.com/holdfast-mesh/holdfast/catalog/pxar"
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

func TestParseACL(t *testing.T) {
	a, err := parseACL(aclBytes(t, "0100 0700 ffffffff 0200 0500 e9030000 0200 0400 e8030000 0400 0500 ffffffff 0800 0100 64000000 1000 0700 ffffffff 2000 0000 ffffffff"))
	if err != nil {
		t.Fatal(err)
	}
	if a.userObj != 7 || a.groupObj != 5 || a.mask != 7 || a.other != 0 || len(a.users) != 2 || a.users[0] != (pxar.ACLEntry{ID: 1000, Perm: 4}) ||
		len(a.groups) != 1 || a.groups[0] != (pxar.ACLEntry{ID: 100, Perm: 1}) {
		t.Errorf("parsed %+v", a)
	}
	for name, bad := range map[string][]byte{
		"empty": nil, "cut": aclBytes(t, "0100 0700 ffff"), "version 3": {3, 0, 0, 0}, "tag 64": aclBytes(t, "4000 0700 ffffffff"),
	} {
		if a, err := parseACL(bad); err == nil {
			t.Errorf("%s: parsed %+v", name, a)
		}
	}
}

// FuzzParseACL checks that what is parsed is written again as the same
// entries, in the kernel's order.
func FuzzParseACL(f *testing.F) {
	f.Add(aclBytes(f, "0100 0700 ffffffff 0400 0500 ffffffff 2000 0000 ffffffff"))
	f.Add(aclBytes(f, "0100 0600 ffffffff 0200 0400 e8030000 0400 0500 ffffffff 1000 0700 ffffffff 2000 0000 ffffffff"))
	f.Add([]byte{2, 0, 0, 0})
	f.Fuzz(func(t *testing.T, value []byte) {
		a, err := parseACL(value)
		if err != nil {
			return
		}
		written, err := a.value()
		if err != nil {
			return // permissions beyond rwx
		}
		again, err := parseACL(written)
		if err != nil {
			t.Fatal(err)
		}
		if twice, err := again.value(); err != nil || !bytes.Equal(twice, written) || len(written) > len(value) {
			t.Errorf("%x is written %x, then %x, %v", value, written, twice, err)
		}
	})
}

// Users and groups without a mask come from writers other than the official
// one; the kernel would refuse them.
func TestACLWithoutMask(t *testing.T) {
	m := &pxar.Metadata{Mode: unix.S_IFREG | 0o640, ACL: pxar.ACL{Users: []pxar.ACLEntry{{ID: 5, Perm: 6}}}}
	a, ok, warning := accessACL(m)
	if !ok || warning == nil || a.mask != 4 || a.groupObj != 4 || a.userObj != 6 || a.other != 0 {
		t.Errorf("%+v, %v, %v", a, ok, warning)
	}
	f, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := setACL(int(f.Fd()), XattrAccessACL, a); err != nil && !Lacks(err) {
		t.Errorf("the kernel refuses it: %v", err)
	}
}
