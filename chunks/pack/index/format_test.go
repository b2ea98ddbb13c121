package index

import (
	"encoding/hex"
	"testing"

	"github.com/cespare/xxhash/v2"
)

// TestFormatsAreWhatTheyWere pins the formats of DESIGN.md: whoever changes
// one has to change its version too.
func TestFormatsAreWhatTheyWere(t *testing.T) {
	list := current{
		generation: 0x1122334455667788, live: 3, state: []byte("to 9"),
		runs: []runInfo{{number: 2, records: 4, sum: 0xaabb}},
	}
	const want = "4846495843555231" + "01000000" + "01000000" + "8877665544332211" +
		"0300000000000000" + "0400000000000000" +
		"0200000000000000" + "0400000000000000" + "bbaa000000000000" +
		"746f2039" + "eaa5ffd116be9034"
	if got := hex.EncodeToString(list.encode()); got != want {
		t.Errorf("the list is %s, want %s", got, want)
	}
	data, info := runOf(t, mixedRecords(90))
	if got := xxhash.Sum64(data); len(data) != 8192+90*48+8+64 || got != 0xdec3d6c45cff3cd || info.sum != 0x6df25d295d070548 {
		t.Errorf("the run has %d bytes, their sum is %#x, and that of the footer %#x", len(data), got, info.sum)
	}
}
