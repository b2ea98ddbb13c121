package disk

import (
	"os"
	"path"
	"time"
)

// probeWrite is how much is written at once to see how fast that is.
const probeWrite = 4 << 20

// DirectPays writes a few buffers with and without the page cache. O_DIRECT
// costs far less CPU, so it is used unless it takes more than twice the time.
func DirectPays(fsys FS, dir string) bool {
	const rounds = 2
	direct, errD := timeWrites(fsys, dir, Direct, rounds)
	cached, errC := timeWrites(fsys, dir, 0, rounds)
	return errD == nil && (errC != nil || direct <= 2*cached)
}

// timeWrites measures rounds buffers of a writer and the sync behind them.
func timeWrites(fsys FS, dir string, flag, rounds int) (took time.Duration, err error) {
	name := tempName(path.Join(dir, probePrefix))
	f, err := fsys.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL|flag, 0o600)
	if err != nil {
		return 0, err
	}
	defer fsys.Remove(name)
	defer f.Close()
	b := AlignedBuffer(probeWrite)[:probeWrite]
	began := time.Now()
	for i := range rounds {
		if _, err := f.WriteAt(b, int64(i)*probeWrite); err != nil {
			return 0, err
		}
	}
	err = f.Sync()
	return time.Since(began), err
}
