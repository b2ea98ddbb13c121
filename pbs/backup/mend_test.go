package backup_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/holdfast-mesh/holdfast/catalog/manifest"
	"github.com/holdfast-mesh/holdfast/catalog/naming"
	"github.com/holdfast-mesh/holdfast/chunks"
)

// A client in use leaves the checksum of its configuration empty, and ignores
// that the backup was refused (§13.13). What was sent is known, so its backup
// is kept; but nothing that is signed is touched, and nothing that is wrong.
func TestManifestWithoutAChecksum(t *testing.T) {
	blob := newPiece([]byte("cores: 2\n"), chunks.EncodeOptions{}).blob
	for i, tt := range []struct{ name, csum, more, want string }{
		{"empty", "", "", "200"},
		{"empty, and signed", "", `,"signature":"` + strings.Repeat("ab", 32) + `"`, "400 unable to update manifest blob"},
		{"wrong", strings.Repeat("ab", 32), "", "400 "},
		{"no checksum at all", "abc", "", "400 unable to update manifest blob"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newSite(t)
			c := s.connect("vm/100", int64(1000+i), "")
			defer c.Close()
			text := fmt.Sprintf(`{"backup-type":"vm","backup-id":"100","backup-time":%d,"files":[{"filename":"qemu-server.conf.blob","crypt-mode":"none","size":%d,"csum":%q,"of-tomorrow":1.50}],"unprotected":{}%s}`, 1000+i, len(blob)-chunks.PlainHeaderSize, tt.csum, tt.more)
			m := newPiece([]byte(text), chunks.EncodeOptions{}).blob
			for name, b := range map[string]chunks.Blob{"qemu-server.conf.blob": blob, "index.json.blob": m} {
				if a, err := c.Do("POST", fmt.Sprintf("/blob?file-name=%s&encoded-size=%d", name, len(b)), "application/octet-stream", b); err != nil || a.Status != 200 {
					t.Fatalf("%s: %v, %v", name, a, err)
				}
			}
			a, err := c.Do("POST", "/finish", "", nil)
			if got := fmt.Sprint(a.Status, " ", string(a.Body)); err != nil || !strings.HasPrefix(got, tt.want) {
				t.Fatalf("%s, %v; want %s", got, err, tt.want)
			}
			if tt.want != "200" {
				return
			}
			stored, err := s.Datastore.ReadBlob("", snapshotOf(t, "vm/100", int64(1000+i)), manifest.Name)
			if err != nil {
				t.Fatal(err)
			}
			plain, err := stored.Decode(nil, nil)
			if err != nil || !strings.Contains(string(plain), chunks.Sum(blob).String()) || !strings.Contains(string(plain), "1.50") {
				t.Errorf("stored: %s, %v", plain, err)
			}
		})
	}
}

func snapshotOf(t *testing.T, group string, at int64) naming.Snapshot {
	t.Helper()
	g, err := naming.ParseGroup(group)
	if err != nil {
		t.Fatal(err)
	}
	return naming.Snapshot{Group: g, Time: at}
}
