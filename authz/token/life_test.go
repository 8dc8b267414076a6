package token_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-oci/oci-registry/authz"
	"github.com/caddy-oci/oci-registry/authz/authn"
	"github.com/caddy-oci/oci-registry/authz/keep"
	"github.com/caddy-oci/oci-registry/authz/token"
)

func TestLife(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, token.Options{})
		raw, cold := w.token("alice:secret"), w.token("alice:secret")
		for range 299 {
			w.accepted(w.s, raw)
			time.Sleep(time.Second)
		}
		w.accepted(w.replica(), raw)
		time.Sleep(time.Second)
		w.refused(w.s, raw)
		w.refused(w.s, cold)
	})
}

// TestStanding: a token ends with the account within 5 seconds, and has the groups of
// now. That nobody can say ends nothing.
func TestStanding(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, token.Options{})
		replica := w.replica()
		raw, nobodys := w.token("alice:secret"), w.token("", "repository:public:pull")
		w.accepted(w.s, raw)
		w.accepted(replica, raw)
		w.people.set(func(p *people) { p.groups["alice"] = []string{"ops"} })
		time.Sleep(2 * time.Second)
		if who := w.accepted(replica, raw); !slices.Equal(who.Groups, []string{"ops"}) {
			t.Errorf("the groups are %v", who.Groups)
		}
		w.people.set(func(p *people) { p.down = true })
		time.Sleep(2 * time.Second)
		if who := w.accepted(replica, raw); !slices.Equal(who.Groups, []string{"ops"}) {
			t.Errorf("the groups are %v", who.Groups)
		}
		w.people.set(func(p *people) { p.down = false; delete(p.passwords, "alice") })
		time.Sleep(30 * time.Second)
		w.refused(w.s, raw)
		w.refused(replica, raw)
		w.accepted(w.s, nobodys)
	})
}

// TestAnotherPassword: a token ends with the password that it was got with, but for that
// of an API key.
func TestAnotherPassword(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, token.Options{})
		raw := w.token("alice:secret")
		w.people.set(func(p *people) { p.claims["alice"] = map[string]any{token.APIKey: "k"} })
		key := w.token("alice:secret")
		w.accepted(w.s, raw)
		w.people.set(func(p *people) { p.generation["alice"] = "2" })
		time.Sleep(2 * time.Second)
		w.refused(w.s, raw)
		w.accepted(w.s, key)
	})
}

// TestStandingIsRarelyAsked: once in two seconds, however many ask.
func TestStandingIsRarelyAsked(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var asked atomic.Int32
		w := newWorld(t, token.Options{Standing: func(_ context.Context, who authz.Identity) (authz.Identity, error) {
			asked.Add(1)
			time.Sleep(100 * time.Millisecond)
			return who, nil
		}})
		raw := w.token("alice:secret")
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				for range 100 {
					w.accepted(w.s, raw)
					time.Sleep(50 * time.Millisecond)
				}
			})
		}
		all.Wait()
		if n := asked.Load(); n < 2 || n > 4 {
			t.Errorf("asked %d times in 5 seconds", n)
		}
	})
}

// counted are people, and how often they were asked about.
type counted struct {
	*people

	lookups, generations atomic.Int32
}

func (c *counted) Lookup(ctx context.Context, user string) (authz.Identity, error) {
	c.lookups.Add(1)
	time.Sleep(10 * time.Millisecond)
	return c.people.Lookup(ctx, user)
}

func (c *counted) Generation(ctx context.Context, user string) (string, error) {
	c.generations.Add(1)
	time.Sleep(10 * time.Millisecond)
	return c.people.Generation(ctx, user)
}

// TestDirectoryIsRarelyAsked: once in two seconds about a user, however many tokens there are.
func TestDirectoryIsRarelyAsked(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var c counted
		w := newWorld(t, token.Options{Directory: func(string) authn.Directory { return &c }})
		c.people = w.people
		raws := make([]string, 20)
		for i := range raws {
			raws[i] = w.token("alice:secret")
		}
		c.generations.Store(0)
		var all sync.WaitGroup
		for i, raw := range raws {
			all.Go(func() {
				time.Sleep(time.Duration(i/2) * 40 * time.Millisecond) // two at a time
				for range 50 {
					w.accepted(w.s, raw)
					time.Sleep(100 * time.Millisecond)
				}
			})
		}
		all.Wait()
		if l, g := c.lookups.Load(), c.generations.Load(); l < 2 || l > 4 || g < 2 || g > 4 {
			t.Errorf("looked up %d times, and asked about the password %d times, in 5 seconds", l, g)
		}
	})
}

// TestNewPasswordElsewhere: what's remembered from before the change refuses no token from
// after it.
func TestNewPasswordElsewhere(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, token.Options{})
		replica := w.replica()
		w.accepted(replica, w.token("alice:secret"))
		w.people.set(func(p *people) { p.generation["alice"] = "2" })
		w.accepted(replica, w.token("alice:secret"))
	})
}

// TestStandingTakesLong: nobody waits longer than they like, and a source that can't say
// is left alone for half a minute.
func TestStandingTakesLong(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var asked atomic.Int32
		w := newWorld(t, token.Options{Standing: func(ctx context.Context, _ authz.Identity) (authz.Identity, error) {
			asked.Add(1)
			<-ctx.Done()
			return authz.Identity{}, ctx.Err()
		}})
		raw := w.token("alice:secret")
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		begin := time.Now()
		r := w.request("GET", "/v2/", "", "Authorization", "Bearer "+raw).WithContext(ctx)
		if who, found, err := w.s.Identify(r); !found || !errors.Is(err, context.DeadlineExceeded) || !who.IsAnonymous() {
			t.Errorf("%+v, %t, %v", who, found, err)
		}
		if d := time.Since(begin); d != time.Second {
			t.Errorf("it took %v", d)
		}
		time.Sleep(10 * time.Second)
		begin = time.Now()
		for range 10 {
			w.accepted(w.s, raw)
		}
		if d := time.Since(begin); d != 0 || asked.Load() != 1 {
			t.Errorf("it took %v, and %d were asked", d, asked.Load())
		}
		time.Sleep(30 * time.Second)
		w.accepted(w.s, raw)
		if asked.Load() != 2 {
			t.Errorf("asked %d times", asked.Load())
		}
	})
}

// slowStore takes until its context ends, once it's slow.
type slowStore struct {
	keep.Store

	slow atomic.Bool
}

func (s *slowStore) Load(ctx context.Context, key string) ([]byte, string, error) {
	if s.slow.Load() {
		<-ctx.Done()
		return nil, "", ctx.Err()
	}
	return s.Store.Load(ctx, key)
}

// TestKeysTakeLong: nobody waits for them longer than they like.
func TestKeysTakeLong(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := &slowStore{Store: new(keep.Memory)}
		w := newWorld(t, token.Options{State: store})
		raw := w.token("alice:secret")
		w.accepted(w.s, raw)
		time.Sleep(time.Minute)
		store.slow.Store(true)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		begin := time.Now()
		r := w.request("GET", "/v2/", "", "Authorization", "Bearer "+raw).WithContext(ctx)
		if _, _, err := w.s.Identify(r); !errors.Is(err, context.DeadlineExceeded) || time.Since(begin) != time.Second {
			t.Errorf("%v after %v", err, time.Since(begin))
		}
		time.Sleep(10 * time.Second)
		begin = time.Now()
		if w.accepted(w.s, raw); time.Since(begin) != 0 {
			t.Errorf("it took %v", time.Since(begin))
		}
	})
}

// TestOneKey: replicas that begin at once have one key.
func TestOneKey(t *testing.T) {
	t.Parallel()
	for range 20 {
		w := newWorld(t, token.Options{})
		replicas := make([]*token.Service, 8)
		raws := make([]string, len(replicas))
		var all sync.WaitGroup
		for i := range replicas {
			replicas[i] = w.replica()
			all.Go(func() { raws[i] = w.get(replicas[i], "alice:secret").Token })
		}
		all.Wait()
		if f := w.forger(); len(f.Keys) != 1 {
			t.Fatalf("%d keys", len(f.Keys))
		}
		for _, s := range replicas {
			for _, raw := range raws {
				w.accepted(s, raw)
			}
		}
	}
}

// TestRotationUnderLoad: no token is ever refused that is good, on replicas that look
// at the keys at different times, and old keys go.
func TestRotationUnderLoad(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, token.Options{RotateEvery: 4 * time.Hour, RefreshLife: 8 * time.Hour})
		replicas := []*token.Service{w.s, w.replica(), w.replica()}
		end := time.Now().Add(20 * time.Hour)
		keys := make(map[string]bool)
		most := 0
		var all sync.WaitGroup
		for i, s := range replicas {
			all.Go(func() {
				for time.Now().Before(end) {
					raw := w.get(s, "alice:secret", "repository:alice:pull").Token
					for _, other := range replicas {
						w.accepted(other, raw)
					}
					time.Sleep(time.Duration(211+29*i) * time.Second)
					w.accepted(replicas[(i+1)%len(replicas)], raw)
				}
			})
		}
		all.Go(func() {
			for time.Now().Before(end) {
				time.Sleep(30 * time.Minute)
				f := w.forger()
				most = max(most, len(f.Keys))
				for _, k := range f.Keys {
					keys[k.ID] = true
				}
			}
		})
		all.Wait()
		if len(keys) < 5 || len(keys) > 7 || most > 5 {
			t.Errorf("%d keys in 20 hours, %d at one time", len(keys), most)
		}
	})
}

// lead is how long a new key waits.
const lead = time.Hour

// TestNewKeyWaits: a key is known everywhere before it signs.
func TestNewKeyWaits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, token.Options{})
		first, _, _ := cut(w.token("alice:secret"))
		time.Sleep(30*24*time.Hour - 30*time.Minute)
		before, _, _ := cut(w.token("alice:secret"))
		if f := w.forger(); before != first || len(f.Keys) != 2 {
			t.Fatalf("half an hour before it's time there are %d keys, and the one that signs is new: %t", len(f.Keys), before != first)
		}
		time.Sleep(lead + time.Minute)
		after, _, _ := cut(w.token("alice:secret"))
		if after == first {
			t.Fatal("the old key signs on")
		}
	})
}

// TestAfterALongPause: nobody was there to make a key in time.
func TestAfterALongPause(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, token.Options{})
		first, _, _ := cut(w.token("alice:secret"))
		time.Sleep(300 * 24 * time.Hour)
		raw := w.token("alice:secret")
		if head, _, _ := cut(raw); head != first {
			t.Error("a key signs that other replicas needn't know yet")
		}
		w.accepted(w.replica(), raw)
		time.Sleep(time.Hour)
		if head, _, _ := cut(w.token("alice:secret")); head == first {
			t.Error("the old key signs on")
		}
	})
}

func TestReplaceKeys(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, token.Options{})
		replica := w.replica()
		raw := w.token("alice:secret")
		w.accepted(w.s, raw)
		w.accepted(replica, raw)
		if err := w.s.ReplaceKeys(t.Context()); err != nil {
			t.Fatal(err)
		}
		w.refused(w.s, raw)
		now := w.token("alice:secret")
		w.accepted(w.s, now)
		time.Sleep(10 * time.Second) // as soon as it may ask again for a key that it doesn't know
		w.accepted(replica, now)
		w.refused(replica, raw)
	})
}

// lateStore is late with what it has loaded, once hold isn't nil: until that is closed.
type lateStore struct {
	keep.Store

	hold atomic.Pointer[chan struct{}]
}

func (s *lateStore) Load(ctx context.Context, key string) ([]byte, string, error) {
	value, version, err := s.Store.Load(ctx, key)
	if hold := s.hold.Load(); hold != nil {
		<-*hold
	}
	return value, version, err
}

// TestReplaceKeysWhileTheyAreLoaded: who has looked before doesn't bring the old ones back.
func TestReplaceKeysWhileTheyAreLoaded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := &lateStore{Store: new(keep.Memory)}
		w := newWorld(t, token.Options{State: store})
		raw := w.token("alice:secret")
		w.accepted(w.s, raw)
		time.Sleep(time.Minute)
		hold := make(chan struct{})
		store.hold.Store(&hold)
		var all sync.WaitGroup
		all.Go(func() { _, _, _ = w.s.Identify(w.request("GET", "/v2/", "", "Authorization", "Bearer "+raw)) })
		synctest.Wait()
		store.hold.Store(nil)
		all.Go(func() {
			if err := w.s.ReplaceKeys(t.Context()); err != nil {
				t.Error(err)
			}
		})
		synctest.Wait()
		close(hold)
		all.Wait()
		w.refused(w.s, raw)
		w.accepted(w.s, w.token("alice:secret"))
	})
}

// guarded is a State that can be out of order, and counts.
type guarded struct {
	keep.Store

	down  atomic.Bool
	loads atomic.Int32
}

func (g *guarded) Load(ctx context.Context, key string) ([]byte, string, error) {
	g.loads.Add(1)
	if g.down.Load() {
		return nil, "", errDown
	}
	return g.Store.Load(ctx, key)
}

func (g *guarded) Save(ctx context.Context, key string, value []byte, version string) (string, error) {
	if g.down.Load() {
		return "", errDown
	}
	return g.Store.Save(ctx, key, value, version)
}

// TestStateDown: who has the keys goes on; who hasn't doesn't know, and makes none.
func TestStateDown(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		state := &guarded{Store: new(keep.Memory)}
		w := newWorld(t, token.Options{State: state})
		raw := w.token("alice:secret")
		state.down.Store(true)
		time.Sleep(2 * time.Minute)
		w.accepted(w.s, raw)
		w.token("alice:secret")
		cold := w.replica()
		if a := w.get(cold, "alice:secret"); a.status != 503 {
			t.Errorf("%d %s", a.status, a.body)
		}
		_, found, err := cold.Identify(w.request("GET", "/v2/", "", "Authorization", "Bearer "+raw))
		if !found || !errors.Is(err, errDown) {
			t.Errorf("%t, %v", found, err)
		}
		state.down.Store(false)
		w.accepted(cold, raw)
	})
}

// TestUnknownKeysAreNoFlood: tokens with keys that aren't known load nothing each time.
func TestUnknownKeysAreNoFlood(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		state := &guarded{Store: new(keep.Memory)}
		w := newWorld(t, token.Options{State: state})
		w.token("alice:secret")
		f := w.forger()
		state.loads.Store(0)
		for range 1000 {
			w.refused(w.s, sign(f.key(), `{"alg":"EdDSA","kid":"UNKNOWN1","typ":"at+jwt"}`, f.claims(nil)))
			time.Sleep(10 * time.Millisecond)
		}
		if n := state.loads.Load(); n > 6 { // every three seconds, and every five for unknown ones
			t.Errorf("loaded %d times in 10 seconds", n)
		}
	})
}
