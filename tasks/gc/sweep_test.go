package gc_test

import (
	"context"
	"iter"
	"testing"

	"github.com/caddy-oci/oci-registry/oci"
	"github.com/caddy-oci/oci-registry/storage"
	"github.com/caddy-oci/oci-registry/storage/memory"
	"github.com/caddy-oci/oci-registry/tasks/gc"
)

// working is a store whose sweep does so many units of I/O, and finds nothing.
type working struct {
	storage.Store

	units int
}

func (w working) Sweep(ctx context.Context, opts storage.SweepOptions) iter.Seq2[storage.Swept, error] {
	return func(func(storage.Swept, error) bool) { _ = opts.Wait(ctx, w.units) } // it's at its end
}

// What a sweep does beside removing keeps to the round's rate too.
func TestSweepWaits(t *testing.T) {
	t.Parallel()
	waited := 0
	err := gc.Collect(t.Context(), working{memory.New(), 1000}, oci.Name{}, func(oci.Name) {}, gc.Options{
		Wait: func(_ context.Context, n int) error { waited += n; return nil },
	})
	if err != nil || waited < 1000 {
		t.Fatalf("it has waited for %d units, %v; want 1000", waited, err)
	}
}
