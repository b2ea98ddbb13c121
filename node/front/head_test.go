package front

import (
	"bufio"
	"bytes"
	"net/http"
	"strings"
	"testing"
)

func TestHead(t *testing.T) {
	tests := []struct{ name, in, want string }{
		{"a request without a Host line gets one", "GET / HTTP/1.1\r\nA: b\r\n\r\n", "GET / HTTP/1.1\r\nA: b\r\nHost:\r\n\r\n"},
		{"one without any line too", "GET / HTTP/1.1\r\n\r\n", "GET / HTTP/1.1\r\nHost:\r\n\r\n"},
		{"lines may end in a bare newline", "GET / HTTP/1.1\nA: b\n\n", "GET / HTTP/1.1\nA: b\nHost:\r\n\n"},
		{"one with a Host line stays as it is", "GET / HTTP/1.1\r\nhOsT: x\r\n\r\n", "GET / HTTP/1.1\r\nhOsT: x\r\n\r\n"},
		{"HTTP/1.0 needs none", "GET / HTTP/1.0\r\n\r\n", "GET / HTTP/1.0\r\n\r\n"},
		{"what is no request stays as it is", "hello\r\n\r\n", "hello\r\n\r\n"},
		{"a lone CR is passed on", "GET / HTTP/1.1\r\n\rA\r\n\r\n", "GET / HTTP/1.1\r\n\rA\r\nHost:\r\n\r\n"},
		{"what follows the head is not looked at", "POST / HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.1\r\n\r\n", "POST / HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.1\r\n\r\n"},
		{"a name that only begins with Host is another", "GET / HTTP/1.1\r\nHostile: x\r\n\r\n", "GET / HTTP/1.1\r\nHostile: x\r\nHost:\r\n\r\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for size := 1; size <= len(tt.in); size++ { // however the bytes come
				if got := fed(tt.in, size); got != tt.want {
					t.Fatalf("%q in parts of %d: got %q, want %q", tt.in, size, got, tt.want)
				}
			}
		})
	}
}

// fed returns what a head makes of text that comes in parts of size bytes.
func fed(text string, size int) string {
	var h head
	var out []byte
	for len(text) > 0 {
		n := min(size, len(text))
		out = h.feed(out, []byte(text[:n]))
		text = text[n:]
	}
	return string(h.release(out))
}

// FuzzHead: nothing is lost or changed but for one line, however the bytes
// come, and what net/http accepted before it still reads as the same request.
func FuzzHead(f *testing.F) {
	for _, s := range []string{
		"GET /api2/json/backup?x=1 HTTP/1.1\r\nUpgrade: proxmox-backup-protocol-v1\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a\r\n\r\nbody", "\r\n\r\nGET / HTTP/1.1\r\n\r\n", "POST / HTTP/1.1\nhost:\n\n", "A B HTTP/1.1\r\n\r\r\n\n",
	} {
		f.Add(s, 3)
	}
	f.Fuzz(func(t *testing.T, text string, size int) {
		whole := fed(text, max(len(text), 1))
		if parts := fed(text, 1+abs(size)%64); parts != whole {
			t.Fatalf("in parts %q, at once %q", parts, whole)
		}
		if whole != text && strings.Replace(whole, added, "", 1) != text {
			t.Fatalf("%q became %q", text, whole)
		}
		before, err := http.ReadRequest(bufio.NewReader(strings.NewReader(text)))
		if err != nil {
			return
		}
		after, err := http.ReadRequest(bufio.NewReader(strings.NewReader(whole)))
		if err != nil || after.RequestURI != before.RequestURI || after.Host != before.Host || len(after.Header) != len(before.Header) {
			t.Fatalf("%q: %v became %v, %v", text, before, after, err)
		}
		if before.ProtoMajor == 1 && before.ProtoMinor == 1 && !bytes.Contains(bytes.ToLower([]byte(whole)), []byte("host:")) && strings.ToUpper(before.Method) == before.Method && isToken(before.Method) {
			t.Fatalf("%q has no Host line after all", whole)
		}
	})
}

func isToken(s string) bool {
	return s != "" && strings.Trim(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") == ""
}

func abs(n int) int {
	if n < 0 {
		return -(n + 1)
	}
	return n
}
