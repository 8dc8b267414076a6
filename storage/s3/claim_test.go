package s3

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// Of two processes one has a claim: until it releases it, or is heard of no more.
func TestClaimOfAnotherProcess(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		bucket := smallParts()
		one, two := openOn(t, bucket, Options{}), openOn(t, bucket, Options{})
		release := mustClaim(t, one, "gc")
		mustClaim(t, two, "scrub")()
		for range 20 { // minutes
			wantNoClaim(t, two)
			time.Sleep(time.Minute)
		}
		release()
		mustClaim(t, two, "gc")()
		mustClaim(t, one, "gc")()
	})
}

func TestClaimOfADeadProcess(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		bucket := smallParts()
		two := openOn(t, bucket, Options{})
		dead := &claim{store: two, key: two.keys.claim("gc")}
		if err := dead.write(t.Context(), "dead"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour) // nobody knows since when it's dead
		wantNoClaim(t, two)
		time.Sleep(lapsesAfter - time.Second)
		wantNoClaim(t, two)
		time.Sleep(time.Second)
		mustClaim(t, two, "gc")()
	})
}

// Two that find a claim lapsed don't both get it.
func TestClaimLapsedForTwo(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		bucket := smallParts()
		one, two := openOn(t, bucket, Options{}), openOn(t, bucket, Options{})
		dead := &claim{store: two, key: two.keys.claim("gc")}
		if err := dead.write(t.Context(), "dead"); err != nil {
			t.Fatal(err)
		}
		wantNoClaim(t, one)
		wantNoClaim(t, two)
		time.Sleep(lapsesAfter)
		release := mustClaim(t, one, "gc")
		wantNoClaim(t, two)
		release()
	})
}

// Who has a claim keeps it while the bucket fails for a moment, and ends it whether
// or not it heard of its last write.
func TestClaimOfAFailingBucket(t *testing.T) {
	t.Parallel()
	for name, come := range map[string]func(b *fake, what putRequest){
		"refused":    func(*fake, putRequest) {},
		"unanswered": func(b *fake, what putRequest) { _, _ = b.put(context.Background(), what) },
		"belated": func(b *fake, what putRequest) {
			time.AfterFunc(5*time.Second, func() { _, _ = b.put(context.Background(), what) })
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b := &watched{fake: smallParts()}
				var armed atomic.Bool
				var puts atomic.Int64
				b.onPut = func(what putRequest) error {
					if !armed.Load() || puts.Add(1)%2 == 0 {
						return nil
					}
					come(b.fake, what)
					return errSlowDown
				}
				one, two := openOn(t, b, Options{}), openOn(t, b.fake, Options{})
				release := mustClaim(t, one, "gc")
				armed.Store(true)
				for range 40 {
					wantNoClaim(t, two)
					time.Sleep(renewEvery)
				}
				puts.Store(0) // the last one fails, too
				release()
				mustClaim(t, two, "gc")()
			})
		})
	}
}

// A claim whose first write has no answer is had if it's there.
func TestClaimUnanswered(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := &watched{fake: smallParts()}
		one, two := openOn(t, b, Options{}), openOn(t, b.fake, Options{})
		b.onPut = func(what putRequest) error {
			b.onPut = nil
			_, _ = b.fake.put(t.Context(), what)
			return errTemporary
		}
		release := mustClaim(t, one, "gc")
		wantNoClaim(t, two)
		release()
		b.onPut = func(putRequest) error { return errTemporary }
		if _, ok, err := one.Claim(t.Context(), "gc"); ok || !errors.Is(err, errTemporary) {
			t.Fatalf("a claim that nobody wrote: %v, %v", ok, err)
		}
		mustClaim(t, two, "gc")()
	})
}

func mustClaim(t *testing.T, s *Store, name string) (release func()) {
	t.Helper()
	release, ok, err := s.Claim(t.Context(), name)
	if err != nil || !ok {
		t.Fatalf("claim %s: %v, %v; want it", name, ok, err)
	}
	return release
}

func wantNoClaim(t *testing.T, s *Store) {
	t.Helper()
	if _, ok, err := s.Claim(t.Context(), "gc"); err != nil || ok {
		t.Fatalf("claim gc: %v, %v; another process has it", ok, err)
	}
}
