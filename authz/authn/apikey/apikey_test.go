package apikey_test

import (
	"context"
	"errors"
	"io/fs"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-oci/oci-registry/authz"
	"github.com/caddy-oci/oci-registry/authz/authn"
	"github.com/caddy-oci/oci-registry/authz/authn/apikey"
	"github.com/caddy-oci/oci-registry/authz/keep"
	"github.com/caddy-oci/oci-registry/oci"
)

var errDown = errors.New("the source doesn't answer")

// directory is a source of accounts.
type directory struct {
	mu     sync.Mutex
	groups map[string][]string // by user
	down   bool
	asked  int
}

func (d *directory) Lookup(_ context.Context, user string) (authz.Identity, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.asked++
	groups, ok := d.groups[user]
	switch {
	case d.down:
		return authz.Identity{}, errDown
	case !ok:
		return authz.Identity{}, authn.ErrRefused
	}
	return authz.Identity{ID: user, Provider: "file", Groups: groups}, nil
}

func (d *directory) set(change func(d *directory)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	change(d)
}

// world is some keys, and all that's around them.
type world struct {
	*testing.T

	state  keep.Store
	people *directory
	keys   *apikey.Keys
	opts   apikey.Options

	mu     sync.Mutex
	events []apikey.Event
}

func newWorld(t *testing.T, opts apikey.Options) *world {
	t.Helper()
	w := &world{T: t, state: new(keep.Memory), opts: opts}
	w.people = &directory{groups: map[string][]string{"alice": {"dev"}, "bob": nil}}
	if opts.State != nil {
		w.state = opts.State
	}
	w.opts.State = w.state
	w.opts.Directory = func(provider string) authn.Directory {
		if provider == "file" {
			return w.people
		}
		return nil
	}
	w.opts.Observe = func(_ context.Context, e apikey.Event) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.events = append(w.events, e)
	}
	w.keys = w.replica()
	return w
}

// replica is another process with the same state.
func (w *world) replica() *apikey.Keys {
	w.Helper()
	keys, err := apikey.New(w.opts)
	if err != nil {
		w.Fatal(err)
	}
	return keys
}

func alice() authz.Identity {
	return authz.Identity{ID: "alice", Provider: "file", Groups: []string{"dev"}}
}

func (w *world) create(by authz.Identity, want apikey.Wanted) (string, apikey.Key) {
	w.Helper()
	secret, key, err := w.keys.Create(w.Context(), by, want)
	if err != nil {
		w.Fatal(err)
	}
	return secret, key
}

func (w *world) accepted(keys *apikey.Keys, user, secret string) authz.Identity {
	w.Helper()
	who, err := keys.Authenticate(w.Context(), user, secret)
	if err != nil {
		w.Fatalf("%s isn't let in: %v", user, err)
	}
	return who
}

func (w *world) refused(keys *apikey.Keys, user, secret string) {
	w.Helper()
	who, err := keys.Authenticate(w.Context(), user, secret)
	if !errors.Is(err, authn.ErrRefused) || !who.IsAnonymous() {
		w.Fatalf("%s is %+v, %v; want ErrRefused", user, who, err)
	}
	if secret != "" && strings.Contains(err.Error(), secret) {
		w.Fatalf("the error tells the key: %v", err)
	}
}

// happened returns the kinds of events since it was last asked.
func (w *world) happened() []apikey.EventKind {
	w.mu.Lock()
	defer w.mu.Unlock()
	var kinds []apikey.EventKind
	for _, e := range w.events {
		kinds = append(kinds, e.Kind)
	}
	w.events = nil
	return kinds
}

func TestKeySignsItsOwnerIn(t *testing.T) {
	t.Parallel()
	w := newWorld(t, apikey.Options{})
	secret, key := w.create(alice(), apikey.Wanted{Label: "ci"})
	if !strings.HasPrefix(secret, "ork_") || len(secret) != 68 || strings.ToLower(secret) != secret {
		t.Errorf("the key is %q", secret)
	}
	who := w.accepted(w.keys, "alice", secret)
	if who.ID != "alice" || who.Provider != "file" || !slices.Equal(who.Groups, []string{"dev"}) || who.Claims["api_key"] != string(key.ID) {
		t.Errorf("it's %+v", who)
	}
	if len(who.Limit) != 1 || who.Limit[0].Repositories != "**" || len(who.Limit[0].Actions) != 5 {
		t.Errorf("a key without scopes allows %+v", who.Limit)
	}
	w.accepted(w.replica(), "alice", secret)
	r, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
	for header, want := range map[string]bool{"Bearer " + secret: true, "bearer  " + secret: true, "Bearer x.y.z": false, "Basic x": false, "": false} {
		r.Header.Set("Authorization", header)
		who, found, err := apikey.Bearer{Keys: w.keys}.Identify(r)
		if found != want || err != nil || want && who.ID != "alice" {
			t.Errorf("%.12q: %+v, %t, %v", header, who, found, err)
		}
	}
	r.Header.Set("Authorization", "Bearer ork_wrong")
	if _, found, err := (apikey.Bearer{Keys: w.keys}).Identify(r); !found || !errors.Is(err, authn.ErrRefused) {
		t.Errorf("a wrong key: %t, %v", found, err)
	}
}

func TestWrongKeysAreRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t, apikey.Options{})
	secret, _ := w.create(alice(), apikey.Wanted{})
	other, _ := w.create(authz.Identity{ID: "bob", Provider: "file"}, apikey.Wanted{})
	for name, c := range map[string]struct{ user, secret string }{
		"no key":           {"alice", ""},
		"no user":          {"", secret},
		"another user":     {"bob", secret},
		"another's key":    {"alice", other},
		"cut short":        {"alice", secret[:len(secret)-1]},
		"longer":           {"alice", secret + "a"},
		"upper case":       {"alice", strings.ToUpper(secret)},
		"mistyped":         {"alice", secret[:30] + string(secret[30]^1) + secret[31:]},
		"another prefix":   {"alice", "orc_" + secret[4:]},
		"another checksum": {"alice", secret[:60] + other[60:]},
		"a path":           {"alice", "ork_" + strings.Repeat("../", 21) + "x"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := world{T: t}
			w.refused(newWorld(t, apikey.Options{State: w.state}).keys, c.user, c.secret)
		})
		w.refused(w.keys, c.user, c.secret)
	}
}

// TestKeySwap: the secret of one key doesn't fit another one, whatever its checksum says.
func TestKeySwap(t *testing.T) {
	t.Parallel()
	w := newWorld(t, apikey.Options{})
	victim, _ := w.create(authz.Identity{ID: "bob", Provider: "file"}, apikey.Wanted{})
	own, _ := w.create(alice(), apikey.Wanted{})
	forged := apikey.Forge(victim, own)
	w.refused(w.keys, "bob", forged)
	w.accepted(w.keys, "bob", victim)
}

// TestNothingSecretIsKept: who reads the state can't sign in.
func TestNothingSecretIsKept(t *testing.T) {
	t.Parallel()
	w := newWorld(t, apikey.Options{})
	secret, key := w.create(alice(), apikey.Wanted{Label: "x"})
	n := 0
	for at, err := range w.state.List(t.Context(), "") {
		data, _, lerr := w.state.Load(t.Context(), at)
		if err != nil || lerr != nil {
			t.Fatal(err, lerr)
		}
		n++
		if strings.Contains(string(data), secret) || strings.Contains(string(data), secret[28:60]) {
			t.Errorf("%s has the key in it", at)
		}
	}
	if n != 1 {
		t.Errorf("%d records", n)
	}
	if strings.Contains(secret[28:], string(key.ID)) {
		t.Error("the secret is the ID")
	}
	other, _ := w.create(alice(), apikey.Wanted{})
	if other[12:60] == secret[12:60] {
		t.Error("two keys are the same")
	}
}

func TestScopesLimit(t *testing.T) {
	t.Parallel()
	w := newWorld(t, apikey.Options{})
	scopes := []authz.Scope{
		{Repositories: "team/**", Actions: []authz.Action{authz.Pull, authz.Push}},
		{Repositories: "base/*", Actions: []authz.Action{authz.Pull}},
	}
	secret, _ := w.create(alice(), apikey.Wanted{Scopes: scopes})
	got := w.accepted(w.replica(), "alice", secret).Limit
	if len(got) != 2 || got[0].Repositories != "team/**" || !slices.Equal(got[0].Actions, scopes[0].Actions) || got[1].Repositories != "base/*" {
		t.Errorf("the limit is %+v", got)
	}
}

func TestWhatCannotBeCreated(t *testing.T) {
	t.Parallel()
	w := newWorld(t, apikey.Options{MaxLife: 24 * time.Hour, MaxKeys: 2})
	pull := []authz.Action{authz.Pull}
	for name, c := range map[string]struct {
		by   authz.Identity
		want apikey.Wanted
		code oci.Code
	}{
		"nobody":      {authz.Identity{}, apikey.Wanted{}, oci.Unauthorized},
		"by a token":  {authz.Identity{ID: "alice", Limit: []authz.Scope{}}, apikey.Wanted{}, oci.Denied},
		"too long":    {alice(), apikey.Wanted{Life: 25 * time.Hour}, oci.Unsupported},
		"too short":   {alice(), apikey.Wanted{Life: time.Second}, oci.Unsupported},
		"negative":    {alice(), apikey.Wanted{Life: -time.Hour}, oci.Unsupported},
		"label":       {alice(), apikey.Wanted{Label: strings.Repeat("x", 101)}, oci.Unsupported},
		"odd label":   {alice(), apikey.Wanted{Label: "a\x1b[31m"}, oci.Unsupported},
		"no actions":  {alice(), apikey.Wanted{Scopes: []authz.Scope{{Repositories: "a"}}}, oci.Unsupported},
		"no pattern":  {alice(), apikey.Wanted{Scopes: []authz.Scope{{Actions: pull}}}, oci.Unsupported},
		"odd pattern": {alice(), apikey.Wanted{Scopes: []authz.Scope{{Repositories: "a b", Actions: pull}}}, oci.Unsupported},
		"odd action":  {alice(), apikey.Wanted{Scopes: []authz.Scope{{Repositories: "a", Actions: []authz.Action{"admin"}}}}, oci.Unsupported},
		"many scopes": {alice(), apikey.Wanted{Scopes: slices.Repeat([]authz.Scope{{Repositories: "a", Actions: pull}}, 51)}, oci.Unsupported},
	} {
		secret, _, err := w.keys.Create(t.Context(), c.by, c.want)
		if !errors.Is(err, c.code) || secret != "" {
			t.Errorf("%s: %q, %v; want %s", name, secret, err, string(c.code))
		}
	}
	w.create(alice(), apikey.Wanted{})
	w.create(alice(), apikey.Wanted{})
	if _, _, err := w.keys.Create(t.Context(), alice(), apikey.Wanted{}); !errors.Is(err, oci.Denied) {
		t.Errorf("one too many: %v", err)
	}
}

// TestNoWiderKey: a key that was stolen isn't made into a better one.
func TestNoWiderKey(t *testing.T) {
	t.Parallel()
	w := newWorld(t, apikey.Options{})
	pull, push := []authz.Action{authz.Pull}, []authz.Action{authz.Push}
	scopes := []authz.Scope{{Repositories: "team/**", Actions: pull}, {Repositories: "own", Actions: push}, {Repositories: "x-*", Actions: pull}}
	secret, key := w.create(alice(), apikey.Wanted{Scopes: scopes, Life: 10 * time.Hour})
	by := w.accepted(w.keys, "alice", secret)
	for _, c := range []struct {
		repositories string
		actions      []authz.Action
		ok           bool
	}{
		{"team/**", pull, true},
		{"team", pull, true},
		{"team/a", pull, true},
		{"team/a/**", pull, true},
		{"team/a", []authz.Action{authz.Pull, authz.List}, true},
		{"own", push, true},
		{"x-*", pull, true},
		{"x-**", pull, false},
		{"x-1", pull, false}, // careful
		{"**", pull, false},
		{"*", pull, false},
		{"team*/**", pull, false},
		{"teams/a", pull, false},
		{"team/a", push, false},
		{"own", pull, false},
		{"own/a", push, false},
		{"team/a", []authz.Action{authz.Pull, authz.Delete}, false},
	} {
		want := apikey.Wanted{Scopes: []authz.Scope{{Repositories: c.repositories, Actions: c.actions}}, Life: time.Hour}
		_, child, err := w.keys.Create(t.Context(), by, want)
		if c.ok && (err != nil || child.Parent != key.ID) || !c.ok && !errors.Is(err, oci.Denied) {
			t.Errorf("%s of %s: %+v, %v; want %t", c.actions, c.repositories, child, err, c.ok)
		}
	}
	for name, want := range map[string]apikey.Wanted{
		"longer":         {Scopes: scopes[:1], Life: 11 * time.Hour},
		"without limits": {Life: time.Hour},
	} {
		if _, _, err := w.keys.Create(t.Context(), by, want); !errors.Is(err, oci.Denied) {
			t.Errorf("%s: %v", name, err)
		}
	}
	by.Claims = map[string]any{"api_key": strings.Repeat("a", 24)}
	if _, _, err := w.keys.Create(t.Context(), by, apikey.Wanted{Scopes: scopes[:1], Life: time.Hour}); !errors.Is(err, oci.Unauthorized) {
		t.Errorf("by a key that isn't there: %v", err)
	}
}

func TestRevoke(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, apikey.Options{})
		replica := w.replica()
		parent, key := w.create(alice(), apikey.Wanted{})
		other, _ := w.create(alice(), apikey.Wanted{})
		child, _ := w.create(w.accepted(w.keys, "alice", parent), apikey.Wanted{Life: time.Hour})
		grandchild, _ := w.create(w.accepted(w.keys, "alice", child), apikey.Wanted{Life: time.Hour})
		for _, secret := range []string{parent, child, grandchild, other} {
			w.accepted(w.keys, "alice", secret)
			w.accepted(replica, "alice", secret)
		}
		w.happened()
		if err := w.keys.Revoke(t.Context(), alice(), key.ID); err != nil {
			t.Fatal(err)
		}
		if got := w.happened(); !slices.Equal(got, slices.Repeat([]apikey.EventKind{apikey.Revoked}, 3)) {
			t.Errorf("happened: %v", got)
		}
		for _, secret := range []string{parent, child, grandchild} {
			w.refused(w.keys, "alice", secret) // at once
		}
		time.Sleep(2 * time.Second)
		for _, secret := range []string{parent, child, grandchild} {
			w.refused(replica, "alice", secret)
		}
		w.accepted(w.keys, "alice", other)
		w.accepted(replica, "alice", other)
		if err := w.keys.Revoke(t.Context(), alice(), key.ID); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("revoke twice: %v", err)
		}
		if n, err := replica.RevokeAll(t.Context(), alice(), "file", "alice"); n != 1 || err != nil {
			t.Errorf("revoke all: %d, %v", n, err)
		}
		w.refused(replica, "alice", other)
	})
}

// TestReplayOfARevokedKey: a key in constant use is refused within 5 seconds everywhere.
func TestReplayOfARevokedKey(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, apikey.Options{})
		replica := w.replica()
		secret, key := w.create(alice(), apikey.Wanted{})
		stop := time.Now().Add(3 * time.Hour) // long enough for what's written down each hour
		var last time.Time
		var using sync.WaitGroup
		using.Go(func() {
			for time.Now().Before(stop.Add(time.Minute)) {
				if _, err := replica.Authenticate(t.Context(), "alice", secret); err == nil {
					last = time.Now()
				}
				time.Sleep(100 * time.Millisecond)
			}
		})
		time.Sleep(time.Until(stop))
		if err := w.keys.Revoke(t.Context(), alice(), key.ID); err != nil {
			t.Fatal(err)
		}
		using.Wait()
		if late := last.Sub(stop); late > 5*time.Second || late < -time.Second {
			t.Errorf("it was accepted last %v after it was revoked", late)
		}
	})
}

// meanwhile does something once, after the next value was saved.
type meanwhile struct {
	keep.Store

	do func()
}

func (m *meanwhile) Save(ctx context.Context, key string, value []byte, version string) (string, error) {
	now, err := m.Store.Save(ctx, key, value, version)
	if do := m.do; do != nil {
		m.do = nil
		do()
	}
	return now, err
}

// TestRevokedWhileItCreates: a key that's revoked leaves none behind, not even one that
// nobody could see when it was.
func TestRevokedWhileItCreates(t *testing.T) {
	t.Parallel()
	state := &meanwhile{Store: new(keep.Memory)}
	w := newWorld(t, apikey.Options{State: state})
	parent, key := w.create(alice(), apikey.Wanted{})
	by := w.accepted(w.keys, "alice", parent)
	state.do = func() {
		_, version, err := state.Load(t.Context(), "apikeys/"+string(key.ID[:8])+"/"+string(key.ID[8:]))
		if err == nil {
			err = state.Delete(t.Context(), "apikeys/"+string(key.ID[:8])+"/"+string(key.ID[8:]), version)
		}
		if err != nil {
			t.Error(err)
		}
	}
	if secret, _, err := w.keys.Create(t.Context(), by, apikey.Wanted{Life: time.Hour}); !errors.Is(err, oci.Unauthorized) || secret != "" {
		t.Errorf("%q, %v", secret, err)
	}
	if keys, err := w.keys.All(t.Context()); err != nil || len(keys) != 0 {
		t.Errorf("%v, %v", keys, err)
	}
}

func TestExpiry(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, apikey.Options{MaxLife: 48 * time.Hour})
		secret, key := w.create(alice(), apikey.Wanted{Life: 24 * time.Hour})
		_, longest := w.create(alice(), apikey.Wanted{})
		if d := longest.Expires.Sub(longest.Created); d != 48*time.Hour {
			t.Errorf("one that doesn't say is good for %v", d)
		}
		time.Sleep(time.Until(key.Expires) - time.Second)
		w.accepted(w.keys, "alice", secret)
		time.Sleep(time.Second)
		w.refused(w.keys, "alice", secret)
	})
}

// TestRotation: there are two keys while one takes the place of the other, and nobody
// is ever refused.
func TestRotation(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, apikey.Options{})
		replica := w.replica()
		var mu sync.Mutex
		secret, key := w.create(alice(), apikey.Wanted{})
		present := func() string {
			mu.Lock()
			defer mu.Unlock()
			return secret
		}
		end := time.Now().Add(10 * time.Minute)
		var using sync.WaitGroup
		for range 4 {
			using.Go(func() {
				for time.Now().Before(end) {
					if _, err := replica.Authenticate(t.Context(), "alice", present()); err != nil {
						t.Errorf("refused: %v", err)
						return
					}
					time.Sleep(50 * time.Millisecond)
				}
			})
		}
		for time.Now().Before(end) {
			next, nextKey := w.create(alice(), apikey.Wanted{})
			mu.Lock()
			secret = next
			mu.Unlock()
			time.Sleep(time.Second)
			if err := w.keys.Revoke(t.Context(), alice(), key.ID); err != nil {
				t.Fatal(err)
			}
			key = nextKey
			time.Sleep(time.Minute)
		}
		using.Wait()
	})
}

func TestLastUsed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		saves := &counting{Store: new(keep.Memory)}
		w := newWorld(t, apikey.Options{State: saves})
		secret, key := w.create(alice(), apikey.Wanted{})
		if !key.LastUsed.IsZero() {
			t.Errorf("used at %v", key.LastUsed)
		}
		saves.n = 0
		first := time.Now()
		for range 10 * 60 * 10 { // ten hours, every 6 seconds
			w.accepted(w.keys, "alice", secret)
			time.Sleep(6 * time.Second)
		}
		keys, err := w.keys.List(t.Context(), "file", "alice")
		if err != nil || len(keys) != 1 {
			t.Fatal(keys, err)
		}
		if used := keys[0].LastUsed; used.Before(first.Add(8*time.Hour)) || used.After(time.Now()) {
			t.Errorf("last used at %v of %v to %v", used, first, time.Now())
		}
		if saves.n > 11 {
			t.Errorf("written %d times in ten hours", saves.n)
		}
	})
}

// counting counts what is saved.
type counting struct {
	keep.Store

	n int
}

func (c *counting) Save(ctx context.Context, key string, value []byte, version string) (string, error) {
	c.n++
	return c.Store.Save(ctx, key, value, version)
}

// TestStateDown: that the state can't be asked is no refusal.
func TestStateDown(t *testing.T) {
	t.Parallel()
	w := newWorld(t, apikey.Options{})
	secret, _ := w.create(alice(), apikey.Wanted{})
	w.opts.State = broken{w.state}
	if _, err := w.replica().Authenticate(t.Context(), "alice", secret); !errors.Is(err, errDown) || errors.Is(err, authn.ErrRefused) {
		t.Errorf("%v", err)
	}
}

type broken struct{ keep.Store }

func (broken) Load(context.Context, string) ([]byte, string, error) { return nil, "", errDown }
