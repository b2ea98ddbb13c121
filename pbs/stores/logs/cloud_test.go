package logs

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/holdfast-mesh/holdfast/catalog/tier"
	"github.com/holdfast-mesh/holdfast/chunks/cloud"
	"github.com/holdfast-mesh/holdfast/jobs"
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

// An audit that failed before it compared anything said "0 packs are missing", as one of
// a bucket in which all is well.
func TestAuditThatComparedNothing(t *testing.T) {
	m, err := jobs.New(jobs.Config{Dir: t.TempDir(), Node: "n"})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close(t.Context())
	for said, r := range map[bool]cloud.AuditReport{false: {}, true: {Classes: map[string]int{}}} {
		u, err := m.Start(t.Context(), "audit", "", "root@pam", func(_ context.Context, k *jobs.Task) error { Audited(k, r); return nil })
		if err == nil {
			_, err = m.Wait(t.Context(), u)
		}
		if err != nil {
			t.Fatal(err)
		}
		page, err := m.Log(u, 0, 50)
		if text := fmt.Sprint(page); err != nil || strings.Contains(text, "packs are missing") != said {
			t.Errorf("compared: %t; %s, %v", said, text, err)
		}
	}
}
