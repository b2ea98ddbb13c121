package consensustest

import (
	"fmt"
	"os"
	"strconv"
	"testing"
)

// Seeds runs f once for each seed, several at a time, until one fails. They are
// as many as usual, or ten times as many in `make soak`. HOLDFAST_SEEDS says
// which else: "1000" the first thousand, "all" every one without end, and "=17"
// that one alone.
func Seeds(t *testing.T, usual uint64, f func(t *testing.T, seed uint64)) {
	t.Helper()
	first, end, err := seeds(usual)
	if err != nil {
		t.Fatal(err)
	}
	for ; (end == 0 || first < end) && !t.Failed(); first += together {
		last := first + together
		if end != 0 {
			last = min(last, end)
		}
		// What runs side by side begins when the function that asked for it
		// returns: without end, that has to be now and then.
		t.Run(fmt.Sprintf("seeds=%d-%d", first, last-1), func(t *testing.T) {
			for seed := first; seed < last; seed++ {
				t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
					t.Parallel()
					f(t, seed)
				})
			}
		})
	}
}

const together = 200 // seeds

func seeds(usual uint64) (first, end uint64, err error) {
	switch text := os.Getenv("HOLDFAST_SEEDS"); {
	case text == "all":
		return 0, 0, nil
	case text != "" && text[0] == '=':
		first, err = strconv.ParseUint(text[1:], 10, 63)
		return first, first + 1, err
	case text != "":
		end, err = strconv.ParseUint(text, 10, 63)
		return 0, max(end, 1), err
	case os.Getenv("HOLDFAST_SOAK") != "":
		return 0, 10 * usual, nil
	}
	return 0, usual, nil
}
