package disk

import "github.com/cespare/xxhash/v2"

// ResumHeader returns a journal header with the sum that it should have.
func ResumHeader(b []byte) []byte {
	return le.AppendUint64(b[:24:24], xxhash.Sum64(b[:24]))
}
