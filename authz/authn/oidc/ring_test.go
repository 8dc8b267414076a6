package oidc_test

import (
	"errors"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-oci/oci-registry/authz/authn"
	"github.com/caddy-oci/oci-registry/authz/authn/oidc"
)

const (
	rotate  = 24 * time.Hour
	overlap = 12 * time.Hour
)

// sign signs "x".
func sign(t *testing.T, r oidc.Ring) (key string, signature []byte) {
	t.Helper()
	key, signature, err := r.Sign(t.Context(), []byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	return key, signature
}

func verify(t *testing.T, r oidc.Ring, key, text string, signature []byte) bool {
	t.Helper()
	ok, err := r.Verify(t.Context(), key, []byte(text), signature)
	if err != nil {
		t.Fatal(err)
	}
	return ok
}

func TestReplicasShareARing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		shared := newStore()
		rings := make([]oidc.Ring, 4)
		var wg sync.WaitGroup
		for i := range rings { // all at once
			rings[i] = oidc.StoredRing(shared, "sessions/keys", rotate, overlap)
			wg.Go(func() { sign(t, rings[i]) })
		}
		wg.Wait()
		for _, a := range rings {
			key, signature := sign(t, a)
			for _, b := range rings {
				if !verify(t, b, key, "x", signature) || verify(t, b, key, "y", signature) {
					t.Error("replicas don't agree")
				}
			}
		}
		if shared.saves != 1 {
			t.Errorf("%d keys were made", shared.saves)
		}
	})
}

func TestRotation(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		shared := newStore()
		a := oidc.StoredRing(shared, "sessions/keys", rotate, overlap)
		b := oidc.StoredRing(shared, "sessions/keys", rotate, overlap)
		type signed struct {
			key       string
			signature []byte
			at        time.Time
		}
		var all []signed
		keys := map[string]bool{}
		for range 4 * 24 * 2 { // every half hour for four days
			for _, r := range []oidc.Ring{a, b} {
				key, signature := sign(t, r)
				keys[key] = true
				all = append(all, signed{key, signature, time.Now()})
				for _, other := range []oidc.Ring{a, b} {
					for _, s := range all {
						if time.Since(s.at) < overlap && !verify(t, other, s.key, "x", s.signature) {
							t.Fatal("a session has ended before its time")
						}
					}
				}
			}
			time.Sleep(30 * time.Minute)
		}
		if len(keys) < 3 || len(keys) > 5 {
			t.Errorf("%d keys in four days", len(keys))
		}
		if verify(t, a, all[0].key, "x", all[0].signature) {
			t.Error("the first key is good for ever")
		}
	})
}

// TestANewKeyIsNotUsedAtOnce has a replica that looked at the keys just before the new
// one came.
func TestANewKeyIsNotUsedAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		shared := newStore()
		a := oidc.StoredRing(shared, "sessions/keys", rotate, overlap)
		b := oidc.StoredRing(shared, "sessions/keys", rotate, overlap)
		sign(t, a)
		time.Sleep(rotate - time.Millisecond)
		sign(t, b)
		time.Sleep(time.Millisecond)
		for range 20 {
			key, signature := sign(t, a)
			if !verify(t, b, key, "x", signature) {
				t.Fatal("a session that has just begun is refused")
			}
			time.Sleep(time.Second)
		}
	})
}

func TestKeysThatAreGone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		shared := newStore()
		l := newLogin(t, oidc.Config{Keys: oidc.StoredRing(shared, "sessions/keys", rotate, overlap)}, nowhere("sso"))
		c := grant(t, l, alice)
		isAlice(t, "a session", l, request(c))
		if err := shared.Delete(t.Context(), "sessions/keys", ""); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Second)
		isRefused(t, "its key is gone", l, request(c))
	})
}

func TestKeysThatAreReplaced(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		shared := newStore()
		login := func() *oidc.Login {
			return newLogin(t, oidc.Config{Keys: oidc.StoredRing(shared, "sessions/keys", rotate, overlap)}, nowhere("sso"))
		}
		a, b := login(), login()
		c := grant(t, a, alice)
		isAlice(t, "a session", b, request(c))
		shared.setDown(true)
		if err := a.EndAll(t.Context()); !errors.Is(err, errDown) {
			t.Errorf("while the store is down: %v", err)
		}
		shared.setDown(false)
		isAlice(t, "what couldn't be ended", a, request(c))
		time.Sleep(time.Second)
		if err := a.EndAll(t.Context()); err != nil {
			t.Fatal(err)
		}
		isRefused(t, "here, at once", a, request(c))
		again := grant(t, a, alice)
		isAlice(t, "signed in again", a, request(again))
		isAlice(t, "at another replica", b, request(again))
		isRefused(t, "there", b, request(c))
		time.Sleep(time.Minute)
		isAlice(t, "signed in again, later", a, request(again))

		shared.fill(t, "sessions/keys", "spoiled")
		if err := a.EndAll(t.Context()); err != nil {
			t.Errorf("keys that can't be read: %v", err)
		}
	})
}

func TestARingWhoseStoreIsDown(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		shared := newStore()
		shared.setDown(true)
		r := oidc.StoredRing(shared, "sessions/keys", rotate, overlap)
		if _, _, err := r.Sign(t.Context(), nil); !errors.Is(err, errDown) {
			t.Errorf("%v", err)
		}
		l := newLogin(t, oidc.Config{Keys: r}, nowhere("sso"))
		c := &http.Cookie{Name: l.SessionCookie(request()), Value: "key.e30.AAAA"}
		if _, found, err := l.Identify(request(c)); !found || err == nil || errors.Is(err, authn.ErrRefused) {
			t.Errorf("%t, %v", found, err)
		}
		shared.setDown(false)
		time.Sleep(time.Second)
		key, signature := sign(t, r)
		shared.setDown(true)
		time.Sleep(time.Hour)
		if !verify(t, r, key, "x", signature) {
			t.Error("the key is known")
		}
		if _, err := r.Verify(t.Context(), "another", []byte("x"), signature); !errors.Is(err, errDown) {
			t.Errorf("a key that isn't known: %v", err)
		}
	})
}

func TestKeysThatWereSpoiled(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", "x", `{"keys":[{"id":"a","secret":"","made":"2026-01-01T00:00:00Z"}]}`} {
		shared := newStore()
		if _, err := shared.Save(t.Context(), "sessions/keys", []byte(text), ""); err != nil {
			t.Fatal(err)
		}
		if _, _, err := oidc.StoredRing(shared, "sessions/keys", rotate, overlap).Sign(t.Context(), nil); err == nil {
			t.Errorf("%q are keys", text)
		}
	}
}
