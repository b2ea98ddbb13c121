//go:build !linux && !darwin && !freebsd

package listing

import "io/fs"

func changed(fs.FileInfo) (ns int64, inode uint64) { return 0, 0 }
