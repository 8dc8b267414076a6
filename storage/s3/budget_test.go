package s3

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/caddy-oci/oci-registry/storage"
)

// What one store has of a shared budget the other one can't have.
func TestStoresShareABudget(t *testing.T) {
	t.Parallel()
	shared := NewBudget(2 << 20)
	a := openOn(t, smallParts(), Options{PartSize: 1 << 20, Memory: shared})
	b := openOn(t, smallParts(), Options{PartSize: 1 << 20, Memory: shared})
	u, err := a.Repository(app).NewUpload(t.Context(), storage.UploadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := u.Append(t.Context(), 0, strings.NewReader(text(900_000))); err != nil {
		t.Fatal(err)
	}
	if b.memory.filled.TryAcquire(1 << 20) {
		t.Error("there's memory for both")
	}
	if err := errors.Join(u.Cancel(t.Context()), u.Close()); err != nil {
		t.Fatal(err)
	}
	wantMemory(t, b)
}

// A part fits, however small the budget was. Nobody waits for more than there is.
func TestBudgetGrowsToAPart(t *testing.T) {
	t.Parallel()
	budget := NewBudget(400)
	budget.fit(1000, false)
	if sent, filled := budget.sent.most(), budget.filled.most(); sent != 1000 || filled != 300 {
		t.Errorf("%d and %d bytes, want 1000 and 300", sent, filled)
	}
	budget.fit(700, true)
	if sent, filled := budget.sent.most(), budget.filled.most(); sent != 1000 || filled != 700 {
		t.Errorf("%d and %d bytes, want 1000 and 700", sent, filled)
	}
	if n, err := budget.sent.acquire(t.Context(), 5000); n != 1000 || err != nil {
		t.Errorf("got %d, %v, want all", n, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := budget.sent.acquire(ctx, 1); !errors.Is(err, context.Canceled) {
		t.Errorf("err = %v, want Canceled", err)
	}
}
