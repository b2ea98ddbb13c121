package index

import (
	"bytes"
	"encoding/binary"
	"slices"
	"testing"

	"github.com/cespare/xxhash/v2"
)

// reseal makes every sum of a run right, as far as its layout allows.
func reseal(data []byte) {
	if len(data) < headerSize+footerSize {
		return
	}
	copy(data, headerMagic)
	binary.LittleEndian.PutUint32(data[8:], runVersion)
	binary.LittleEndian.PutUint32(data[12:], recordSize)
	putSum := func(b []byte, sum uint64) { binary.LittleEndian.PutUint64(b, sum) }
	putSum(data[headerSize-sumSize:], xxhash.Sum64(data[:headerSize-sumSize]))
	foot := data[len(data)-footerSize:]
	copy(foot, footerMagic)
	defer func() { putSum(foot[footerSize-sumSize:], xxhash.Sum64(foot[:footerSize-sumSize])) }()
	putSum(foot[40:], xxhash.Sum64(data[:headerSize]))

	head := header{lines: binary.LittleEndian.Uint64(data[24:])}
	n := binary.LittleEndian.Uint64(foot[8:])
	if head.lines > maxLines || n > maxRecords || head.fileSize(n) != int64(len(data)) {
		return
	}
	off := head.recordsOff()
	putSum(foot[24:], xxhash.Sum64(data[headerSize:off]))
	recs, sums := data[off:off+int64(n)*recordSize], data[off+int64(n)*recordSize:len(data)-footerSize]
	for i := 0; len(recs) > 0; i++ {
		size := min(len(recs), blockSize)
		putSum(sums[i*sumSize:], xxhash.Sum64(recs[:size]))
		recs = recs[size:]
	}
	putSum(foot[32:], xxhash.Sum64(sums))
}

// trueInfo returns what current would have to say about a run.
func trueInfo(data []byte) runInfo {
	if len(data) < headerSize+footerSize {
		return runInfo{}
	}
	foot := data[len(data)-footerSize:]
	return runInfo{
		number:  binary.LittleEndian.Uint64(data[16:]),
		records: binary.LittleEndian.Uint64(foot[8:]),
		sum:     binary.LittleEndian.Uint64(foot[footerSize-sumSize:]),
	}
}

// FuzzRun takes any bytes for a run, as they are and with all sums made
// right. Whatever opens can be searched without a fault; whatever passes the
// check as well finds exactly the records that are in it.
func FuzzRun(f *testing.F) {
	for _, n := range []uint64{0, 1, 40, 100} {
		data, _ := runOf(f, mixedRecords(n))
		f.Add(data, false)
		f.Add(data, true)
	}
	f.Add([]byte{}, false)
	f.Fuzz(func(t *testing.T, data []byte, sealed bool) {
		data = bytes.Clone(data)
		if sealed {
			reseal(data)
		}
		r, err := loadRun(data, trueInfo(data))
		if err != nil {
			return
		}
		recs := make([]record, r.n)
		for i := range recs {
			recs[i] = *r.record(uint64(i))
		}
		strangers := mixedRecords(50)
		foundStrangers := lookUpAll(r, strangers)
		if lookUpAll(r, recs); r.check(t.Context()) != nil {
			return
		}
		if found := lookUpAll(r, recs); found != len(recs) {
			t.Fatalf("%d of %d records are found in a run that passes the check", found, len(recs))
		}
		known := 0
		for i := range strangers {
			if slices.ContainsFunc(recs, func(r record) bool { return *r.digest() == *strangers[i].digest() }) {
				known++
			}
		}
		if foundStrangers != known {
			t.Fatalf("%d of 50 digests are found, and %d are there", foundStrangers, known)
		}
	})
}

// FuzzCurrent: what is accepted as a list of runs is what encode writes for
// its content, to the byte.
func FuzzCurrent(f *testing.F) {
	f.Add(current{generation: 1}.encode(), false)
	f.Add(current{
		generation: 99, live: 5, state: []byte("state"),
		runs: []runInfo{{number: 3, records: 4, sum: 5}, {number: 1, records: 70, sum: 8}},
	}.encode(), true)
	f.Add([]byte(currentMagic), true)
	f.Fuzz(func(t *testing.T, data []byte, sealed bool) {
		if sealed && len(data) > sumSize {
			data = bytes.Clone(data)
			body := data[:len(data)-sumSize]
			binary.LittleEndian.PutUint64(data[len(body):], xxhash.Sum64(body))
		}
		c, err := parseCurrent(data)
		if err != nil {
			return
		}
		if again := c.encode(); !bytes.Equal(again, data) {
			t.Fatalf("%x is read as %+v, which is %x", data, c, again)
		}
	})
}
