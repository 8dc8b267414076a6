package apikey_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-oci/oci-registry/authz"
	"github.com/caddy-oci/oci-registry/authz/authn/apikey"
	"github.com/caddy-oci/oci-registry/authz/keep"
	"github.com/caddy-oci/oci-registry/oci"
)

// TestNoKeyByAToken: a token that was got by a key, for less, makes no key.
func TestNoKeyByAToken(t *testing.T) {
	t.Parallel()
	w := newWorld(t, apikey.Options{})
	secret, _ := w.create(alice(), apikey.Wanted{})
	by := w.accepted(w.keys, "alice", secret)
	by.Limit = []authz.Scope{{Repositories: "x", Actions: []authz.Action{authz.Pull}}}
	for _, want := range []apikey.Wanted{{Life: time.Hour}, {Scopes: by.Limit, Life: time.Hour}} {
		if _, _, err := w.keys.Create(t.Context(), by, want); !errors.Is(err, oci.Denied) {
			t.Errorf("%+v: %v, want DENIED", want, err)
		}
	}
}

// TestCostlyScopes: nobody makes a key that takes long to look at.
func TestCostlyScopes(t *testing.T) {
	t.Parallel()
	w := newWorld(t, apikey.Options{})
	for _, pattern := range []string{strings.Repeat("{a,b}", 6), "[a-z]", `\a`, "a{", "]"} {
		want := apikey.Wanted{Scopes: []authz.Scope{{Repositories: pattern, Actions: []authz.Action{authz.Pull}}}}
		if _, _, err := w.keys.Create(t.Context(), alice(), want); err == nil {
			t.Errorf("there's a key for %s", pattern)
		}
	}
}

// half is a state that stops after so many deletions.
type half struct {
	keep.Store

	left int
}

func (h *half) Delete(ctx context.Context, key, version string) error {
	if h.left == 0 {
		return errors.New("the process was killed")
	}
	h.left--
	return h.Store.Delete(ctx, key, version)
}

// TestRevokeHalf: what a key has created ends with it, however far its revocation came.
func TestRevokeHalf(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, apikey.Options{})
		opts := w.opts
		opts.State = &half{opts.State, 1}
		keys, err := apikey.New(opts)
		if err != nil {
			t.Fatal(err)
		}
		parent, key := w.create(alice(), apikey.Wanted{})
		child, _ := w.create(w.accepted(w.keys, "alice", parent), apikey.Wanted{Life: time.Hour})
		grandchild, _ := w.create(w.accepted(w.keys, "alice", child), apikey.Wanted{Life: time.Hour})
		if err := keys.Revoke(t.Context(), alice(), key.ID); err == nil {
			t.Fatal("it was revoked whole")
		}
		time.Sleep(2 * time.Second)
		for _, secret := range []string{parent, child, grandchild} {
			w.refused(w.keys, "alice", secret)
		}
	})
}
