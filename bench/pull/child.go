package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"github.com/holdfast-mesh/holdfast/replication"
	"github.com/holdfast-mesh/holdfast/replication/rate"
	"github.com/holdfast-mesh/holdfast/replication/wire"
	"github.com/holdfast-mesh/holdfast/tunnel"
)

// A result is what a process did.
type result struct {
	Bytes   int64   // that arrived, with what it arrived in
	Seconds float64 // from the first question to the end
	RSS     int64   // bytes, highest
}

// A process is this program again, with one part to play. It writes one line
// when it is ready, and one with its result.
type process struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

func start(ctx context.Context, part ...any) (*process, string, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, "", err
	}
	cmd := exec.CommandContext(ctx, self, "-child", strings.TrimSpace(fmt.Sprintln(part...)))
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, "", err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, "", err
	}
	if err := cmd.Start(); err != nil {
		return nil, "", err
	}
	p := &process{cmd, in, bufio.NewReader(out)}
	ready, err := p.out.ReadString('\n')
	if err != nil {
		p.end()
		return nil, "", fmt.Errorf("start %v: %w", part, err)
	}
	return p, strings.TrimSpace(ready), nil
}

func (p *process) result() (r result, err error) {
	text, err := p.out.ReadString('\n')
	if err != nil {
		return r, fmt.Errorf("no result: %w", err)
	}
	return r, json.Unmarshal([]byte(text), &r)
}

// end has the process end, and waits.
func (p *process) end() { p.in.Close(); _ = p.cmd.Wait() }

// runChild plays a part: "source DIR NAME", "pull DIR NAME WHERE WORKERS",
// "raw WHERE BYTES", "files WHERE BYTES DIR".
func runChild(ctx context.Context, words []string) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	if words[0] == "source" {
		return playSource(ctx, words[1], words[2])
	}
	t, err := open(ctx, "puller", nil)
	if err != nil {
		return err
	}
	at, err := netip.ParseAddrPort(words[1])
	if err != nil {
		return err
	}
	if err := t.SetPeers([]tunnel.Peer{peerOf("source", at)}); err != nil {
		return err
	}
	fmt.Println("ready")
	var r result
	begin := time.Now()
	switch words[0] {
	case "pull":
		workers, _ := strconv.Atoi(words[4])
		r, err = playPull(ctx, t, words[2], words[3], workers)
	case "raw":
		n, _ := strconv.ParseInt(words[2], 10, 64)
		r.Bytes, err = playRaw(ctx, t, n)
	case "files":
		n, _ := strconv.ParseInt(words[2], 10, 64)
		r.Bytes, err = playFiles(ctx, t, n, words[3])
	default:
		err = fmt.Errorf("unknown part %q", words[0])
	}
	if err != nil {
		return err
	}
	r.Seconds, r.RSS = time.Since(begin).Seconds(), highestRSS()
	_ = json.NewEncoder(os.Stdout).Encode(r)
	<-ctx.Done()
	return nil
}

// playSource serves a datastore, streams of any bytes, and files over HTTP,
// until ctx is done.
func playSource(ctx context.Context, dir, name string) error {
	s, err := openSite(ctx, dir, name, nil)
	if err != nil {
		return err
	}
	defer s.close()
	t, err := open(ctx, "source", nil)
	if err != nil {
		return err
	}
	if err := t.SetPeers([]tunnel.Peer{peerOf("puller")}); err != nil {
		return err
	}
	l, err := t.Listen(service)
	if err != nil {
		return err
	}
	plain, err := t.Listen(raw)
	if err != nil {
		return err
	}
	go func() { _ = http.Serve(plain, http.HandlerFunc(giveAny)) }()
	fmt.Println(t.LocalAddr())
	served := make(chan error, 1)
	go func() { served <- s.serve(ctx, l) }()
	<-ctx.Done()
	_ = json.NewEncoder(os.Stdout).Encode(result{RSS: highestRSS()})
	return <-served
}

// giveAny answers with as many bytes as it is asked for.
func giveAny(w http.ResponseWriter, r *http.Request) {
	left, _ := strconv.ParseInt(r.URL.Query().Get("n"), 10, 64)
	buf := make([]byte, 256<<10)
	_, _ = rand.NewChaCha8([32]byte{}).Read(buf)
	for left > 0 {
		n, err := w.Write(buf[:min(left, int64(len(buf)))])
		if left -= int64(n); err != nil {
			return
		}
	}
}

func dialer(t *tunnel.Tunnel, to uint16) func(context.Context) (net.Conn, error) {
	return func(ctx context.Context) (net.Conn, error) { return t.Dial(ctx, "source", to) }
}

func playPull(ctx context.Context, t *tunnel.Tunnel, dir, name string, workers int) (result, error) {
	to, err := openSite(ctx, dir, name, nil)
	if err != nil {
		return result{}, err
	}
	defer to.close()
	var in *rate.Bucket
	if mib := os.Getenv(slowed); mib != "" {
		n, _ := strconv.ParseInt(mib, 10, 64)
		in = rate.New(nil, rate.Fixed(rate.Limit{Rate: n << 20, Burst: 64 << 10}))
	}
	dial := dialer(t, service)
	if name := os.Getenv(counts); name != "" {
		n, err := sharedCounter(name)
		if err != nil {
			return result{}, err
		}
		plain := dial
		dial = func(ctx context.Context) (net.Conn, error) {
			c, err := plain(ctx)
			if err != nil {
				return nil, err
			}
			return &counted{c, n}, nil
		}
	}
	c, err := wire.NewClient(wire.ClientConfig{Peer: "source", Store: "main", Dial: dial, In: in})
	if err != nil {
		return result{}, err
	}
	r, err := pull(ctx, to, []replication.Source{c}, workers)
	return result{Bytes: r.Swarm.Bytes}, err
}

// slowed is a variable that gives a child a rate in MiB a second.
const slowed = "HOLDFAST_BENCH_PULL_RATE"

// counts is a variable that names a file in which children add up the bytes that
// their connections carry, until the instruction at which they are killed.
const counts = "HOLDFAST_BENCH_PULL_COUNT"

// sharedCounter returns the counter in a file.
func sharedCounter(name string) (*atomic.Int64, error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if err := f.Truncate(8); err != nil {
		return nil, err
	}
	b, err := syscall.Mmap(int(f.Fd()), 0, 8, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
	if err != nil {
		return nil, err
	}
	return (*atomic.Int64)(unsafe.Pointer(&b[0])), nil
}

func client(t *tunnel.Tunnel) *http.Client {
	return &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 8, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return t.Dial(ctx, "source", raw)
	}}}
}

// get reads n bytes of the source into w.
func get(ctx context.Context, c *http.Client, n int64, w io.Writer) (int64, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://source/?n=%d", n), nil)
	if err != nil {
		return 0, err
	}
	resp, err := c.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	return io.CopyBuffer(struct{ io.Writer }{w}, resp.Body, make([]byte, 256<<10))
}

// playRaw reads bytes over one stream: the tunnel's own limit.
func playRaw(ctx context.Context, t *tunnel.Tunnel, n int64) (int64, error) {
	return get(ctx, client(t), n, io.Discard)
}

// playFiles copies the bytes as files of 4 MiB, four at a time, each durable
// when it is done.
func playFiles(ctx context.Context, t *tunnel.Tunnel, n int64, dir string) (int64, error) {
	c := client(t)
	count := int(n / (4 << 20))
	errs := make(chan error)
	for w := range 4 {
		go func() {
			var err error
			for i := w; i < count && err == nil; i += 4 {
				err = copyFile(ctx, c, fmt.Sprintf("%s/%d", dir, i))
			}
			errs <- err
		}()
	}
	var err error
	for range 4 {
		if e := <-errs; e != nil {
			err = e
		}
	}
	return int64(count) * 4 << 20, err
}

func copyFile(ctx context.Context, c *http.Client, name string) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := get(ctx, c, 4<<20, f); err != nil {
		return err
	}
	return f.Sync()
}

// highestRSS is the high water mark of this program.
func highestRSS() int64 {
	text, _ := os.ReadFile("/proc/self/status")
	_, after, _ := strings.Cut(string(text), "VmHWM:")
	var kib int64
	_, _ = fmt.Sscan(after, &kib)
	return kib << 10
}
