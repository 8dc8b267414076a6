package apikey_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-oci/oci-registry/authz"
	"github.com/caddy-oci/oci-registry/authz/authn"
	"github.com/caddy-oci/oci-registry/authz/authn/apikey"
)

// TestOwner: a key is as good as its owner's account.
func TestOwner(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, apikey.Options{})
		secret, _ := w.create(alice(), apikey.Wanted{})
		w.accepted(w.keys, "alice", secret)
		w.people.set(func(d *directory) { d.groups["alice"] = []string{"ops"} })
		time.Sleep(5 * time.Minute)
		if who := w.accepted(w.keys, "alice", secret); !slices.Equal(who.Groups, []string{"ops"}) {
			t.Errorf("the groups are %v", who.Groups)
		}
		w.people.set(func(d *directory) { delete(d.groups, "alice") })
		time.Sleep(5 * time.Minute)
		w.refused(w.keys, "alice", secret)
		w.refused(w.replica(), "alice", secret)
		w.people.set(func(d *directory) { d.groups["alice"] = nil })
		time.Sleep(5 * time.Minute)
		w.accepted(w.keys, "alice", secret)
	})
}

// TestOwnersAreRarelyAsked: not with each request.
func TestOwnersAreRarelyAsked(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, apikey.Options{})
		secret, _ := w.create(alice(), apikey.Wanted{})
		for range 3000 {
			w.accepted(w.keys, "alice", secret)
			time.Sleep(time.Second)
		}
		if w.people.asked > 12 {
			t.Errorf("asked %d times in 50 minutes", w.people.asked)
		}
	})
}

// TestSourceDown: keys go on for an hour while nobody can say, on a replica that has
// just started, too; then nobody knows, which is no refusal.
func TestSourceDown(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, apikey.Options{})
		secret, _ := w.create(alice(), apikey.Wanted{})
		w.accepted(w.keys, "alice", secret)
		w.people.set(func(d *directory) { d.down = true })
		for range 5 {
			time.Sleep(10 * time.Minute)
			if who := w.accepted(w.keys, "alice", secret); !slices.Equal(who.Groups, []string{"dev"}) {
				t.Errorf("the groups are %v", who.Groups)
			}
			w.accepted(w.replica(), "alice", secret)
		}
		time.Sleep(20 * time.Minute)
		for _, keys := range []*apikey.Keys{w.keys, w.replica()} {
			if _, err := keys.Authenticate(t.Context(), "alice", secret); !errors.Is(err, errDown) || errors.Is(err, authn.ErrRefused) {
				t.Errorf("after the grace: %v", err)
			}
		}
		w.people.set(func(d *directory) { d.down = false })
		time.Sleep(time.Minute)
		w.accepted(w.keys, "alice", secret)
	})
}

// TestCheckEndsAtOnce: it doesn't wait for a source that hangs once nobody wants it any more.
func TestCheckEndsAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, apikey.Options{})
		w.create(alice(), apikey.Wanted{})
		keys, err := apikey.New(apikey.Options{State: w.state, Directory: func(string) authn.Directory { return hanging{} }})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began := time.Now()
		if err := keys.Check(ctx); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != time.Second {
			t.Errorf("after %v: %v", time.Since(began), err)
		}
		time.Sleep(time.Minute)
	})
}

// hanging is a directory that never answers.
type hanging struct{}

func (hanging) Lookup(ctx context.Context, _ string) (authz.Identity, error) {
	<-ctx.Done()
	return authz.Identity{}, ctx.Err()
}

// TestNoDirectory: keys of users that nobody can be asked about last until they expire,
// which is soon.
func TestNoDirectory(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, apikey.Options{})
		ci := authz.Identity{ID: "ci", Provider: "workload", Groups: []string{"bots"}}
		if _, _, err := w.keys.Create(t.Context(), ci, apikey.Wanted{Life: 25 * time.Hour}); err == nil {
			t.Error("there's a key for longer than a day")
		}
		secret, key := w.create(ci, apikey.Wanted{})
		if life := key.Expires.Sub(key.Created); life != 24*time.Hour {
			t.Errorf("it's good for %v", life)
		}
		time.Sleep(23 * time.Hour)
		if who := w.accepted(w.replica(), "ci", secret); !slices.Equal(who.Groups, []string{"bots"}) {
			t.Errorf("the groups are %v", who.Groups)
		}
	})
}

func TestCheck(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, apikey.Options{})
		secret, _ := w.create(alice(), apikey.Wanted{Life: 60 * 24 * time.Hour})
		w.happened()
		check := func(want ...apikey.EventKind) {
			t.Helper()
			time.Sleep(5 * time.Minute)
			for _, keys := range []*apikey.Keys{w.keys, w.replica()} {
				if err := keys.Check(t.Context()); err != nil {
					t.Error(err)
				}
			}
			if got := w.happened(); !slices.Equal(got, want) {
				t.Errorf("happened: %v, want %v", got, want)
			}
		}
		check()
		w.people.set(func(d *directory) { delete(d.groups, "alice") })
		check(apikey.Orphaned)
		w.people.set(func(d *directory) { d.down = true })
		time.Sleep(time.Minute)
		// There's no grace for an account that's known to be gone.
		if _, err := w.replica().Authenticate(t.Context(), "alice", secret); err == nil {
			t.Error("the key of an account that was gone is accepted while the source is down")
		}
		w.people.set(func(d *directory) { d.down, d.groups["alice"] = false, []string{"dev"} })
		check(apikey.Adopted)
		time.Sleep(45 * 24 * time.Hour)
		check()
		time.Sleep(24 * time.Hour)
		check(apikey.Expiring)
		check()
		time.Sleep(14 * 24 * time.Hour)
		check()
		if keys, err := w.keys.List(t.Context(), "file", "alice"); err != nil || len(keys) != 1 {
			t.Errorf("a key that has expired lately isn't listed: %v, %v", keys, err)
		}
		time.Sleep(31 * 24 * time.Hour)
		check(apikey.Removed)
		if keys, err := w.keys.All(t.Context()); err != nil || len(keys) != 0 {
			t.Errorf("%v, %v", keys, err)
		}
	})
}

// TestCheckTellsOfTrouble: a source that's down makes it fail, and says nothing of anybody.
func TestCheckTellsOfTrouble(t *testing.T) {
	t.Parallel()
	w := newWorld(t, apikey.Options{})
	w.create(alice(), apikey.Wanted{})
	w.happened()
	w.people.set(func(d *directory) { d.down = true })
	if err := w.keys.Check(t.Context()); !errors.Is(err, errDown) {
		t.Errorf("%v", err)
	}
	if got := w.happened(); len(got) > 0 {
		t.Errorf("happened: %v", got)
	}
}

// TestStanding: what was given for a key ends with it, and for a user with the account.
func TestStanding(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, apikey.Options{})
		secret, key := w.create(alice(), apikey.Wanted{})
		byKey := w.accepted(w.keys, "alice", secret)
		for _, who := range []authz.Identity{byKey, alice()} {
			if now, err := w.keys.Standing(t.Context(), who); err != nil || now.ID != "alice" || !slices.Equal(now.Groups, []string{"dev"}) {
				t.Errorf("%+v, %v", now, err)
			}
		}
		if _, err := w.keys.Standing(t.Context(), authz.Identity{ID: "ci", Provider: "workload"}); !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("nobody to ask: %v", err)
		}
		forged := byKey
		forged.ID = "bob"
		if _, err := w.keys.Standing(t.Context(), forged); !errors.Is(err, authn.ErrRefused) {
			t.Errorf("another user's key: %v", err)
		}
		if err := w.keys.Revoke(t.Context(), alice(), key.ID); err != nil {
			t.Fatal(err)
		}
		if _, err := w.keys.Standing(t.Context(), byKey); !errors.Is(err, authn.ErrRefused) {
			t.Errorf("after it was revoked: %v", err)
		}
		w.people.set(func(d *directory) { delete(d.groups, "alice") })
		time.Sleep(5 * time.Minute)
		if _, err := w.keys.Standing(t.Context(), alice()); !errors.Is(err, authn.ErrRefused) {
			t.Errorf("without an account: %v", err)
		}
	})
}

// TestProviderGone: a key that was good for long because of its owner's account isn't
// when nobody can be asked about that any more.
func TestProviderGone(t *testing.T) {
	t.Parallel()
	w := newWorld(t, apikey.Options{})
	long, _ := w.create(alice(), apikey.Wanted{})
	short, _ := w.create(alice(), apikey.Wanted{Life: time.Hour})
	opts := w.opts
	opts.Directory = nil
	reloaded, err := apikey.New(opts)
	if err != nil {
		t.Fatal(err)
	}
	w.accepted(reloaded, "alice", short)
	w.refused(reloaded, "alice", long)
}
