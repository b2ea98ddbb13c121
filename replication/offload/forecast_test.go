package offload

import (
	"maps"
	"math"
	"testing"

	"github.com/holdfast-mesh/holdfast/chunks/cloud/bucket"
	"github.com/holdfast-mesh/holdfast/chunks/pack/identity"
)

// The forecast took it that what is read back of a batch takes one request, and is of
// the usual length: it was chosen by chance, in the order of the index, and lay in
// several places. 7 requests were made where 4 had been forecast.
func TestForecastOfReadingBack(t *testing.T) {
	for _, encrypt := range []bool{false, true} {
		w := newWorld(t, encrypt)
		even, odd := image(1, 3*identity.MinPackBytes/4), image(2, 3*identity.MinPackBytes/4)
		var both []byte
		for i := 0; i+chunkSize <= len(even); i += chunkSize {
			both = append(append(both, even[i:i+chunkSize]...), odd[i:i+chunkSize/2]...)
			both = append(both, make([]byte, chunkSize/2)...) // those chunks are half as long
		}
		w.backup(first, even)
		w.backup(second, both)
		must(t, w.from.Forget(t.Context(), "", snapshot(t, first)))
		_, err := w.to.Publish(t.Context()) // becoming owner is no part of a job
		must(t, err)
		o := w.offloader(int64(len(both)) / 5)
		pl, err := o.Plan(t.Context(), job())
		must(t, err)
		ctx, meter := bucket.Metered(t.Context())
		_, err = o.Run(ctx, job())
		must(t, err)
		in, out := meter.Bytes()
		t.Logf("planned %v, %d bytes in, %d out; made %v, %d in, %d out", pl.Requests, pl.Read, pl.Written, meter.Requests(), in, out)
		if off := max(math.Abs(float64(out-pl.Written))/float64(out), math.Abs(float64(in-pl.Read))/float64(in)); !maps.Equal(pl.Requests, meter.Requests()) || off > 0.05 || pl.Requests["get"] < 5 {
			t.Errorf("encrypted=%v: planned %v, %d bytes in, %d out; made %v, %d in, %d out", encrypt, pl.Requests, pl.Read, pl.Written, meter.Requests(), in, out)
		}
	}
}
