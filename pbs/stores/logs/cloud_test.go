package logs

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/holdfast-mesh/holdfast/catalog/tier"
	"github.com/holdfast-mesh/holdfast/chunks/cloud"
)

// Who was overtaken is not told that the next offload sends the rest.
func TestUnfinishedOffload(t *testing.T) {
	r := tier.OffloadReport{OffloadReport: cloud.OffloadReport{Chunks: 5, Bytes: 2048, Evicted: 2}}
	for err, want := range map[error]string{
		errors.New("the line was cut"):           "goes with the next offload",
		fmt.Errorf("write: %w", cloud.ErrFenced): "stays until this node owns the bucket again",
	} {
		if text := unfinished(r, err); !strings.Contains(text, want) || !strings.Contains(text, "5 chunks (2 KiB)") || !strings.Contains(text, "2 left the disk") {
			t.Errorf("%v: %s", err, text)
		}
	}
}
