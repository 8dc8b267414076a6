//go:build real

package reload

import (
	"context"
	"fmt"
	"net/http"
	"testing"

	"github.com/caddy-oci/oci-registry/test/crowd"
	"github.com/caddy-oci/oci-registry/test/image"
	"github.com/caddy-oci/oci-registry/test/registry"
	"github.com/caddy-oci/oci-registry/test/remote"
)

// makePatient gives a server's clients patience. The result counts what they have
// sent again.
func makePatient(srv *registry.Server) *remote.Patient {
	p := remote.NewPatient()
	srv.Client = &http.Client{Transport: p}
	return p
}

// startClients makes four clients push images and pull what they have pushed. A
// turn is one image.
func startClients(t *testing.T, srv *registry.Server) *crowd.Crowd {
	t.Helper()
	var turns []func(context.Context) error
	for client := range 4 {
		repository := srv.Repository(fmt.Sprintf("client%d", client))
		n := 0
		turns = append(turns, func(ctx context.Context) error {
			n++
			c := image.Random(uint64(client)<<32|uint64(n), 2, 64<<10)
			tag := fmt.Sprintf("v%d", n%10)
			if err := repository.Push(ctx, c, tag); err != nil {
				return fmt.Errorf("push %d: %w", n, err)
			}
			desc, err := repository.Verify(ctx, tag)
			if err != nil || desc.Digest != c.Digest {
				return fmt.Errorf("pull %d: %s, want %s (%w)", n, desc.Digest, c.Digest, err)
			}
			return nil
		})
	}
	return crowd.Start(t, turns...)
}
