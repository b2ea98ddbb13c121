package main

import (
	"crypto/tls"
	"io"
	"math"
	"net"
	"net/http/httptest"
	"time"

	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/chunktest"
)

// What a server cannot do without: it decodes and hashes each new chunk, and
// both ends encrypt.

const rawTime = 2 * time.Second

// raw fills a TLS 1.3 connection of this process with itself, and returns bytes
// per second and seconds of processor for each byte.
func raw() (rate, each float64, err error) {
	s := httptest.NewUnstartedServer(nil) // for its certificate
	s.StartTLS()
	defer s.Close()
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: s.TLS.Certificates, MinVersion: tls.VersionTLS13})
	if err != nil {
		return 0, 0, err
	}
	defer l.Close()
	drained := make(chan error, 1)
	go func() {
		conn, err := l.Accept()
		if err == nil {
			defer conn.Close()
			_, err = io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{conn}, make([]byte, 256<<10))
		}
		drained <- err
	}()
	conn, err := tls.DialWithDialer(&net.Dialer{Timeout: rawTime}, "tcp", l.Addr().String(), &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS13})
	if err != nil {
		return 0, 0, err
	}
	data, sent := make([]byte, 4<<20), 0
	busy, began := used(), time.Now()
	for time.Since(began) < rawTime && err == nil {
		var n int
		n, err = conn.Write(data)
		sent += n
	}
	took := time.Since(began)
	conn.Close()
	<-drained // however it ended
	return float64(sent) / took.Seconds(), (used() - busy).Seconds() / float64(sent), err
}

// rawTLS returns the least that a byte costs through TLS.
func (b *bench) rawTLS(rounds int) (float64, error) {
	least := math.Inf(1)
	for range rounds {
		_, each, err := raw()
		if err != nil {
			return 0, err
		}
		least = min(least, each)
	}
	return least, nil
}

// limit returns the seconds of processor that the protocol needs at least for
// a source, where it is new to the server and where it is fetched.
func (b *bench) limit(what string) (upload, download float64, err error) {
	share := map[string]float64{"tree": 0.5, "image": 0.25}[what] // of text, and of noise; see makeData
	content := share * float64(b.size(what)<<20)
	for _, sample := range [][]byte{chunktest.Text(1, 4<<20), chunktest.Random(1, 4<<20)} {
		blob, err := chunks.Encode(nil, sample, chunks.EncodeOptions{Compress: true})
		if err != nil {
			return 0, 0, err
		}
		sum, check := chunks.Sum(sample), math.Inf(1)
		for range 10 {
			began := time.Now()
			if err := blob.Verify(sum, nil); err != nil {
				return 0, 0, err
			}
			check = min(check, time.Since(began).Seconds())
		}
		parts := content / float64(len(sample))
		carry := parts * float64(len(blob)) * b.tlsCost
		upload += carry + parts*check
		download += carry
	}
	return upload, download, nil
}
