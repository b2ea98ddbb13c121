package ahead

import (
	"fmt"
	"strings"
	"testing"
)

// What lies close together comes with one request; so does a pack of which most
// is wanted, and another of which half is does not.
func TestStretches(t *testing.T) {
	for _, tt := range []struct{ name, wants, want string }{
		{"nothing", "", ""},
		{"one", "1:0", "1:0"},
		{"neighbours", "1:1 1:0 1:2", "1:0,1,2"},
		{"a gap that is worth it", "1:0 1:2", "1:0,2"},
		{"a gap that is not", "1:0 1:4", "1:0 1:4"},
		{"two packs", "2:0 1:9 1:8", "1:8,9 2:0"},
		{"half of a pack, here and there", "1:0 1:3 1:6 1:9", "1:0 1:3 1:6 1:9"},
		{"most of a pack", "1:0 1:1 1:2 1:6 1:7 1:8 1:9", "1:0,1,2,6,7,8,9"},
	} {
		var wants []Want
		for _, f := range strings.Fields(tt.wants) {
			var w Want
			if _, err := fmt.Sscanf(f, "%d:%d", &w.Pack.Number, &w.Off); err != nil {
				t.Fatal(err)
			}
			w.Pack.Size, w.Off, w.N = 10<<20, w.Off<<20, 1<<20
			wants = append(wants, w)
		}
		var got []string
		for _, stretch := range Stretches(wants, 1<<20) {
			var offs []string
			for _, w := range stretch {
				offs = append(offs, fmt.Sprint(w.Off>>20))
			}
			got = append(got, fmt.Sprintf("%d:%s", stretch[0].Pack.Number, strings.Join(offs, ",")))
		}
		if text := strings.Join(got, " "); text != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, text, tt.want)
		}
	}
}
