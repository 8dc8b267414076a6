package s3

import (
	"context"
	"sync"

	"golang.org/x/sync/semaphore"
)

// Budget is how much uploads may hold in part buffers. Stores can share one, so that
// it's that of a process. It's safe for concurrent use.
//
// A quarter of it isn't for clients to fill, who take their time: it's for parts that
// are complete in small objects and are put together to be sent.
type Budget struct {
	filled *share
	sent   *share
}

// NewBudget returns a Budget of so many bytes. It grows to what a part takes of the
// stores that use it.
func NewBudget(bytes int64) *Budget {
	sent := bytes / 4
	return &Budget{filled: newShare(bytes - sent), sent: newShare(sent)}
}

// fit makes sure that parts of so many bytes can be sent, and also filled by clients
// who wait for it.
func (b *Budget) fit(part int64, filled bool) {
	b.sent.atLeast(part)
	if filled {
		b.filled.atLeast(part)
	}
}

// share is a part of a Budget.
type share struct {
	*semaphore.Weighted

	mu   sync.Mutex // guards size
	size int64
}

// limitless is what no share comes to.
const limitless = 1 << 62

func newShare(size int64) *share {
	s := &share{Weighted: semaphore.NewWeighted(limitless), size: size}
	s.TryAcquire(limitless - size)
	return s
}

func (s *share) atLeast(size int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if size > s.size {
		s.Release(size - s.size)
		s.size = size
	}
}

// most is all that anybody can have of it.
func (s *share) most() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.size
}

// acquire waits for n bytes, or for all there are, and returns how many it has got.
func (s *share) acquire(ctx context.Context, n int64) (int64, error) {
	n = min(n, s.most())
	return n, s.Acquire(ctx, n)
}
