package readonly_test

import (
	"testing"

	"github.com/caddy-oci/oci-registry/storage"
	"github.com/caddy-oci/oci-registry/storage/memory"
	"github.com/caddy-oci/oci-registry/storage/readonly"
	"github.com/caddy-oci/oci-registry/storage/storagetest"
)

func TestReadOnly(t *testing.T) {
	t.Parallel()
	storagetest.ReadOnly(t, func(*testing.T) (below, readOnly storage.Store) {
		s := memory.New()
		return s, readonly.New(s)
	})
}
