package authn_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-oci/oci-registry/authz"
	"github.com/caddy-oci/oci-registry/authz/authn"
	"github.com/caddy-oci/oci-registry/authz/authn/authntest"
)

// versioned is a source that tells when it changes.
type versioned struct {
	*source

	version atomic.Uint64
}

func (v *versioned) Version(string) uint64 { return v.version.Load() }

// accounts is a source that knows of accounts without their passwords.
type accounts struct{ *source }

func (a accounts) Lookup(_ context.Context, user string) (authz.Identity, error) {
	if _, ok := a.passwords[user]; !ok {
		return authz.Identity{}, authn.ErrRefused
	}
	return authz.Identity{ID: user}, nil
}

func TestVerifiedIsASource(t *testing.T) {
	t.Parallel()
	v := authn.NewVerified(accounts{knows("alice", "secret")}, authn.VerifiedOptions{})
	for range 2 { // as the source says, and as it is remembered
		authntest.Source(t, v, authntest.User{Name: "alice", Password: "secret"})
	}
}

func TestARightPasswordIsAskedAboutOnce(t *testing.T) {
	t.Parallel()
	s := knows("alice", "secret", "bob", "secret")
	v := authn.NewVerified(s, authn.VerifiedOptions{})
	for range 3 {
		who, err := v.Authenticate(t.Context(), "alice", "secret")
		if err != nil || who.ID != "alice" || who.Provider != "test" || !slices.Equal(who.Groups, []string{"staff"}) {
			t.Fatalf("%+v, %v", who, err)
		}
	}
	if s.times() != 1 {
		t.Errorf("it was asked %q", s.asked)
	}
	try(t, v, "bob", "secret", nil)
	try(t, v, "alice", "wrong", authn.ErrRefused)
	try(t, v, "alic", "esecret", authn.ErrRefused)
	try(t, v, "alicesecret", "", authn.ErrRefused)
	if want := []string{"alice secret", "bob secret", "alice wrong", "alic esecret"}; !slices.Equal(s.asked, want) {
		t.Errorf("it was asked %q, want %q", s.asked, want)
	}
}

func TestAnAnswerCountsForItsTTL(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		for ttl, want := range map[time.Duration]time.Duration{0: 5 * time.Minute, time.Hour: time.Hour, time.Second: time.Second} {
			s := knows("alice", "secret")
			v := authn.NewVerified(s, authn.VerifiedOptions{TTL: ttl})
			try(t, v, "alice", "secret", nil)
			for range 2 { // use doesn't prolong it
				time.Sleep(want/2 - 1)
				try(t, v, "alice", "secret", nil)
			}
			if s.times() != 1 {
				t.Errorf("%s: within it the source was asked %q", ttl, s.asked)
			}
			s.set("alice", "other")
			time.Sleep(2 * time.Nanosecond)
			try(t, v, "alice", "secret", authn.ErrRefused)
		}
	})
}

func TestARefusalCountsForShort(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := knows("alice", "secret")
		v := authn.NewVerified(s, authn.VerifiedOptions{})
		for range 2 {
			try(t, v, "alice", "new", authn.ErrRefused)
		}
		if s.times() != 1 {
			t.Errorf("it was asked %q", s.asked)
		}
		s.set("alice", "new")
		time.Sleep(3 * time.Second)
		try(t, v, "alice", "new", nil)
	})
}

func TestWhatChangesAtTheSourceCountsAtOnce(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := &versioned{source: knows("alice", "secret")}
		s.version.Store(1)
		v := authn.NewVerified(s, authn.VerifiedOptions{})
		for range 2 {
			try(t, v, "alice", "secret", nil)
			try(t, v, "alice", "new", authn.ErrRefused)
			time.Sleep(time.Minute)
		}
		if s.times() != 2 {
			t.Errorf("without a change it was asked %q", s.asked)
		}
		s.set("alice", "new")
		s.version.Add(1)
		try(t, v, "alice", "secret", authn.ErrRefused)
		try(t, v, "alice", "new", nil)
	})
}

// Who comes after a change doesn't get the answer to a question from before.
func TestAChangeWhileTheSourceIsAsked(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := &versioned{source: knows("alice", "secret")}
		s.version.Store(1)
		s.hold = make(chan struct{})
		v := authn.NewVerified(s, authn.VerifiedOptions{Concurrency: 2})
		go func() { _, _ = v.Authenticate(t.Context(), "alice", "secret") }()
		synctest.Wait()
		s.version.Add(1)
		go func() { _, _ = v.Authenticate(t.Context(), "alice", "secret") }()
		synctest.Wait()
		if s.times() != 2 {
			t.Errorf("it was asked %d times, want 2", s.times())
		}
		close(s.hold)
		synctest.Wait()
	})
}

func TestThatItCouldNotSayIsNotRemembered(t *testing.T) {
	t.Parallel()
	s := knows("alice", "secret")
	v := authn.NewVerified(s, authn.VerifiedOptions{})
	s.err = errAway
	try(t, v, "alice", "secret", errAway)
	s.err = nil
	try(t, v, "alice", "secret", nil)
	s.err = errAway
	try(t, v, "alice", "secret", nil)
	try(t, v, "alice", "wrong", errAway)
}

func TestOnlySoManyAreRemembered(t *testing.T) {
	t.Parallel()
	s := knows("a", "1", "b", "1", "c", "1")
	v := authn.NewVerified(s, authn.VerifiedOptions{Max: 2})
	for _, user := range []string{"a", "b", "a", "c", "a"} { // b makes room
		try(t, v, user, "1", nil)
	}
	for i := range 10 { // who guesses pushes nobody out
		try(t, v, "a", fmt.Sprint("wrong", i), authn.ErrRefused)
	}
	before := s.times()
	try(t, v, "a", "1", nil)
	try(t, v, "c", "1", nil)
	if s.times() != before {
		t.Errorf("it was asked %q", s.asked[before:])
	}
	try(t, v, "b", "1", nil)
	try(t, v, "a", "wrong0", authn.ErrRefused)
	if s.times() != before+2 {
		t.Errorf("it was asked %q, want b and wrong0", s.asked[before:])
	}
}

// atOnce calls Authenticate for each of users at once, and returns what waits for their errors.
func atOnce(t *testing.T, v *authn.Verified, password string, users ...string) func() []error {
	errs := make([]error, len(users))
	var all sync.WaitGroup
	for i, user := range users {
		all.Go(func() { _, errs[i] = v.Authenticate(t.Context(), user, password) })
	}
	synctest.Wait()
	return func() []error { all.Wait(); return errs }
}

func TestTheSameCredentialsAreAskedAboutOnce(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		for want, prepare := range map[error]func(*source){
			nil:              func(*source) {},
			authn.ErrRefused: func(s *source) { s.passwords["alice"] = "other" },
			errAway:          func(s *source) { s.err = errAway },
		} {
			s := knows("alice", "secret")
			s.hold = make(chan struct{})
			prepare(s)
			v := authn.NewVerified(s, authn.VerifiedOptions{})
			wait := atOnce(t, v, "secret", slices.Repeat([]string{"alice"}, 10)...)
			close(s.hold)
			for _, err := range wait() {
				if !errors.Is(err, want) {
					t.Errorf("%v, want %v", err, want)
				}
			}
			if s.times() != 1 {
				t.Errorf("%v: it was asked %d times", want, s.times())
			}
		}
	})
}

func TestOnlySoManyAreAskedAboutAtOnce(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		users := []string{"a", "b", "c", "d", "e", "f"}
		s := knows("a", "1", "b", "1", "c", "1", "d", "1", "e", "1", "f", "1")
		s.hold = make(chan struct{})
		v := authn.NewVerified(s, authn.VerifiedOptions{Concurrency: 2})
		wait := atOnce(t, v, "1", users...)
		if s.times() != 2 {
			t.Errorf("it is asked %d at once, want 2", s.times())
		}
		ctx, giveUp := context.WithTimeout(t.Context(), time.Second)
		defer giveUp()
		began := time.Now()
		if _, err := v.Authenticate(ctx, "g", "1"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("who waits for a slot and gives up is told %v", err)
		}
		if waited := time.Since(began); waited != time.Second {
			t.Errorf("and that after %s", waited)
		}
		close(s.hold)
		for i, err := range wait() {
			if err != nil {
				t.Errorf("%s: %v", users[i], err)
			}
		}
		if s.most != 2 || s.times() != len(users) {
			t.Errorf("%d at once, %q", s.most, s.asked)
		}
	})
}

// Who asks for several doesn't decide for them when to give up.
func TestWhoAsksGivesUp(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := knows("alice", "secret")
		s.hold = make(chan struct{})
		v := authn.NewVerified(s, authn.VerifiedOptions{Concurrency: 1})
		ctx, giveUp := context.WithCancel(t.Context())
		go func() { _, _ = v.Authenticate(ctx, "alice", "secret") }()
		synctest.Wait()
		wait := atOnce(t, v, "secret", "alice", "alice")
		giveUp()
		synctest.Wait()
		if s.times() != 2 {
			t.Errorf("it was asked %d times, want once more by one of the two", s.times())
		}
		close(s.hold)
		for _, err := range wait() {
			if err != nil {
				t.Error(err)
			}
		}
	})
}

func TestWhoWaitsForAnAnswerGivesUp(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := knows("alice", "secret")
		s.hold = make(chan struct{})
		v := authn.NewVerified(s, authn.VerifiedOptions{})
		wait := atOnce(t, v, "secret", "alice")
		ctx, giveUp := context.WithTimeout(t.Context(), time.Second)
		defer giveUp()
		if _, err := v.Authenticate(ctx, "alice", "secret"); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		close(s.hold)
		if err := wait()[0]; err != nil {
			t.Error(err)
		}
	})
}

func TestASourceThatPanicsHoldsNothing(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := knows("alice", "secret")
		s.panics = true
		v := authn.NewVerified(s, authn.VerifiedOptions{Concurrency: 1})
		for range 2 {
			func() {
				defer func() {
					if recover() == nil {
						t.Error("it went unnoticed")
					}
				}()
				_, _ = v.Authenticate(t.Context(), "alice", "secret")
			}()
		}
		s.panics = false
		try(t, v, "alice", "secret", nil)
	})
}

func TestLookup(t *testing.T) {
	t.Parallel()
	s := knows("alice", "secret")
	if _, err := authn.NewVerified(s, authn.VerifiedOptions{}).Lookup(t.Context(), "alice"); !errors.Is(err, errors.ErrUnsupported) || errors.Is(err, authn.ErrRefused) {
		t.Errorf("of a source that is no directory: %v", err)
	}
	v := authn.NewVerified(accounts{s}, authn.VerifiedOptions{})
	if who, err := v.Lookup(t.Context(), "alice"); who.ID != "alice" || err != nil {
		t.Errorf("%+v, %v", who, err)
	}
	delete(s.passwords, "alice")
	if _, err := v.Lookup(t.Context(), "alice"); !errors.Is(err, authn.ErrRefused) {
		t.Errorf("once alice is gone: %v", err)
	}
}

func (a accounts) Generation(_ context.Context, user string) (string, error) {
	return a.passwords[user] + "'s", nil
}

func TestVerifiedGeneration(t *testing.T) {
	t.Parallel()
	s := knows("alice", "secret")
	if g, err := authn.NewVerified(s, authn.VerifiedOptions{}).Generation(t.Context(), "alice"); g != "" || err != nil {
		t.Errorf("of a source that has none: %q, %v", g, err)
	}
	if g, err := authn.NewVerified(accounts{s}, authn.VerifiedOptions{}).Generation(t.Context(), "alice"); g != "secret's" || err != nil {
		t.Errorf("%q, %v", g, err)
	}
}

// Every pull of a layer brings its password.
func TestWhatIsRememberedAllocatesNothing(t *testing.T) {
	if raceDetector {
		t.Skip("pools lose things at random")
	}
	v := authn.NewVerified(knows("alice", "secret"), authn.VerifiedOptions{})
	ask := func() { _, _ = v.Authenticate(t.Context(), "alice", "secret") }
	ask()
	if n := testing.AllocsPerRun(100, ask); n != 0 {
		t.Errorf("%v allocations", n)
	}
	guess := func() { _, _ = v.Authenticate(t.Context(), "alice", "wrong") }
	guess()
	if n := testing.AllocsPerRun(100, guess); n != 0 {
		t.Errorf("%v allocations for a wrong one", n)
	}
	limited, anonymous := authn.NewLimits(authn.LimitOptions{}).Around(authn.Basic{Source: v}), request(t)
	if n := testing.AllocsPerRun(100, func() { _, _, _ = limited.Identify(anonymous) }); n != 0 {
		t.Errorf("%v allocations for a request without credentials", n)
	}
}

// BenchmarkIdentify is what a request costs that has a password which is remembered,
// beside one without.
func BenchmarkIdentify(b *testing.B) {
	chain := authn.Chain{authn.Basic{Source: authn.NewVerified(knows("alice", "secret"), authn.VerifiedOptions{})}}
	limited := authn.NewLimits(authn.LimitOptions{}).Around(chain)
	for name, m := range map[string]authn.Method{"chain": chain, "limited": limited} {
		anonymous, alice := request(b), request(b, basic("alice", "secret"))
		b.Run(name+"/anonymous", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				_, _, _ = m.Identify(anonymous)
			}
		})
		b.Run(name+"/alice", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, _, err := m.Identify(alice); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// Version 0 comes twice: alice is added while her password is verified, and removed
// after it, or before that ends.
func TestAUserWhoComesAndGoes(t *testing.T) {
	for _, early := range []bool{false, true} {
		t.Run(fmt.Sprint(early), func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				s := &versioned{source: knows("alice", "secret")}
				s.hold = make(chan struct{})
				v := authn.NewVerified(s, authn.VerifiedOptions{})
				done := make(chan struct{})
				go func() { defer close(done); try(t, v, "alice", "secret", nil) }()
				synctest.Wait()
				if !early {
					s.version.Store(1)
				}
				close(s.hold)
				<-done
				s.version.Store(0)
				s.set("alice", "")
				try(t, v, "alice", "secret", authn.ErrRefused)
			})
		})
	}
}
