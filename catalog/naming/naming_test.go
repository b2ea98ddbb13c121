package naming

import (
	"errors"
	"strings"
	"testing"
)

// A nameTest is a name and a part of the error it gives, "" if it is valid.
type nameTest struct{ about, name, err string }

func runNames(t *testing.T, check func(string) error, tests []nameTest) {
	t.Helper()
	for _, tt := range tests {
		t.Run(tt.about, func(t *testing.T) {
			err := check(tt.name)
			if tt.err == "" {
				if err != nil {
					t.Fatalf("check %q: %v", tt.name, err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tt.err) {
				t.Fatalf("check %q: error %v, want one with %q", tt.name, err, tt.err)
			}
			checkMessage(t, err)
		})
	}
}

// checkMessage checks what all errors of names promise: one line of a bounded
// length, and a cure.
func checkMessage(t *testing.T, err error) {
	t.Helper()
	if text := err.Error(); strings.ContainsAny(text, "\n\r\x00") || len(text) > 2000 {
		t.Errorf("error %q is not one short line", text)
	}
	var named *Error
	if !errors.As(err, &named) {
		t.Errorf("error %q is of type %T, want an *Error in it", err, err)
	} else if named.Hint() == "" {
		t.Errorf("error %q has no hint", err)
	}
}

func TestCheckID(t *testing.T) {
	runNames(t, CheckID, []nameTest{
		{"a number of a machine is valid", "100", ""},
		{"one character is enough", "_", ""},
		{"all kinds of characters are valid", "aZ0_.-", ""},
		{"two dots within a name are only dots", "a..b", ""},
		{"255 bytes fit into a directory", strings.Repeat("a", 255), ""},
		{"256 bytes do not fit into a directory", strings.Repeat("a", 256), "has 256 bytes"},
		{"an empty name names nothing", "", "is empty"},
		{"a dot would be the directory itself", ".", "begins with '.'"},
		{"two dots would be the directory above", "..", "begins with '.'"},
		{"a hidden file is not seen", ".hidden", "begins with '.'"},
		{"a dash at the beginning would be a flag", "-rf", "begins with '-'"},
		{"a slash would leave the directory", "a/b", "'/' at byte 1"},
		{"a backslash is for other systems", `a\b`, `'\\' at byte 1`},
		{"a NUL would end the name early", "a\x00b", `'\x00' at byte 1`},
		{"a newline at the end is not overlooked", "a\n", `'\n' at byte 1`},
		{"a letter of another alphabet is refused", "é", "'é' at byte 0"},
		{"a byte that is no character is refused at the end", "a\xff", "'�' at byte 1"},
	})
}

func TestCheckArchive(t *testing.T) {
	runNames(t, CheckArchive, []nameTest{
		{"an index of a stream", "root.pxar.didx", ""},
		{"an index of an image", "drive-scsi0.img.fidx", ""},
		{"a blob", "qemu-server.conf.blob", ""},
		{"the name of a client lacks what it is", "root.pxar", "does not end in"},
		{"capitals are another suffix", "root.pxar.DIDX", "does not end in"},
		{"a suffix alone begins with a dot", ".blob", "begins with '.'"},
		{"a temporary file is none", "root.pxar.tmp_didx", "does not end in"},
		{"a path is no name", "../index.json.blob", "begins with '.'"},
		{"a path below is no name either", "a/index.json.blob", "'/' at byte 1"},
	})
}

func TestCheckStoreName(t *testing.T) {
	runNames(t, CheckStoreName, []nameTest{
		{"three characters are enough", "abc", ""},
		{"32 characters are the most", strings.Repeat("s", 32), ""},
		{"two are too few", "ab", "want at least 3"},
		{"33 are too many", strings.Repeat("s", 33), "want at most 32"},
		{"a colon would begin a namespace", "store:ns", "':' at byte 5"},
	})
}

func TestCheckAuthID(t *testing.T) {
	runNames(t, CheckAuthID, []nameTest{
		{"the superuser", "root@pam", ""},
		{"a token", "backup@pbs!tok1", ""},
		{"a name may be a mail address", "me@example.org@ldap", ""},
		{"a name may have an exclamation mark", "who!@pbs", ""},
		{"a name may be in any alphabet", "jürgen@pbs", ""},
		{"characters are counted, not bytes", strings.Repeat("ü", 60) + "@pbs", ""},
		{"65 characters are too many", strings.Repeat("u", 61) + "@pbs", "has 65 characters"},
		{"a realm is needed", "root", "has no realm"},
		{"a name is needed", "@pam", "has no name"},
		{"a realm has two characters", "a@b", "want at least 2"},
		{"a realm has 32 characters at most", "a@" + strings.Repeat("r", 33), "want at most 32"},
		{"a token has three characters", "a@pbs!xy", "want at least 3"},
		{"a token has 64 characters at most", "a@pbs!" + strings.Repeat("t", 65), "want at most 64"},
		{"an exclamation mark announces a token", "a@pbs!", "token name"},
		{"a token has no exclamation mark", "a@pbs!tok!tok", "'!' at byte 3"},
		{"a second line would forge another owner", "a@pbs\nb", `'\n' at byte 3`},
		{"white space of any alphabet is refused", "a\u00a0b@pbs", `'\u00a0' at byte 1`},
		{"a colon would end the name in a ticket", "a:b@pbs", "':' at byte 1"},
		{"a blank at the beginning is refused too", " a@pbs", "' ' at byte 0"},
		{"a slash would end the name in a path", "a/b@pbs", "'/' at byte 1"},
		{"control characters are refused", "a\x1bb@pbs", `'\x1b' at byte 1`},
		{"bytes that are no characters are refused", "a\xff@pbs", "not UTF-8"},
	})
}

func TestErrorsShowOnlyTheBeginningOfWhatTheyWereGiven(t *testing.T) {
	long := strings.Repeat("/", 1<<20)
	for _, check := range []func(string) error{
		CheckID, CheckArchive, CheckAuthID,
		func(s string) error { _, err := ParseNamespace(s); return err },
		func(s string) error { _, err := ParseSnapshot(s); return err },
		func(s string) error { _, err := ParseGroup("vm/" + s); return err },
		func(s string) error { _, err := ParseTime(s); return err },
		func(s string) error { _, err := ParseFilter("group:" + s); return err },
	} {
		err := check(long)
		if err == nil {
			t.Fatal("a million slashes are a valid name")
		}
		checkMessage(t, err)
	}
}
