package apikey_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/caddy-oci/oci-registry/authz/authn/apikey"
	"github.com/caddy-oci/oci-registry/authz/keep"
	"github.com/caddy-oci/oci-registry/oci"
)

// atOnce is a Store in which what's saved first by each of some callers is saved when all
// of them have come.
type atOnce struct {
	keep.Store
	callers *sync.WaitGroup
	left    *atomic.Int64
}

func (a atOnce) Save(ctx context.Context, key string, value []byte, version string) (string, error) {
	if a.left.Add(-1) >= 0 {
		a.callers.Done()
		a.callers.Wait()
	}
	return a.Store.Save(ctx, key, value, version)
}

// However many are made at once, nobody gets more than there may be.
func TestManyKeysAtOnce(t *testing.T) {
	t.Parallel()
	const callers, most = 8, 3
	s := atOnce{new(keep.Memory), new(sync.WaitGroup), new(atomic.Int64)}
	s.callers.Add(callers)
	s.left.Store(callers)
	w := newWorld(t, apikey.Options{State: s, MaxKeys: most})
	var made, wrong atomic.Int64
	var all sync.WaitGroup
	for range callers {
		all.Go(func() {
			secret, _, err := w.replica().Create(t.Context(), alice(), apikey.Wanted{})
			switch {
			case err == nil:
				made.Add(1)
			case !errors.Is(err, oci.Denied) || secret != "":
				wrong.Add(1)
			}
		})
	}
	all.Wait()
	own, err := w.keys.List(t.Context(), "file", "alice")
	if err != nil || made.Load() > most || len(own) != int(made.Load()) || wrong.Load() > 0 {
		t.Fatalf("%d were made, %d are there, %d failed otherwise, %v", made.Load(), len(own), wrong.Load(), err)
	}
	for range most - len(own) {
		w.create(alice(), apikey.Wanted{})
	}
	if _, _, err := w.keys.Create(t.Context(), alice(), apikey.Wanted{}); !errors.Is(err, oci.Denied) {
		t.Errorf("one too many: %v", err)
	}
}
