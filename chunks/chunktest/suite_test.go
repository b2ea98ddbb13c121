package chunktest

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/holdfast-mesh/holdfast/chunks"
)

func TestMemory(t *testing.T) {
	Run(t, func(*testing.T) chunks.Writer { return NewMemory() }, Options{
		Reopen: func(_ *testing.T, w chunks.Writer) chunks.Writer {
			w.(*Memory).Crash()
			return w
		},
	})
}

func TestStoreWithoutBatches(t *testing.T) {
	Run(t, func(*testing.T) chunks.Writer { return struct{ chunks.Writer }{NewMemory()} })
}

func TestFaultyWithoutFaults(t *testing.T) {
	Run(t, func(*testing.T) chunks.Writer { return NewFaulty(NewMemory(), 1) })
}

// TestSuiteFindsMutants breaks each promise once and wants the check that
// guards it to notice.
func TestSuiteFindsMutants(t *testing.T) {
	for _, m := range mutants {
		t.Run(m.broken, func(t *testing.T) {
			i := slices.IndexFunc(contract, func(p promise) bool { return p.name == m.foundBy })
			if i < 0 {
				t.Fatalf("the suite has no check %q", m.foundBy)
			}
			m.store.Memory = NewMemory()
			if err := contract[i].check(t.Context(), m.store); err == nil {
				t.Errorf("%q does not notice", m.foundBy)
			}
		})
	}
}

// TestEveryCheckHasAMutant keeps the list above complete.
func TestEveryCheckHasAMutant(t *testing.T) {
	for _, c := range contract {
		found := slices.ContainsFunc(mutants, func(m mutant) bool { return m.foundBy == c.name })
		if !found {
			t.Errorf("no mutant proves that %q can fail", c.name)
		}
	}
}

func TestSurvivalFindsForgetfulCommit(t *testing.T) {
	lying := NewMemory()
	store := NewFaulty(lying, 1, Fault{On: Commit, Nth: 2, Drop: true})
	err := survives(t.Context(), store, func(w chunks.Writer) chunks.Writer {
		lying.Crash()
		return w
	})
	if err == nil {
		t.Error("a commit that did nothing went unnoticed")
	}
}

type mutant struct {
	broken  string
	foundBy string
	store   *mutated
}

// mutated is a Memory in which each method can be another one.
type mutated struct {
	*Memory
	name    func(*Memory) string
	get     func(*Memory, context.Context, chunks.Digest, []byte) (chunks.Blob, error)
	missing func(*Memory, context.Context, []chunks.Digest) ([]chunks.Digest, error)
	put     func(*Memory, context.Context, chunks.Digest, chunks.Blob) (bool, error)
	commit  func(*Memory, context.Context) error
	getMany func(*Memory, context.Context, []chunks.Digest, handler) error
}

type handler = func(chunks.Digest, chunks.Blob, error) error

var mutants = []mutant{
	{"has no name", "a store names itself", &mutated{
		name: func(*Memory) string { return "" }}},
	{"finds what was never put", "an empty store holds nothing", &mutated{
		missing: func(*Memory, context.Context, []chunks.Digest) ([]chunks.Digest, error) { return nil, nil }}},
	{"cuts the last byte off", "every kind of blob comes back byte for byte", &mutated{
		get: func(m *Memory, ctx context.Context, d chunks.Digest, buf []byte) (chunks.Blob, error) {
			b, err := m.Get(ctx, d, buf)
			return b[:max(len(b)-1, 0)], err
		}}},
	{"refuses the largest blob", "blobs of every size come back", &mutated{
		put: func(m *Memory, ctx context.Context, d chunks.Digest, b chunks.Blob) (bool, error) {
			if len(b) >= chunks.MaxBlob {
				return false, errors.New("too large")
			}
			return m.Put(ctx, d, b)
		}}},
	{"holds at most 4,000 chunks", "many small chunks come back", &mutated{
		put: func(m *Memory, ctx context.Context, d chunks.Digest, b chunks.Blob) (bool, error) {
			if m.Len() >= 4000 {
				return false, nil
			}
			return m.Put(ctx, d, b)
		}}},
	{"replaces a chunk put again", "a chunk put twice is known and stays as it was", &mutated{
		put: func(m *Memory, ctx context.Context, d chunks.Digest, b chunks.Blob) (bool, error) {
			known, _ := m.Put(ctx, d, b)
			m.Forget(d)
			_, err := m.Put(ctx, d, b)
			return known, err
		}}},
	{"does not check the CRC", "a blob with a damaged frame is refused", &mutated{
		put: func(m *Memory, ctx context.Context, d chunks.Digest, b chunks.Blob) (bool, error) {
			mended := slices.Clone(b)
			_ = mended.SetCRC()
			return m.Put(ctx, d, mended)
		}}},
	{"sorts what is missing", "Missing keeps the order and the duplicates of what was asked", &mutated{
		missing: func(m *Memory, ctx context.Context, want []chunks.Digest) ([]chunks.Digest, error) {
			missing, err := m.Missing(ctx, want)
			slices.SortFunc(missing, chunks.Digest.Compare)
			return missing, err
		}}},
	{"fails with a bare error", "a chunk that is not there fails with its name and the place", &mutated{
		get: func(m *Memory, ctx context.Context, d chunks.Digest, buf []byte) (chunks.Blob, error) {
			b, err := m.Get(ctx, d, buf)
			if err != nil {
				err = chunks.ErrMissing
			}
			return b, err
		}}},
	{"allocates at every Get", "Get uses the buffer if it is large enough", &mutated{
		get: func(m *Memory, ctx context.Context, d chunks.Digest, _ []byte) (chunks.Blob, error) {
			return m.Get(ctx, d, nil)
		}}},
	{"returns its own memory", "what Get returned is the caller's", &mutated{
		get: func(m *Memory, ctx context.Context, d chunks.Digest, buf []byte) (chunks.Blob, error) {
			return m.held[d], nil
		}}},
	{"keeps the blob it was given", "Put keeps nothing of what it was given", &mutated{
		put: func(m *Memory, ctx context.Context, d chunks.Digest, b chunks.Blob) (bool, error) {
			known, err := m.Put(ctx, d, b)
			m.held[d] = b
			return known, err
		}}},
	{"loses every tenth chunk", "goroutines put different chunks", &mutated{
		put: func(m *Memory, ctx context.Context, d chunks.Digest, b chunks.Blob) (bool, error) {
			if d[0] < 26 {
				return false, nil
			}
			return m.Put(ctx, d, b)
		}}},
	{"never says known", "goroutines put the same chunks", &mutated{
		put: func(m *Memory, ctx context.Context, d chunks.Digest, b chunks.Blob) (bool, error) {
			_, err := m.Put(ctx, d, b)
			return false, err
		}}},
	{"hands over duplicates once", "GetMany hands over each chunk once", &mutated{
		getMany: func(m *Memory, ctx context.Context, want []chunks.Digest, fn handler) error {
			want = slices.SortedFunc(slices.Values(want), chunks.Digest.Compare)
			return m.GetMany(ctx, slices.Compact(want), fn)
		}}},
	{"is silent about missing chunks", "GetMany hands over a missing chunk as an error", &mutated{
		getMany: func(m *Memory, ctx context.Context, want []chunks.Digest, fn handler) error {
			return m.GetMany(ctx, want, func(d chunks.Digest, b chunks.Blob, err error) error {
				if err != nil {
					return nil
				}
				return fn(d, b, nil)
			})
		}}},
	{"ignores the function's error", "GetMany ends with the error of its function", &mutated{
		getMany: func(m *Memory, ctx context.Context, want []chunks.Digest, fn handler) error {
			return m.GetMany(ctx, want, func(d chunks.Digest, b chunks.Blob, err error) error {
				_ = fn(d, b, err)
				return nil
			})
		}}},
	{"ignores the context", "GetMany ends with its context", &mutated{
		getMany: func(m *Memory, _ context.Context, want []chunks.Digest, fn handler) error {
			return m.GetMany(context.Background(), want, fn)
		}}},
	{"breaks when cancelled", "a cancelled call says so and harms nothing", &mutated{
		commit: func(m *Memory, ctx context.Context) error {
			if ctx.Err() != nil {
				clear(m.held)
			}
			return m.Commit(ctx)
		}}},
}

func (s *mutated) String() string {
	if s.name != nil {
		return s.name(s.Memory)
	}
	return s.Memory.String()
}

func (s *mutated) Get(ctx context.Context, d chunks.Digest, buf []byte) (chunks.Blob, error) {
	if s.get != nil {
		return s.get(s.Memory, ctx, d, buf)
	}
	return s.Memory.Get(ctx, d, buf)
}

func (s *mutated) Missing(ctx context.Context, want []chunks.Digest) ([]chunks.Digest, error) {
	if s.missing != nil {
		return s.missing(s.Memory, ctx, want)
	}
	return s.Memory.Missing(ctx, want)
}

func (s *mutated) Put(ctx context.Context, d chunks.Digest, b chunks.Blob) (bool, error) {
	if s.put != nil {
		return s.put(s.Memory, ctx, d, b)
	}
	return s.Memory.Put(ctx, d, b)
}

func (s *mutated) Commit(ctx context.Context) error {
	if s.commit != nil {
		return s.commit(s.Memory, ctx)
	}
	return s.Memory.Commit(ctx)
}

func (s *mutated) GetMany(ctx context.Context, want []chunks.Digest, fn handler) error {
	if s.getMany != nil {
		return s.getMany(s.Memory, ctx, want, fn)
	}
	return s.Memory.GetMany(ctx, want, fn)
}
