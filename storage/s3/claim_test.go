package s3

import (
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
