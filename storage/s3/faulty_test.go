package s3

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/caddy-oci/oci-registry/storage"
	"github.com/caddy-oci/oci-registry/storage/storagetest"
)

// faulty is a bucket whose calls fail at random: refused, done without an answer,
// or answered with half a body.
type faulty struct {
	bucket

	refused, lost, cut float64 // how many of the calls, from 0 to 1

	mu     sync.Mutex
	random *rand.Rand
}

func newFaulty(b bucket, seed uint64) *faulty {
	return &faulty{bucket: b, random: rand.New(rand.NewPCG(seed, 0))}
}

func (f *faulty) roll(share float64) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.random.Float64() < share
}

// fail makes a call that may fail.
func fail[T any](f *faulty, call func() (T, error)) (T, error) {
	var zero T
	if f.roll(f.refused) {
		if f.roll(0.5) {
			return zero, fmt.Errorf("%w: 503", errSlowDown)
		}
		return zero, fmt.Errorf("%w: 500", errTemporary)
	}
	v, err := call()
	if f.roll(f.lost) {
		return zero, fmt.Errorf("%w: no answer", errTemporary)
	}
	return v, err
}

func (f *faulty) get(ctx context.Context, what getRequest) (*gotten, error) {
	got, err := fail(f, func() (*gotten, error) { return f.bucket.get(ctx, what) })
	if err != nil || !f.roll(f.cut) {
		return got, err
	}
	body, err := io.ReadAll(got)
	half := io.MultiReader(bytes.NewReader(body[:len(body)/2]), broken{})
	return &gotten{io.NopCloser(half), got.ETag}, err
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

func (f *faulty) stat(ctx context.Context, key string) (listed, error) {
	return fail(f, func() (listed, error) { return f.bucket.stat(ctx, key) })
}

func (f *faulty) list(ctx context.Context, prefix, after string) (page []listed, more bool, err error) {
	page, err = fail(f, func() ([]listed, error) {
		page, more, err = f.bucket.list(ctx, prefix, after)
		return page, err
	})
	return page, more, err
}

func (f *faulty) put(ctx context.Context, what putRequest) (string, error) {
	return fail(f, func() (string, error) { return f.bucket.put(ctx, what) })
}

func (f *faulty) remove(ctx context.Context, keys ...string) error {
	_, err := fail(f, func() (none, error) { return none{}, f.bucket.remove(ctx, keys...) })
	return err
}

func (f *faulty) begin(ctx context.Context, key string) (string, error) {
	return fail(f, func() (string, error) { return f.bucket.begin(ctx, key) })
}

func (f *faulty) part(ctx context.Context, key, upload string, n int, body []byte) (string, error) {
	return fail(f, func() (string, error) { return f.bucket.part(ctx, key, upload, n, body) })
}

func (f *faulty) complete(ctx context.Context, key, upload string, parts []part) error {
	_, err := fail(f, func() (none, error) { return none{}, f.bucket.complete(ctx, key, upload, parts) })
	return err
}

func (f *faulty) abort(ctx context.Context, key, upload string) error {
	_, err := fail(f, func() (none, error) { return none{}, f.bucket.abort(ctx, key, upload) })
	return err
}

func (f *faulty) begun(ctx context.Context, prefix string, after begun) (page []begun, more bool, err error) {
	page, err = fail(f, func() ([]begun, error) {
		page, more, err = f.bucket.begun(ctx, prefix, after)
		return page, err
	})
	return page, more, err
}

// watched is a bucket that asks somebody before some calls, who may do something
// meanwhile, and whose error is the answer. What is nil isn't asked.
type watched struct {
	*fake

	onList   func(prefix string) error
	onPut    func(what putRequest) error
	onRemove func(keys []string) error
}

func (w *watched) list(ctx context.Context, prefix, after string) ([]listed, bool, error) {
	if w.onList != nil {
		if err := w.onList(prefix); err != nil {
			return nil, false, err
		}
	}
	return w.fake.list(ctx, prefix, after)
}

func (w *watched) put(ctx context.Context, what putRequest) (string, error) {
	if w.onPut != nil {
		if err := w.onPut(what); err != nil {
			return "", err
		}
	}
	return w.fake.put(ctx, what)
}

func (w *watched) remove(ctx context.Context, keys ...string) error {
	if w.onRemove != nil {
		if err := w.onRemove(keys); err != nil {
			return err
		}
	}
	return w.fake.remove(ctx, keys...)
}

// A bucket that fails every fifth call is nobody's business but the store's.
func TestStoreOnAFaultyBucket(t *testing.T) {
	t.Parallel()
	for name, set := range map[string]func(*faulty){
		"refused": func(f *faulty) { f.refused = 0.2 },
		"lost":    func(f *faulty) { f.lost = 0.2 },
		"cut":     func(f *faulty) { f.cut = 0.2 },
		"all":     func(f *faulty) { f.refused, f.lost, f.cut = 0.1, 0.1, 0.1 },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			open := func(f *fake) storage.Store {
				b := newFaulty(f, 1)
				set(b)
				return openOn(t, b, Options{})
			}
			t.Run("Run", func(t *testing.T) {
				t.Parallel()
				storagetest.Run(t, func(*testing.T) storage.Store { return open(smallParts()) })
			})
			t.Run("Reopen", func(t *testing.T) {
				t.Parallel()
				storagetest.Reopen(t, func(*testing.T) (storage.Store, func() storage.Store) {
					f := smallParts()
					return open(f), func() storage.Store { return open(f) }
				})
			})
		})
	}
}
