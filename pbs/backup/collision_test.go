package backup_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/holdfast-mesh/holdfast/chunks"
)

// upload sends a blob under a digest that need not be its own.
func upload(t *testing.T, s *site, group string, digest chunks.Digest, size int, blob chunks.Blob) string {
	t.Helper()
	c := s.connect(group, 3000, "")
	defer c.Close()
	if a, err := c.Do("POST", "/dynamic_index?archive-name=x.pxar.didx", "", nil); err != nil || a.Status != 200 {
		t.Fatalf("%v, %v", a, err)
	}
	a, err := c.Do("POST", fmt.Sprintf("/dynamic_chunk?wid=1&digest=%s&size=%d&encoded-size=%d", digest, size, len(blob)), "application/octet-stream", blob)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint(a.Status, " ", string(a.Body))
}

// Nobody can see whether an encrypted chunk came under its own name. If one
// that did not stood for the plain chunk of that name, everybody who backs that
// up later would have a backup that cannot be restored.
func TestEncryptedChunkUnderThePlainName(t *testing.T) {
	s := newSite(t)
	plain := newPiece([]byte("what everybody has"), chunks.EncodeOptions{})
	poison := newPiece([]byte("not what it is said"), chunks.EncodeOptions{Key: testKey})
	for _, length := range []string{"another length", "the same length"} {
		if length == "the same length" {
			plain = newPiece([]byte(strings.Repeat("what all have", 10)), chunks.EncodeOptions{})
			poison = newPiece([]byte(strings.Repeat("x", plain.size-32)), chunks.EncodeOptions{Key: testKey})
		}
		if got := upload(t, s, "host/evil", plain.digest, poison.size, poison.blob); !strings.HasPrefix(got, "200") {
			t.Fatalf("%s: the first under a name is believed: %s", length, got)
		}
		s.Wait()
		if got := upload(t, s, "host/good", plain.digest, plain.size, plain.blob); !strings.HasPrefix(got, "200") {
			t.Fatalf("%s: the plain one: %s", length, got)
		}
		s.Wait()
		b, err := s.Datastore.Chunks().Get(t.Context(), plain.digest, nil)
		if err != nil || string(b) != string(plain.blob) {
			t.Errorf("%s: the store has %d bytes of another kind, %v", length, len(b), err)
		}
		got := upload(t, s, "host/evil", plain.digest, poison.size, poison.blob)
		if !strings.HasPrefix(got, "400") || !strings.Contains(got, "not encrypted") {
			t.Errorf("%s: the encrypted one again: %s", length, got)
		}
		s.Wait()
		if b, err := s.Datastore.Chunks().Get(t.Context(), plain.digest, nil); err != nil || string(b) != string(plain.blob) {
			t.Errorf("%s: the plain one is gone: %v", length, err)
		}
	}
}
