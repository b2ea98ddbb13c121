package backup

import (
	"fmt"
	"math"
	"net/http"
	"strings"

	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/pbs/upgrade"
)

// dynamicBuilder makes the index of an archive.
type dynamicBuilder struct{ chunks.DynamicBuilder }

// createDynamic answers POST /dynamic_index.
func (s *Session) createDynamic(p *upgrade.Params, w http.ResponseWriter, _ *http.Request) error {
	name := p.Archive("archive-name")
	switch {
	case p.Err() != nil:
		return p.Err()
	case !strings.HasSuffix(name, ".didx"):
		return fmt.Errorf("wrong archive extension: %s", name)
	}
	return s.create(w, &index{kind: dynamicKind, name: name, builder: &dynamicBuilder{}})
}

// appendDynamic answers PUT /dynamic_index.
func (s *Session) appendDynamic(p *upgrade.Params, w http.ResponseWriter, _ *http.Request) error {
	return s.appendChunks(p, w, dynamicKind)
}

// closeDynamic answers POST /dynamic_close.
func (s *Session) closeDynamic(p *upgrade.Params, w http.ResponseWriter, _ *http.Request) error {
	id := int(p.Int("wid", 1, maxID))
	c := closing{p.Int("chunk-count", 1, math.MaxInt64), p.Int("size", 1, math.MaxInt64), p.Digest("csum")}
	if err := p.Err(); err != nil {
		return err
	}
	return s.closeIndex(w, dynamicKind, id, c)
}

func (b *dynamicBuilder) put(offset, length int64, d chunks.Digest) error {
	if end := b.End(); offset != end {
		return fmt.Errorf("got strange chunk offset (%d != %d)", end, offset)
	}
	return b.Append(offset+length, d)
}

func (b *dynamicBuilder) uploaded(int64) error { return nil }

func (b *dynamicBuilder) finish(c closing) (chunks.Index, error) {
	if end := b.End(); c.size != end {
		return nil, fmt.Errorf("unexpected archive size (%d != %d)", c.size, end)
	}
	return b.Finish(stamp())
}
