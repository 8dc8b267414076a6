package keep_test

import (
	"testing"

	"github.com/caddy-oci/oci-registry/authz/keep"
	"github.com/caddy-oci/oci-registry/authz/keep/keeptest"
)

func TestMemory(t *testing.T) {
	t.Parallel()
	keeptest.Run(t, func(*testing.T) (one, other keep.Store, again func() keep.Store) {
		m := new(keep.Memory)
		return m, m, func() keep.Store { return m }
	})
}
