package disk

import (
	"testing"
	"unsafe"
)

func TestUsageOfAQuota(t *testing.T) {
	for _, tt := range []struct {
		name    string
		u       usage
		want    Space
		limited bool
	}{
		{"no limit", usage{bytes: 1 << 30, inodes: 10}, Space{}, false},
		{"a hard one", usage{bytesHard: 1 << 20, bytesSoft: 1 << 10, bytes: 1 << 29}, Space{TotalBytes: 1 << 30, FreeBytes: 1 << 29}, true},
		{"a soft one, exceeded", usage{bytesSoft: 1 << 10, bytes: 1 << 21}, Space{TotalBytes: 1 << 20}, true},
		{"of inodes", usage{inodesHard: 100, inodes: 90, bytes: 5}, Space{TotalInodes: 100, FreeInodes: 10}, true},
	} {
		if got, limited := tt.u.space(); got != tt.want || limited != tt.limited {
			t.Errorf("%s: %+v %v, want %+v", tt.name, got, limited, tt.want)
		}
	}
	if n := unsafe.Sizeof(usage{}); n != 72 {
		t.Errorf("the kernel writes 72 bytes, and %d are there", n)
	}
	if n := unsafe.Sizeof(attributes{}); n != 28 {
		t.Errorf("the kernel writes 28 bytes, and %d are there", n)
	}
	if got := Quotas(t.TempDir()); len(got) > 0 {
		t.Logf("here there is %+v", got)
	}
	if got := Quotas("/nowhere"); got != nil {
		t.Errorf("of no directory: %+v", got)
	}
}
