package authn_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-oci/oci-registry/authz"
	"github.com/caddy-oci/oci-registry/authz/authn"
	"github.com/caddy-oci/oci-registry/oci"
)

const home, office = "192.0.2.1:1000", "198.51.100.7:2000"

// door is a Method within limits, and what is behind it.
type door struct {
	*source
	authn.Method
}

func newDoor(opts authn.LimitOptions) door {
	s := knows("alice", "secret", "bob", "hidden")
	chain := authn.Chain{authn.Basic{Source: authn.NewVerified(s, authn.VerifiedOptions{Concurrency: 1000})}}
	return door{s, authn.NewLimits(opts).Around(chain)}
}

// knock comes from an address with a password, and returns the error and how long it took.
func (d door) knock(t *testing.T, from, user, password string) (time.Duration, error) {
	t.Helper()
	r := request(t, basic(user, password))
	r.RemoteAddr = from
	began := time.Now()
	who, found, err := d.Identify(r)
	if !found || (err == nil) != (who.ID == user) {
		t.Errorf("%s %s: %q, %t, %v", user, password, who.ID, found, err)
	}
	return time.Since(began), err
}

// want is knock, and what has to come of it.
func (d door) want(t *testing.T, from, user, password string, want error) {
	t.Helper()
	if _, err := d.knock(t, from, user, password); !errors.Is(err, want) {
		t.Errorf("%s %s from %s: %v, want %v", user, password, from, err, want)
	}
}

// retryAfter is what a client is told, or 0 if it isn't too many.
func retryAfter(err error) int {
	if e, ok := errors.AsType[*oci.Error](err); ok && e.Code == oci.TooManyRequests && !errors.Is(err, authn.ErrRefused) {
		return e.RetryAfter
	}
	return 0
}

func TestTheAnswerToAWrongPasswordIsHeldBack(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		for delay, want := range map[time.Duration]time.Duration{0: time.Second, 3 * time.Second: 3 * time.Second, -1: 0} {
			d := newDoor(authn.LimitOptions{Delay: delay})
			for _, user := range []string{"alice", "alice", "nobody"} { // remembered or not, there or not
				if took, err := d.knock(t, home, user, "wrong"); took != want || !errors.Is(err, authn.ErrRefused) {
					t.Errorf("%s after %s, %v; want %s", user, took, err, want)
				}
			}
			if took, err := d.knock(t, home, "alice", "secret"); took != 0 || err != nil {
				t.Errorf("the right one after %s, %v", took, err)
			}
		}
	})
}

func TestADelayEndsWithTheRequest(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		d := newDoor(authn.LimitOptions{})
		ctx, leave := context.WithTimeout(t.Context(), time.Millisecond)
		defer leave()
		began := time.Now()
		_, _, err := d.Identify(request(t, basic("alice", "wrong")).WithContext(ctx))
		if took := time.Since(began); took != time.Millisecond || !errors.Is(err, authn.ErrRefused) {
			t.Errorf("after %s, %v", took, err)
		}
	})
}

// What isn't a wrong password is answered at once.
func TestOnlyPasswordsAreHeldBack(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		d := newDoor(authn.LimitOptions{})
		for _, header := range []string{"", "Basic Og==", "Basic !", "Bearer expired"} {
			began := time.Now()
			_, _, _ = d.Identify(request(t, header))
			if took := time.Since(began); took != 0 {
				t.Errorf("%q took %s", header, took)
			}
		}
		d.err = errAway
		if took, err := d.knock(t, home, "alice", "secret"); took != 0 || !errors.Is(err, errAway) {
			t.Errorf("a source that's away after %s, %v", took, err)
		}
	})
}

// Two sources, of which one is away: what the other refuses is wrong for all that.
func TestWrongPasswordsCountDuringAnOutage(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		away := knows("alice", "other")
		away.err = errAway
		for _, awayFirst := range []bool{false, true} {
			s := knows("alice", "secret")
			chain := authn.Chain{}
			for _, one := range []*source{s, away} {
				chain = append(chain, authn.Basic{Source: authn.NewVerified(one, authn.VerifiedOptions{})})
			}
			if awayFirst {
				chain[0], chain[1] = chain[1], chain[0]
			}
			d := door{s, authn.NewLimits(authn.LimitOptions{PerUser: authn.Rate{Burst: 3, Every: time.Hour}}).Around(chain)}
			if took, err := d.knock(t, home, "alice", "secret"); took != 0 || err != nil {
				t.Errorf("the right one after %s, %v", took, err)
			}
			for _, password := range []string{"1", "1", "2"} { // remembered or not
				if took, err := d.knock(t, home, "alice", password); took != time.Second || !errors.Is(err, errAway) {
					t.Errorf("%s after %s, %v", password, took, err)
				}
			}
			asked := s.times()
			for _, password := range []string{"2", "3"} {
				if took, err := d.knock(t, home, "alice", password); took != 0 || retryAfter(err) == 0 {
					t.Errorf("%s after %s, %v", password, took, err)
				}
			}
			if s.times() != asked {
				t.Error("the source was asked")
			}
		}
	})
}

func TestGuess(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		l, asked := authn.NewLimits(authn.LimitOptions{PerUser: authn.Rate{Burst: 3, Every: time.Hour}}), 0
		guess := func(verdict error) (time.Duration, error) {
			began := time.Now()
			err := l.Try(t.Context(), netip.MustParseAddr("192.0.2.1"), func(ctx context.Context) error {
				err := authn.Guess(ctx, "alice", func() error { asked++; return verdict })
				if errors.Is(err, authn.ErrRefused) {
					return errAway // as another source was
				}
				return err
			})
			return time.Since(began), err
		}
		for range 5 {
			for _, verdict := range []error{nil, errAway} {
				if took, err := guess(verdict); took != 0 || !errors.Is(err, verdict) {
					t.Errorf("%v after %s, want %v", err, took, verdict)
				}
			}
		}
		for range 3 {
			if took, err := guess(authn.ErrRefused); took != time.Second || !errors.Is(err, errAway) {
				t.Errorf("a wrong one: %v after %s", err, took)
			}
		}
		if took, err := guess(nil); took != 0 || retryAfter(err) == 0 || asked != 13 {
			t.Errorf("too many: %v after %s, %d asked", err, took, asked)
		}
		if err := authn.Guess(t.Context(), "alice", func() error { return errAway }); !errors.Is(err, errAway) {
			t.Errorf("without limits: %v", err)
		}
	})
}

func TestTooManyWrongPasswordsForOneName(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		for _, user := range []string{"alice", "nobody"} { // both alike
			d := newDoor(authn.LimitOptions{Delay: -1, PerUser: authn.Rate{Burst: 3, Every: 10 * time.Second}})
			for i := range 3 {
				d.want(t, home, user, fmt.Sprint("wrong", i), authn.ErrRefused)
			}
			asked := d.times()
			_, err := d.knock(t, home, user, "wrong3")
			if got := retryAfter(err); got != 10 {
				t.Errorf("%s: retry after %d s, %v", user, got, err)
			}
			if d.times() != asked {
				t.Error("the source was asked")
			}
			d.want(t, home, user, "secret", oci.TooManyRequests)
			time.Sleep(4500 * time.Millisecond)
			if _, err = d.knock(t, home, user, "wrong3"); retryAfter(err) != 6 {
				t.Errorf("%s: later %d s, %v", user, retryAfter(err), err)
			}
			time.Sleep(5500 * time.Millisecond)
			d.want(t, home, user, "wrong3", authn.ErrRefused)
			d.want(t, home, user, "wrong4", oci.TooManyRequests)
			time.Sleep(time.Hour)
			for i := range 3 {
				d.want(t, home, user, fmt.Sprint("again", i), authn.ErrRefused)
			}
			d.want(t, home, user, "again3", oci.TooManyRequests)
		}
	})
}

// Who knows a name can't lock its owner out.
func TestWrongPasswordsHurtNobodyElse(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		d := newDoor(authn.LimitOptions{Delay: -1})
		d.want(t, home, "bob", "hidden", nil) // and is remembered
		for i := range 20 {
			_, _ = d.knock(t, home, "alice", fmt.Sprint("wrong", i))
			_, _ = d.knock(t, home, "bob", fmt.Sprint("wrong", i))
		}
		d.want(t, home, "alice", "secret", oci.TooManyRequests)
		d.want(t, office, "alice", "secret", nil)
		d.want(t, office, "bob", "hidden", nil)
		d.want(t, home, "bob", "hidden", nil)
		d.want(t, home, "alice", "secret", nil) // from now on it's remembered
		d.want(t, home, "carol", "wrong", authn.ErrRefused)
	})
}

func TestTooManyWrongPasswordsFromOneAddress(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		d := newDoor(authn.LimitOptions{Delay: -1})
		for i := range 100 {
			d.want(t, home, fmt.Sprint("user", i), "wrong", authn.ErrRefused)
		}
		_, err := d.knock(t, home, "alice", "secret")
		if got := retryAfter(err); got != 1 {
			t.Errorf("retry after %d s, %v", got, err)
		}
		d.want(t, office, "alice", "secret", nil)
		time.Sleep(time.Second)
		d.want(t, home, "bob", "hidden", nil)
		d.want(t, home, "nobody", "wrong", authn.ErrRefused)
		d.want(t, home, "nobody", "wrong2", oci.TooManyRequests)
	})
}

// A robot with an old password learns that it's to slow down, too.
func TestTheSameWrongPasswordCounts(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		d := newDoor(authn.LimitOptions{Delay: -1, PerUser: authn.Rate{Burst: 3, Every: time.Minute}})
		for range 5 {
			d.want(t, home, "alice", "old", authn.ErrRefused) // remembered, so it costs nothing
		}
		if d.times() != 1 {
			t.Errorf("the source was asked %q", d.asked)
		}
		d.want(t, home, "alice", "other", oci.TooManyRequests)
	})
}

func TestOneCustomerIsOneAddress(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		for first, others := range map[string]map[string]error{
			"[2001:db8:1:2::1]:1": {
				"[2001:db8:1:2:ffff::1]:2":   oci.TooManyRequests,
				"[2001:db8:1:2::1%eth0]:2":   oci.TooManyRequests,
				"[2001:db8:1:3::1]:1":        authn.ErrRefused,
				"[::ffff:192.0.2.1]:1":       authn.ErrRefused,
				"nowhere":                    authn.ErrRefused,
				"[2001:db8:1:2::ffff:1]:999": oci.TooManyRequests,
			},
			"192.0.2.1:1": {"192.0.2.1:2": oci.TooManyRequests, "[::ffff:192.0.2.1]:3": oci.TooManyRequests, "192.0.2.2:1": authn.ErrRefused},
			"nowhere":     {"": oci.TooManyRequests, "192.0.2.1:1": authn.ErrRefused},
		} {
			for other, want := range others {
				d := newDoor(authn.LimitOptions{Delay: -1, PerUser: authn.Rate{Burst: 1, Every: time.Hour}})
				d.want(t, first, "alice", "wrong", authn.ErrRefused)
				d.want(t, other, "alice", "wrong2", want)
			}
		}
	})
}

func TestWhereARequestCameFromCanBeSaid(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		d := newDoor(authn.LimitOptions{
			Delay: -1, PerUser: authn.Rate{Burst: 1, Every: time.Hour},
			Client: func(*http.Request) netip.Addr { return netip.MustParseAddr("203.0.113.1") },
		})
		d.want(t, home, "alice", "wrong", authn.ErrRefused)
		d.want(t, office, "alice", "secret", oci.TooManyRequests)
	})
}

// A thousand guesses at once are a thousand.
func TestGuessesAtOnce(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		d := newDoor(authn.LimitOptions{Delay: -1, PerUser: authn.Rate{Burst: 5, Every: time.Hour}})
		d.hold = make(chan struct{})
		errs := make([]error, 100)
		var all sync.WaitGroup
		for i := range errs {
			all.Go(func() { _, errs[i] = d.knock(t, home, "alice", fmt.Sprint("wrong", i)) })
		}
		synctest.Wait()
		close(d.hold)
		all.Wait()
		refused := 0
		for _, err := range errs {
			if errors.Is(err, authn.ErrRefused) {
				refused++
			} else if retryAfter(err) == 0 {
				t.Error(err)
			}
		}
		if refused != 5 || d.times() != 5 {
			t.Errorf("%d were refused, the source was asked %d times; want 5", refused, d.times())
		}
	})
}

// After a restart all come at once, with passwords that are right and not remembered.
func TestManyUsersAtOnce(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		d := newDoor(authn.LimitOptions{PerUser: authn.Rate{Burst: 1, Every: time.Hour}, PerAddress: authn.Rate{Burst: 3, Every: time.Hour}})
		d.hold = make(chan struct{})
		for i := range 50 {
			d.set(fmt.Sprint("user", i), "secret")
		}
		var all sync.WaitGroup
		for i := range 100 {
			all.Go(func() { d.want(t, home, fmt.Sprint("user", i/2), "secret", nil) })
		}
		synctest.Wait()
		if d.times() != 3 {
			t.Errorf("%d guesses go on at once, want 3", d.times())
		}
		close(d.hold)
		all.Wait()
		if d.times() != 50 {
			t.Errorf("the source was asked %d times, want 50", d.times())
		}
	})
}

func TestWhoWaitsForOthersGivesUp(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		d := newDoor(authn.LimitOptions{PerAddress: authn.Rate{Burst: 1, Every: time.Hour}})
		d.hold = make(chan struct{})
		var all sync.WaitGroup
		all.Go(func() { d.want(t, home, "alice", "secret", nil) })
		synctest.Wait()
		ctx, giveUp := context.WithTimeout(t.Context(), time.Second)
		defer giveUp()
		r := request(t, basic("bob", "hidden")).WithContext(ctx)
		r.RemoteAddr = home
		if _, _, err := d.Identify(r); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		close(d.hold)
		all.Wait()
		d.want(t, home, "bob", "hidden", nil)
	})
}

// Users of one source are no strangers to whom another one says no.
func TestLimitsAroundAChain(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		first, second := knows("alice", "secret"), knows("bob", "hidden")
		key := keyOnly(basic("bob", "key"))
		l := authn.NewLimits(authn.LimitOptions{PerUser: authn.Rate{Burst: 2, Every: time.Hour}})
		m := l.Around(authn.Chain{
			authn.Basic{Source: authn.NewVerified(first, authn.VerifiedOptions{})},
			authn.Basic{Source: authn.NewVerified(second, authn.VerifiedOptions{})},
			key,
		})
		began := time.Now()
		for range 10 {
			if who, _, err := m.Identify(request(t, basic("bob", "hidden"))); who.ID != "bob" || err != nil {
				t.Fatalf("%q, %v", who.ID, err)
			}
		}
		if took := time.Since(began); took != 0 || first.times() != 1 {
			t.Errorf("after %s, the first was asked %q", took, first.asked)
		}
		for i := range 3 {
			_, _, _ = m.Identify(request(t, basic("bob", fmt.Sprint("wrong", i))))
		}
		if _, _, err := m.Identify(request(t, basic("bob", "new"))); retryAfter(err) == 0 {
			t.Errorf("bob may try on: %v", err)
		}
		// A key is nothing that anybody guesses.
		if who, _, err := m.Identify(request(t, basic("bob", "key"))); who.ID != "bob's key" || err != nil {
			t.Errorf("a key is %q, %v", who.ID, err)
		}
	})
}

// keyOnly is a Method that knows one header Authorization, and no other one.
type keyOnly string

func (k keyOnly) Identify(r *http.Request) (authz.Identity, bool, error) {
	if r.Header.Get("Authorization") != string(k) {
		return authz.Identity{}, false, nil
	}
	return authz.Identity{ID: "bob's key"}, true, nil
}

// Without passwords there's nothing to guess.
func TestOtherCredentialsHaveNoLimits(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		m := &method{found: true, err: authn.ErrRefused, challenge: "Bearer realm=x"}
		around := authn.NewLimits(authn.LimitOptions{PerAddress: authn.Rate{Burst: 1, Every: time.Hour}}).Around(m)
		for range 10 {
			for _, header := range []string{"Bearer expired", basic("alice", "ork_revoked")} {
				if _, found, err := around.Identify(request(t, header)); !found || !errors.Is(err, authn.ErrRefused) {
					t.Errorf("%t, %v", found, err)
				}
			}
		}
		if got := around.(authn.Challenger).Challenge(request(t)); got != "Bearer realm=x" {
			t.Errorf("the challenge is %q", got)
		}
	})
}

// Names and addresses are what anybody can make up.
func TestCountingTakesLittleMemory(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		d := newDoor(authn.LimitOptions{Delay: -1, Max: 2, PerUser: authn.Rate{Burst: 1, Every: time.Hour}})
		for _, user := range []string{"a", "b", "c"} { // a makes room
			d.want(t, home, user, "wrong", authn.ErrRefused)
		}
		d.want(t, home, "c", "wrong2", oci.TooManyRequests)
		for i := range 5 { // who is right takes no room
			d.set(fmt.Sprint("user", i), "secret")
			d.want(t, home, fmt.Sprint("user", i), "secret", nil)
		}
		d.want(t, home, "c", "wrong2", oci.TooManyRequests)
		d.want(t, home, "a", "wrong2", authn.ErrRefused)
	})
}

// The one who waits learns that what it waits for has made room for others.
func TestWhatMakesRoomKeepsNobodyWaiting(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		d := newDoor(authn.LimitOptions{Delay: -1, Max: 1, PerUser: authn.Rate{Burst: 1, Every: time.Hour}})
		d.hold = make(chan struct{})
		var all sync.WaitGroup
		for _, guess := range [][2]string{{"alice", "wrong"}, {"alice", "secret"}, {"bob", "hidden"}} {
			all.Go(func() { _, _ = d.knock(t, home, guess[0], guess[1]) })
			synctest.Wait()
		}
		close(d.hold)
		all.Wait()
	})
}

func TestAPanicLeavesNothingOpen(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		d := newDoor(authn.LimitOptions{PerUser: authn.Rate{Burst: 1, Every: time.Hour}})
		d.panics = true
		func() {
			defer func() { _ = recover() }()
			_, _ = d.knock(t, home, "alice", "secret")
		}()
		d.panics = false
		d.want(t, home, "alice", "secret", nil)
	})
}

func TestTryWithoutHTTP(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		v := authn.NewVerified(knows("alice", "secret"), authn.VerifiedOptions{})
		l := authn.NewLimits(authn.LimitOptions{PerUser: authn.Rate{Burst: 1, Every: time.Hour}})
		try := func(password string) error {
			return l.Try(t.Context(), netip.MustParseAddr("192.0.2.1"), func(ctx context.Context) error {
				_, err := v.Authenticate(ctx, "alice", password)
				return err
			})
		}
		for _, c := range []struct {
			password string
			want     error
		}{{"secret", nil}, {"wrong", authn.ErrRefused}, {"wrong2", oci.TooManyRequests}, {"secret", nil}} {
			if err := try(c.password); !errors.Is(err, c.want) {
				t.Errorf("%s: %v, want %v", c.password, err, c.want)
			}
		}
	})
}

func TestRates(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		alice, bob, nobody := authz.Identity{ID: "alice", Provider: "x"}, authz.Identity{ID: "bob", Provider: "x"}, authz.Identity{}
		one, two := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
		twice := authn.Rate{Burst: 2, Every: 10 * time.Second}
		for name, c := range map[string]struct {
			opts    authn.RateOptions
			first   authz.Identity
			then    authz.Identity
			from    netip.Addr
			granted bool
		}{
			"no limits":                        {authn.RateOptions{}, alice, alice, one, true},
			"one user":                         {authn.RateOptions{PerIdentity: twice}, alice, alice, two, false},
			"another user":                     {authn.RateOptions{PerIdentity: twice}, alice, bob, one, true},
			"another source's user":            {authn.RateOptions{PerIdentity: twice}, alice, authz.Identity{ID: "alice", Provider: "y"}, one, true},
			"nobody is no user":                {authn.RateOptions{PerIdentity: twice}, nobody, nobody, one, true},
			"one address":                      {authn.RateOptions{PerAddress: twice}, nobody, nobody, one, false},
			"one address, others":              {authn.RateOptions{PerAddress: twice}, alice, bob, one, false},
			"another address":                  {authn.RateOptions{PerAddress: twice}, alice, alice, two, true},
			"both":                             {authn.RateOptions{PerIdentity: twice, PerAddress: authn.Rate{Burst: 9, Every: time.Second}}, alice, alice, two, false},
			"the one that is longest quiet":    {authn.RateOptions{PerIdentity: authn.Rate{Burst: 1, Every: time.Hour}, Max: 1}, alice, bob, one, true},
			"without a burst there'd be none":  {authn.RateOptions{PerIdentity: authn.Rate{Every: time.Hour}}, alice, bob, one, true},
			"but not twice, without one":       {authn.RateOptions{PerIdentity: authn.Rate{Every: time.Hour}}, alice, alice, one, false},
			"without a time there is no limit": {authn.RateOptions{PerIdentity: authn.Rate{Burst: 1}}, alice, alice, one, true},
		} {
			r := authn.NewRates(c.opts)
			for range 2 {
				_ = r.Allow(c.first, one)
			}
			if err := r.Allow(c.then, c.from); (err == nil) != c.granted || !c.granted && retryAfter(err) == 0 {
				t.Errorf("%s: %v, granted: want %t", name, err, c.granted)
			}
		}
	})
}

func TestRatesComeBack(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := authn.NewRates(authn.RateOptions{
			PerIdentity: authn.Rate{Burst: 2, Every: 10 * time.Second},
			PerAddress:  authn.Rate{Burst: 3, Every: 2 * time.Second},
		})
		alice, bob, from := authz.Identity{ID: "alice"}, authz.Identity{ID: "bob"}, netip.MustParseAddr("192.0.2.1")
		for range 2 {
			if err := r.Allow(alice, from); err != nil {
				t.Fatal(err)
			}
		}
		for range 5 { // refused, so they don't count
			if got := retryAfter(r.Allow(alice, from)); got != 10 {
				t.Fatalf("retry after %d s, want 10", got)
			}
		}
		if err := r.Allow(bob, from); err != nil {
			t.Errorf("the third from one address: %v", err)
		}
		if got := retryAfter(r.Allow(bob, from)); got != 2 {
			t.Errorf("retry after %d s, want 2", got)
		}
		time.Sleep(10 * time.Second)
		if err := r.Allow(alice, from); err != nil {
			t.Errorf("after 10 s: %v", err)
		}
		r = authn.NewRates(authn.RateOptions{PerIdentity: authn.Rate{Every: time.Hour}})
		for range 3 {
			if err := r.Allow(alice, from); err != nil {
				t.Errorf("after an hour: %v", err)
			}
			time.Sleep(time.Hour)
		}
	})
}
