package identity

import (
	"errors"
	"testing"

	"github.com/holdfast-mesh/holdfast/chunks/disk"
	"github.com/holdfast-mesh/holdfast/chunks/disk/disktest"
)

// FuzzIdentity reads the file that makes a directory a store. What it accepts
// can be used; what it refuses comes with a hint, and nothing is changed.
func FuzzIdentity(f *testing.F) {
	f.Add([]byte(`{"format":"holdfast-store","version":1,"id":"0123456789abcdef0123456789abcdef","created":"2025-11-21T03:00:00Z","pack-bytes":67108864}`))
	f.Add([]byte(`{"format":"holdfast-store","version":2}`))
	f.Add([]byte(`{"format":"holdfast-store","version":1,"id":"xyz"}`))
	f.Add([]byte(`{"format":"holdfast-store","version":-1,"pack-bytes":16777216}`))
	f.Add([]byte(`[]`))
	f.Fuzz(func(t *testing.T, text []byte) {
		m := disktest.NewMem()
		if err := m.Mkdir("/store", 0o700); err != nil {
			t.Fatal(err)
		}
		if err := disk.WriteFileAtomic(m, "/store/"+File, text, 0o600); err != nil {
			t.Fatal(err)
		}
		before := m.Ops()
		id, err := Read(m, "/store")
		if m.Ops() > before+10 {
			t.Errorf("reading took %d operations", m.Ops()-before)
		}
		if err == nil {
			if id.PackBytes < MinPackBytes || id.PackBytes > MaxPackBytes || id.Version > identityVersion || id.Format != identityFormat {
				t.Fatalf("%q is accepted as %+v", text, id)
			}
			return
		}
		if refused := (*OpenError)(nil); !errors.As(err, &refused) || refused.Dir != "/store" || len(text) <= 64<<10 && refused.Hint() == "" {
			t.Fatalf("%q is refused without a hint: %v", text, err)
		}
	})
}
