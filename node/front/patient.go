package front

import (
	"io"
	"net/http"
	"time"
)

// slowest is the rate in bytes per second below which a client only keeps a
// connection from others.
const slowest = 4 << 10

// A patient body waits StallTime for the next bytes, and StallTime longer for
// all of them than the slowest client would take.
type patient struct {
	io.ReadCloser
	control *http.ResponseController
	waited  time.Duration // by now, for all that came
	came    int64         // bytes
}

func (b *patient) Read(p []byte) (int, error) {
	began := time.Now()
	left := StallTime + time.Duration(b.came)*time.Second/slowest - b.waited
	if err := b.control.SetReadDeadline(began.Add(min(StallTime, left))); err != nil {
		return 0, err
	}
	n, err := b.ReadCloser.Read(p)
	b.came += int64(n)
	b.waited += time.Since(began)
	if err == io.EOF {
		// What waits for the client to go, while the handler works, may wait.
		// After a failure the deadline stays: net/http reads what is left of a
		// body when the handler is done, and must not wait for it for ever.
		b.control.SetReadDeadline(time.Time{})
	}
	return n, err
}
