package beside_test

import (
	"testing"

	"github.com/caddy-oci/oci-registry/authz/keep"
	"github.com/caddy-oci/oci-registry/authz/keep/beside"
	"github.com/caddy-oci/oci-registry/authz/keep/keeptest"
	"github.com/caddy-oci/oci-registry/storage/memory"
)

func TestMemory(t *testing.T) {
	t.Parallel()
	keeptest.Run(t, func(t *testing.T) (one, other keep.Store, again func() keep.Store) {
		s := memory.New()
		t.Cleanup(func() {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
		return beside.New(s), beside.New(s), nil
	})
}
