package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// A result is what a process did from its first byte to its last.
type result struct {
	Bytes   int64
	Seconds float64
	CPU     float64 // seconds of a core
	RSS     int64   // bytes, highest
	Heap    int64   // bytes in use; only of idle processes

	HeapRotating int64 // the same while the key changes
}

// A process is this program again, with one part to play. It writes one line
// when it is ready, and one with its result.
type process struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

func start(ctx context.Context, b *bench, part string) (*process, string, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, "", err
	}
	cmd := exec.CommandContext(ctx, self, "-child", part, "-seconds", b.seconds.String(), "-cpuprofile", b.profile)
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
		return nil, "", fmt.Errorf("start %s: %w", part, err)
	}
	return p, strings.TrimSpace(ready), nil
}

// result waits for the result.
func (p *process) result() (r result, err error) {
	line, err := p.out.ReadString('\n')
	if err != nil {
		return r, fmt.Errorf("no result: %w", err)
	}
	return r, json.Unmarshal([]byte(line), &r)
}

// end has the process end, and waits.
func (p *process) end() {
	p.in.Close()
	p.cmd.Wait()
}

// runChild plays a part: "receive KIND", "send KIND WHERE", "peers COUNT",
// "hub WHERE", each of which ends when its input does.
func runChild(ctx context.Context, part string, b *bench) error {
	words := strings.Fields(part)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	switch words[0] {
	case "receive":
		return receive(ctx, carriers[words[1]], b, words[1])
	case "send":
		return send(ctx, carriers[words[1]], words[2], b, words[1])
	case "peers":
		return playPeers(ctx, words[1])
	case "hub":
		return playHub(ctx, words[1], b)
	}
	return fmt.Errorf("unknown part %q", part)
}

func say(v any) error {
	if s, ok := v.(string); ok {
		_, err := fmt.Println(s)
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(v)
}

const chunk = 256 << 10 // bytes in one write

// receive takes one stream to its end.
func receive(ctx context.Context, c carrier, b *bench, name string) error {
	where, accept, err := c.listen(ctx)
	if err != nil {
		return err
	}
	if err := say(where); err != nil {
		return err
	}
	s, err := accept()
	if err != nil {
		return err
	}
	buf := make([]byte, chunk)
	if _, err := io.ReadFull(s, buf[:1]); err != nil {
		return err
	}
	var r result
	err = b.profiled("receive-"+name, func() error {
		m := begin()
		for {
			n, err := s.Read(buf)
			if r.Bytes += int64(n); err == io.EOF {
				break
			}
			if err != nil {
				return err
			}
		}
		m.end(&r)
		return nil
	})
	if err != nil {
		return err
	}
	if _, err := s.Write(buf[:1]); err != nil {
		return err
	}
	if err := say(r); err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}

// send fills one stream for the time of a measurement.
func send(ctx context.Context, c carrier, where string, b *bench, name string) error {
	if err := say("ready"); err != nil {
		return err
	}
	s, err := c.dial(ctx, where)
	if err != nil {
		return err
	}
	buf := make([]byte, chunk)
	if _, err := s.Write(buf[:1]); err != nil {
		return err
	}
	time.Sleep(200 * time.Millisecond) // let the path settle
	var r result
	err = b.profiled("send-"+name, func() error {
		m := begin()
		for time.Since(m.at) < b.seconds {
			n, err := s.Write(buf)
			if err != nil {
				return err
			}
			r.Bytes += int64(n)
		}
		if err := s.CloseWrite(); err != nil {
			return err
		}
		if _, err := io.ReadFull(s, buf[:1]); err != nil {
			return err
		}
		m.end(&r)
		return nil
	})
	if err != nil {
		return err
	}
	if err := say(r); err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}

// A meter measures time and work of this process.
type meter struct {
	at  time.Time
	cpu time.Duration
}

func begin() meter { return meter{time.Now(), cpuTime()} }

func (m meter) end(r *result) {
	r.Seconds = time.Since(m.at).Seconds()
	r.CPU = (cpuTime() - m.cpu).Seconds()
	r.RSS = highestRSS()
}

func cpuTime() time.Duration {
	var u syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// highestRSS asks for the high water mark of this program; rusage's counts
// that of the parent, too.
func highestRSS() int64 {
	text, _ := os.ReadFile("/proc/self/status")
	_, after, _ := strings.Cut(string(text), "VmHWM:")
	var kib int64
	fmt.Sscan(after, &kib)
	return kib << 10
}
