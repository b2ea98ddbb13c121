package memory

import (
	"os"
	"testing"
	"testing/fstest"
)

func TestLimit(t *testing.T) {
	const gib = 1 << 30
	meminfo := "MemTotal:        8388608 kB\nMemFree:          123 kB\n"
	tests := []struct {
		name  string
		files map[string]string
		want  int64
	}{
		{"nothing is known", nil, 2 * gib},
		{"the machine's", map[string]string{"proc/meminfo": meminfo}, 8 * gib},
		{"what makes no sense is passed over", map[string]string{"proc/meminfo": "MemTotal:\nMemTotal: x kB\nMemTotal: -1 kB\nMemTotal: 9223372036854775807 kB\n", "proc/self/cgroup": "\n0\n0:\n::::\n"}, 2 * gib},
		{"version 2", map[string]string{"proc/meminfo": meminfo, "proc/self/cgroup": "0::/system.slice/holdfast.service\n",
			"sys/fs/cgroup/system.slice/holdfast.service/memory.max": "1073741824\n"}, gib},
		{"version 2 without a limit", map[string]string{"proc/meminfo": meminfo, "proc/self/cgroup": "0::/a\n", "sys/fs/cgroup/a/memory.max": "max\n"}, 8 * gib},
		{"a limit that only slows down", map[string]string{"proc/meminfo": meminfo, "proc/self/cgroup": "0::/a\n",
			"sys/fs/cgroup/a/memory.max": "max\n", "sys/fs/cgroup/a/memory.high": "3221225472\n"}, 3 * gib},
		{"that of a group around it", map[string]string{"proc/meminfo": meminfo, "proc/self/cgroup": "0::/a/b\n",
			"sys/fs/cgroup/a/memory.max": "2147483648\n", "sys/fs/cgroup/a/b/memory.max": "4294967296\n"}, 2 * gib},
		{"in a container only the root is seen", map[string]string{"proc/meminfo": meminfo, "proc/self/cgroup": "0::/../../docker/x\n",
			"sys/fs/cgroup/memory.max": "536870912\n"}, gib / 2},
		{"version 1", map[string]string{"proc/meminfo": meminfo, "proc/self/cgroup": "5:cpu,memory:/lxc/9\n1:cpu:/other\n",
			"sys/fs/cgroup/memory/lxc/9/memory.limit_in_bytes": "1073741824\n"}, gib},
		{"version 1 without a limit", map[string]string{"proc/meminfo": meminfo, "proc/self/cgroup": "4:memory:/x\n",
			"sys/fs/cgroup/memory/x/memory.limit_in_bytes": "9223372036854771712\n"}, 8 * gib},
		{"a limit above what the machine has", map[string]string{"proc/meminfo": meminfo, "proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "17179869184\n"}, 8 * gib},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			fsys := fstest.MapFS{}
			for name, text := range tt.files {
				fsys[name] = &fstest.MapFile{Data: []byte(text)}
			}
			if got := Limit(fsys); got != tt.want {
				t.Errorf("Limit = %d, want %d", got, tt.want)
			}
		})
	}
}

// On the machine of the test there is some, whatever kind it is.
func TestLimitHere(t *testing.T) {
	if n := Limit(os.DirFS("/")); n < 64<<20 {
		t.Errorf("Limit = %d", n)
	}
}

func FuzzLimit(f *testing.F) {
	f.Add([]byte("MemTotal: 1 kB\n"), []byte("0::/a\n4:memory:/b\n"), []byte("max\n"))
	f.Fuzz(func(t *testing.T, info, groups, limit []byte) {
		n := Limit(fstest.MapFS{
			"proc/meminfo": {Data: info}, "proc/self/cgroup": {Data: groups}, "sys/fs/cgroup/memory.max": {Data: limit},
		})
		if n <= 0 {
			t.Errorf("Limit = %d", n)
		}
	})
}
