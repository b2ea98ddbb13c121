package pbstest

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/holdfast-mesh/holdfast/pbs/upgrade"
)

// The bytes that an official client sent after the 101. The first of them go
// together with the request for the upgrade: what lies in the reader of HTTP/1
// by then must not be lost (§13.3).
func TestRawBytesOfTheOfficialClient(t *testing.T) {
	s := New(t, NewDatastore(t))
	for _, tt := range []struct {
		file, target, protocol string
		refused                uint32 // the stream that asks for a previous manifest, which there is none
	}{
		{"80-raw-backup", "//api2/json/backup?backup-id=r1&backup-time=1700000000&backup-type=host&benchmark=false&debug=true&store=store1", upgrade.Backup, 3},
		{"81-raw-restore", "//api2/json/reader?backup-id=r1&backup-time=1700000000&backup-type=host&debug=true&store=store1", upgrade.Reader, 0},
		{"82-raw-backup-pxar", "//api2/json/backup?backup-id=r2&backup-time=1700000000&backup-type=host&benchmark=false&debug=true&store=store1", upgrade.Backup, 3},
	} {
		t.Run(tt.file, func(t *testing.T) {
			raw, err := os.ReadFile(filepath.Join("testdata", tt.file+".c2s.bin"))
			if err != nil {
				t.Fatal(err)
			}
			conn, err := tls.Dial("tcp", s.Addr, &tls.Config{InsecureSkipVerify: true})
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			conn.SetDeadline(time.Now().Add(20 * time.Second))
			requests := splitRequests(raw)
			head := fmt.Sprintf("GET %s HTTP/1.1\r\nhost: pbs\r\nupgrade: %s\r\nauthorization: PBSAPIToken admin@pbs:x\r\n\r\n", tt.target, tt.protocol)
			requests[0] = append([]byte(head), requests[0]...)
			r := bufio.NewReader(conn)
			framer := http2.NewFramer(io.Discard, r)
			framer.SetMaxReadFrameSize(upgrade.MaxFrame)
			framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
			for i, request := range requests {
				if _, err := conn.Write(request); err != nil {
					t.Fatal(err)
				}
				if i == 0 {
					checkUpgraded(t, r, framer, tt.protocol)
				}
				checkFrames(t, framer, tt.refused)
			}
			conn.Close()
			if ended := s.Wait(); ended[len(ended)-1] != nil {
				t.Errorf("the session ended with: %v", ended[len(ended)-1])
			}
		})
	}
}

// splitRequests cuts what a client sent after each frame that ends a stream.
// What follows the last such, the good-bye, is left out.
func splitRequests(raw []byte) (requests [][]byte) {
	const frameHeader = 9
	begin := 0
	for at := len(http2.ClientPreface); at+frameHeader <= len(raw); {
		length := int(raw[at])<<16 | int(raw[at+1])<<8 | int(raw[at+2])
		kind, flags := http2.FrameType(raw[at+3]), http2.Flags(raw[at+4])
		at += frameHeader + length
		if (kind == http2.FrameData || kind == http2.FrameHeaders) && flags.Has(http2.FlagDataEndStream) {
			requests = append(requests, raw[begin:at:at])
			begin = at
		}
	}
	return requests
}

func checkUpgraded(t *testing.T, r *bufio.Reader, framer *http2.Framer, protocol string) {
	t.Helper()
	resp, err := http.ReadResponse(r, nil)
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols || resp.Header.Get("Upgrade") != protocol {
		t.Fatalf("%v, %v", resp, err)
	}
	f, err := framer.ReadFrame()
	if settings, ok := f.(*http2.SettingsFrame); err != nil || !ok || !pbsSettings(settings) {
		t.Errorf("the connection begins with %v, %v, want the settings of PBS", f, err)
	}
}

// checkFrames reads what a server says until a stream has ended.
func checkFrames(t *testing.T, framer *http2.Framer, refused uint32) {
	t.Helper()
	for {
		f, err := framer.ReadFrame()
		if err != nil {
			t.Fatal(err)
		}
		switch f := f.(type) {
		case *http2.MetaHeadersFrame:
			want := "200"
			if f.StreamID == refused {
				want = "400"
			}
			if f.PseudoValue("status") != want {
				t.Errorf("stream %d: status %s", f.StreamID, f.PseudoValue("status"))
			}
		case *http2.DataFrame:
			if f.StreamEnded() {
				return
			}
		case *http2.GoAwayFrame, *http2.RSTStreamFrame:
			t.Fatalf("the server says %v", f)
		}
	}
}

func pbsSettings(f *http2.SettingsFrame) bool {
	frame, _ := f.Value(http2.SettingMaxFrameSize)
	window, _ := f.Value(http2.SettingInitialWindowSize)
	streams, _ := f.Value(http2.SettingMaxConcurrentStreams)
	return frame == 4<<20 && window == 32<<20 && streams >= 200
}
