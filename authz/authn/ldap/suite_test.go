package ldap_test

import (
	"testing"

	"github.com/caddy-oci/oci-registry/authz/authn/authntest"
)

func TestSource(t *testing.T) {
	t.Parallel()
	d := newDirectory(t)
	authntest.Source(t, open(t, d), authntest.User{Name: "alice", Password: "password of alice", Provider: "ldap"})
}
