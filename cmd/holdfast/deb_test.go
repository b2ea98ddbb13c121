package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// The Debian package installs, starts, is upgraded, and is purged without a
// trace, in a copy of this machine that is thrown away. The program in it is
// this test.
func TestDebianPackage(t *testing.T) {
	if testing.Short() {
		t.Skip("takes half a minute")
	}
	t.Parallel()
	for _, tool := range []string{"dpkg", "dpkg-deb", "adduser", "unshare", "chroot", "runuser", "pkill"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("this machine cannot install Debian packages: %v", err)
		}
	}
	scripts, err := filepath.Abs("testdata/deb")
	if err != nil {
		t.Fatal(err)
	}
	inside := func(args ...string) *exec.Cmd {
		all := append([]string{"--mount", "--pid", "--fork", "--propagation", "private", "sh", filepath.Join(scripts, "overlay.sh"), t.TempDir(), filepath.Join(scripts, "life.sh")}, args...)
		cmd := exec.CommandContext(t.Context(), "unshare", all...)
		cmd.Env = append(os.Environ(), asHoldfast+"=1", "PBS_REPOSITORY=", "HOLDFAST_DATA=")
		return cmd
	}
	if out, err := inside("try").CombinedOutput(); err != nil {
		t.Skipf("this machine makes no copy of itself, which takes root and overlayfs: %v: %s", err, out)
	}
	out := t.TempDir()
	pack := exec.CommandContext(t.Context(), "../../packaging/deb.sh", os.Args[0], "v1.2.3-4-gabcdef", out)
	pack.Env = append(os.Environ(), asHoldfast+"=1", "DEB_COMPRESSION=none")
	if text, err := pack.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	made, err := filepath.Glob(filepath.Join(out, "holdfast_1.2.3+4.gabcdef_*.deb"))
	if err != nil || len(made) != 1 {
		t.Fatalf("the package is called otherwise: %q, %v", made, err)
	}
	text, err := inside(made[0]).CombinedOutput()
	if err != nil || strings.Contains(string(text), "FAIL") {
		t.Errorf("%v\n%s", err, text)
	}
	t.Logf("%s", text)
}
