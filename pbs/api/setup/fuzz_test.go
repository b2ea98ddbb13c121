package setup

import (
	"testing"

	"github.com/holdfast-mesh/holdfast/pbs/api/content"
)

// What is read as a maintenance mode is shown in a form that is read as the
// same.
func FuzzMaintenance(f *testing.F) {
	for _, text := range []string{"offline", "type=read-only", "read-only,message=later", `offline,message="a, \"b\" \\ c"`, "read-only,message=", `offline,message="`, "x,y"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		m, err := parseMaintenance(text)
		if err != nil {
			return
		}
		again, err := parseMaintenance(content.Maintenance(m))
		if err != nil || again != m {
			t.Errorf("%q is %+v, shown as %q, which is %+v, %v", text, m, content.Maintenance(m), again, err)
		}
	})
}
