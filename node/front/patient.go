package front

import (
	"io"
	"net/http"
	"time"
)

// A patient body waits StallTime for the next bytes, however long all of them
// take.
type patient struct {
	io.ReadCloser
	control *http.ResponseController
}

func (b *patient) Read(p []byte) (int, error) {
	if err := b.control.SetReadDeadline(time.Now().Add(StallTime)); err != nil {
		return 0, err
	}
	n, err := b.ReadCloser.Read(p)
	if err != nil {
		// What waits for the client to go, while the handler works, may wait.
		b.control.SetReadDeadline(time.Time{})
	}
	return n, err
}
