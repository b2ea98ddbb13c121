package archive

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-mesh/holdfast/chunks/chunktest"
)

func TestPipeHandsOverWhatIsWritten(t *testing.T) {
	content := chunktest.Random(1, 1<<20)
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 0))
		p := newPipe(t.Context(), 1+rng.IntN(9000))
		written := make(chan error, 1)
		go func() {
			written <- errors.Join(writeRandomly(p, content, rng), p.close(nil))
		}()
		got, err := io.ReadAll(p)
		if err := errors.Join(err, <-written); err != nil || !bytes.Equal(got, content) {
			t.Fatalf("seed %d: %d bytes, %v", seed, len(got), err)
		}
	}
}

// writeRandomly uses both ways to fill a pipe.
func writeRandomly(p *pipe, content []byte, rng *rand.Rand) error {
	for len(content) > 0 {
		n := min(rng.IntN(30<<10), len(content))
		var m int64
		var err error
		if rng.IntN(2) == 0 {
			var w int
			w, err = p.Write(content[:n])
			m = int64(w)
		} else {
			m, err = p.ReadFrom(bytes.NewReader(content[:n]))
		}
		if err != nil || m != int64(n) {
			return errors.Join(err, errors.New("not all was taken"))
		}
		content = content[n:]
	}
	return nil
}

func TestPipeTellsWhyItEnds(t *testing.T) {
	p := newPipe(t.Context(), 100)
	if _, err := p.Write([]byte("begin")); err != nil {
		t.Fatal(err)
	}
	wantError(t, p.close(chunktest.ErrInjected), nil)
	got, err := io.ReadAll(p)
	wantError(t, err, chunktest.ErrInjected)
	if string(got) != "begin" {
		t.Fatalf("what was written before is %q", got)
	}
}

func TestPipeEndsWithItsContext(t *testing.T) {
	for name, wait := range map[string]func(*pipe) error{
		"a reader": func(p *pipe) error { _, err := p.Read(make([]byte, 1)); return err },
		"a writer": func(p *pipe) error { _, err := p.Write(make([]byte, 10000)); return err },
		"a copy":   func(p *pipe) error { _, err := p.ReadFrom(bytes.NewReader(make([]byte, 10000))); return err },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancelCause(t.Context())
				time.AfterFunc(time.Second, func() { cancel(chunktest.ErrInjected) })
				wantError(t, wait(newPipe(ctx, 100)), chunktest.ErrInjected)
			})
		})
	}
}
